//! The judge: knows nothing of leasehold but what the replicas said and what stands in the database.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DbBackend, Statement};

use crate::journal::Entry;
use crate::replica::TASKS;

/// Makes the table that handlers write to.
pub(crate) async fn prepare(database: &str) -> Result<()> {
    let db = Database::connect(database).await?;
    db.execute_unprepared("drop table if exists failover_effect").await?;
    db.execute_unprepared(
        "create table failover_effect (task varchar(100) not null, slot bigint not null, node text not null,
         token bigint not null, repeats bigint not null default 0, primary key (task, slot))",
    )
    .await?;
    Ok(())
}

/// Whether the database can be written now.
pub(crate) async fn writable(database: &str) -> Result<bool> {
    let mut options = ConnectOptions::new(database);
    options.max_connections(1);
    let db = Database::connect(options).await?;
    if db.get_database_backend() != DbBackend::Sqlite {
        return Ok(true);
    }
    db.execute_unprepared("pragma busy_timeout = 100").await?;
    Ok(db.execute_unprepared("delete from failover_effect where false").await.is_ok())
}

/// Says what was found; whether every promise was kept.
pub(crate) async fn judge(database: &str, entries: &[Entry]) -> Result<bool> {
    let effects = effects(database).await?;
    let starts = starts(entries);
    let completed = completions(entries);
    let mut broken = Vec::new();

    for (name, period) in TASKS {
        let slots: Vec<i64> =
            effects.keys().filter(|(task, _)| task == name).map(|(_, slot)| *slot).collect();
        let period = i64::try_from(period.as_millis())?;
        if slots.is_empty() {
            broken.push(format!("{name} never fired"));
        }
        for pair in slots.windows(2).filter(|pair| pair[1] - pair[0] != period) {
            broken.push(format!("{name} lost a slot between {} and {}", pair[0], pair[1]));
        }
    }
    for ((task, slot), repeats) in effects.iter().filter(|(_, repeats)| **repeats > 0) {
        broken.push(format!(
            "the effect of {task} at {slot} was written {repeats} more times by a first attempt"
        ));
    }
    for ((task, slot), attempts) in &starts {
        // Each once, and in order. One is missing if its replica died after it had claimed the slot, and before it began.
        if !attempts.is_sorted_by(|one, next| one < next) {
            broken.push(format!("{task} at {slot} was started as attempts {attempts:?}"));
        }
        if !effects.contains_key(&(task.clone(), *slot)) {
            broken.push(format!("{task} at {slot} was started and left no effect"));
        }
    }
    let leases = holdings(entries);
    broken.extend(overlaps(&leases));

    let repeated = starts.values().filter(|attempts| attempts.len() > 1).count();
    // Its replica was gone before the database knew: the second attempt is told so, and its effect was there.
    let again = completed.values().filter(|times| **times > 1).count();
    println!(
        "  {} slots, {} effects, {repeated} interrupted and run again as attempt 2, {again} of these when they had just ended",
        starts.len(),
        effects.len()
    );
    println!("  {} leases, in the order of their tokens", leases.values().map(Vec::len).sum::<usize>());
    for problem in &broken {
        println!("  BROKEN: {problem}");
    }
    Ok(broken.is_empty())
}

async fn effects(database: &str) -> Result<BTreeMap<(String, i64), i64>> {
    let db = Database::connect(database).await?;
    let sql = "select task, slot, repeats from failover_effect";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    let read = |row: sea_orm::QueryResult| {
        Ok(((row.try_get("", "task")?, row.try_get("", "slot")?), row.try_get("", "repeats")?))
    };
    rows.into_iter().map(read).collect::<Result<_, sea_orm::DbErr>>().context("reading the effects")
}

/// The attempts that were started, per slot, in the order in which they were.
fn starts(entries: &[Entry]) -> BTreeMap<(String, i64), Vec<u32>> {
    let mut starts: BTreeMap<(String, i64), Vec<u32>> = BTreeMap::new();
    for entry in entries {
        if let Entry::Started { task, slot, attempt, .. } = entry {
            starts.entry((task.clone(), *slot)).or_default().push(*attempt);
        }
    }
    starts.values_mut().for_each(|attempts| attempts.sort_unstable());
    starts
}

fn completions(entries: &[Entry]) -> BTreeMap<(String, i64), usize> {
    let mut done = BTreeMap::new();
    for entry in entries {
        if let Entry::Completed { task, slot, .. } = entry {
            *done.entry((task.clone(), *slot)).or_default() += 1;
        }
    }
    done
}

/// From when to when each lease was valid, per task and token. One whose replica could not say when it ended counts
/// for as long as it was promised.
fn holdings(entries: &[Entry]) -> BTreeMap<String, Vec<(i64, u64, u64)>> {
    let mut spans: BTreeMap<(String, i64), (u64, u64)> = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Valid { task, token, at, until, .. } => {
                let span = spans.entry((task.clone(), *token)).or_insert((*at, *until));
                span.1 = span.1.max(*until);
            }
            // A replica that was frozen says this late: what it was promised had ended before.
            Entry::Ended { task, token, at, .. } => {
                if let Some(span) = spans.get_mut(&(task.clone(), *token)) {
                    span.1 = span.1.min(*at);
                }
            }
            Entry::Started { .. } | Entry::Completed { .. } | Entry::Supervised { .. } => {}
        }
    }
    let mut tasks: BTreeMap<String, Vec<(i64, u64, u64)>> = BTreeMap::new();
    for ((task, token), (from, until)) in spans {
        tasks.entry(task).or_default().push((token, from, until));
    }
    tasks
}

fn overlaps(leases: &BTreeMap<String, Vec<(i64, u64, u64)>>) -> Vec<String> {
    let mut found = Vec::new();
    for (task, leases) in leases {
        for pair in leases.windows(2).filter(|pair| pair[0].2 > pair[1].1) {
            found.push(format!(
                "two valid leases on {task}: {:?} and {:?} (token, from, until)",
                pair[0], pair[1]
            ));
        }
    }
    found
}
