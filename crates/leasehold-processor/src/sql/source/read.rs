//! What a plan reads.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use leasehold_core::clock::{BootClock, Clock};
use leasehold_core::lease::Lease;
use sea_orm::{QueryResult, Value};

use super::super::SqlStore;
use super::super::rows::{Row, StoredId, get, list, number};
use super::super::scan::{Ordering, Plan, limit};
use crate::error::Error;

/// Of earlier ones of a key so many are looked at: more are not kept in memory.
const EARLIER: usize = 100_000;

/// What a plan brought.
#[derive(Default)]
pub(super) struct Brought {
    pub(super) rows: Vec<Row>,
    /// Instead of rows: which there are.
    pub(super) ids: Vec<StoredId>,
    /// What has to come before these rows, and the scan has passed it by.
    pub(super) earlier: Vec<StoredId>,
    /// See [`Scan::take`].
    pub(super) beyond: Option<i64>,
    /// Instead of rows: payloads.
    pub(super) bodies: HashMap<StoredId, Vec<u8>>,
    pub(super) took: Duration,
}

/// Reads what a plan asks for.
pub(super) async fn bring(
    store: SqlStore,
    lease: Lease,
    plan: Plan,
    passed: Passed,
) -> Result<Brought, Error> {
    let began = BootClock.now();
    let texts = store.texts;
    let most = number(limit(&plan));
    let keys =
        |keys: &[Arc<str>]| Value::from(serde_json::to_string(keys).unwrap_or_else(|_| "[]".to_owned()));
    let mut beyond = None;
    let rows = match &plan {
        Plan::Page { after, without } if without.is_empty() => {
            store.asked(&lease, "read", &texts.page, [store.value(), (*after).into(), most]).await?
        }
        Plan::Page { after, without } => {
            let highest = store.asked(&lease, "read", &texts.top, [store.value()]).await?;
            beyond = first(&store, &highest, "id")?;
            let values =
                [store.value(), (*after).into(), most, beyond.unwrap_or(*after).into(), keys(without)];
            store.asked(&lease, "read", &texts.page_without, values).await?
        }
        Plan::Key { key, from, to } => {
            let values = [store.value(), key.as_ref().into(), (*from).into(), (*to).into(), most];
            store.asked(&lease, "read a key", &texts.key_page, values).await?
        }
        Plan::Due { now, keyed } => {
            let values = [store.value(), (*now).into(), most, number(*keyed)];
            let rows = store.asked(&lease, "read what is due", &texts.due_page, values).await?;
            let values = [store.value(), (*now).into(), number(*keyed)];
            let next = store.asked(&lease, "read what is due next", &texts.next_due, values).await?;
            beyond = first(&store, &next, "due")?;
            rows
        }
        Plan::Late { after, to, without, now } => {
            let values = [store.value(), (*after).into(), (*to).into(), most, keys(without), (*now).into()];
            let rows = store.asked(&lease, "look for late commits", &texts.late, values).await?;
            let ids = rows.iter().map(|row| get(&store, row, "id")).collect::<Result<_, _>>()?;
            return Ok(Brought { ids, took: BootClock.now().since(began), ..Brought::default() });
        }
        Plan::Trim { keep } => {
            store.forget_parked(&lease, *keep).await?;
            Vec::new()
        }
        Plan::Bodies { ids } => {
            let values = [store.value(), list(ids.iter().copied())];
            let rows = store.asked(&lease, "read payloads", &texts.bodies, values).await?;
            let body = |row: &QueryResult| Ok((get(&store, row, "id")?, get(&store, row, "body")?));
            let bodies = rows.iter().map(body).collect::<Result<_, Error>>()?;
            return Ok(Brought { bodies, took: BootClock.now().since(began), ..Brought::default() });
        }
        Plan::These { ids } => {
            let values = [store.value(), list(ids.iter().copied())];
            store.asked(&lease, "read late commits", &texts.by_ids, values).await?
        }
    };
    let rows: Vec<Row> = rows.iter().map(|row| Row::read(&store, row)).collect::<Result<_, _>>()?;
    let earlier = earlier(&store, &lease, &plan, &rows, &passed).await?;
    Ok(Brought { rows, earlier, beyond, took: BootClock.now().since(began), ..Brought::default() })
}

/// What the scan had passed when a plan was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub(super) ordering: Ordering,
    /// What was committed late may be between these ids.
    pub(super) between: (StoredId, StoredId),
    /// What was committed before this moment of the database's clock was found by a look.
    pub(super) looked: i64,
}

/// What was committed before a row was appended comes before it, where there is an order, though the scan may have passed its
/// place by then. A row that is older than the last look needs no other one. What was appended in order may have waited for
/// the one before it, whenever that was.
async fn earlier(
    store: &SqlStore,
    lease: &Lease,
    plan: &Plan,
    rows: &[Row],
    passed: &Passed,
) -> Result<Vec<StoredId>, Error> {
    let Plan::Page { after, .. } = plan else { return Ok(Vec::new()) };
    let is_new = |row: &Row| row.appended >= passed.looked;
    let wall = lease.schedule_clock().now().timestamp_millis();
    let found = match passed.ordering {
        Ordering::None => return Ok(Vec::new()),
        Ordering::All if rows.iter().any(|row| is_new(row) || row.is_ordered) => {
            let (from, to) = passed.between;
            let values = [store.value(), from.into(), to.into(), number(EARLIER), "[]".into(), wall.into()];
            store.asked(lease, "look for earlier ones", &store.texts.late, values).await?
        }
        Ordering::All => return Ok(Vec::new()),
        Ordering::Keys => {
            let keys: BTreeSet<&str> = rows
                .iter()
                .filter(|row| row.is_ordered || is_new(row))
                .filter_map(|row| row.key.as_deref())
                .collect();
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let keys = serde_json::to_string(&keys).unwrap_or_else(|_| "[]".to_owned());
            let values = [store.value(), (*after).into(), number(EARLIER), wall.into(), keys.into()];
            store.asked(lease, "look for earlier ones of a key", &store.texts.earlier, values).await?
        }
    };
    found.iter().map(|row| get(store, row, "id")).collect()
}

/// A number that may be null, of the only row.
fn first(store: &SqlStore, rows: &[QueryResult], column: &'static str) -> Result<Option<i64>, Error> {
    let number = rows.first().map(|row| get::<Option<i64>>(store, row, column)).transpose()?;
    Ok(number.flatten())
}
