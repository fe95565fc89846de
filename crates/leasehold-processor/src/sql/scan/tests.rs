//! Whatever is appended, committed late, put off and settled: everything is handed over, once, and in its order.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use leasehold_core::clock::Instant;
use proptest::prelude::*;

use super::*;

/// Far apart enough that what is due never depends on the step in which it was read.
const LATER: i64 = 1000;

#[derive(Clone, Debug)]
enum Step {
    /// So many messages of this key, due that much later.
    Append {
        many: usize,
        key: Option<u8>,
        later: bool,
    },
    /// One whose transaction is open for a while.
    Begin {
        key: Option<u8>,
    },
    /// All of those are committed.
    Commit,
    Read,
    /// A read begins: what follows happens while it is under way.
    Ask,
    Answer,
    LookForLate {
        far: bool,
    },
    /// The first so many of what was handed over and may be settled.
    Settle {
        many: usize,
    },
    /// One that no order holds is put back for later.
    PutOff,
    Pass,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || prop_oneof![Just(None), (0..4_u8).prop_map(Some)];
    let append = (1..60_usize, key(), prop::bool::weighted(0.2));
    let step = prop_oneof![
        3 => append.prop_map(|(many, key, later)| Step::Append { many, key, later }),
        1 => key().prop_map(|key| Step::Begin { key }),
        1 => Just(Step::Commit),
        4 => Just(Step::Read),
        3 => Just(Step::Ask),
        3 => Just(Step::Answer),
        1 => any::<bool>().prop_map(|far| Step::LookForLate { far }),
        4 => (1..40_usize).prop_map(|many| Step::Settle { many }),
        1 => Just(Step::PutOff),
        1 => Just(Step::Pass),
    ];
    prop::collection::vec(step, 1..80)
}

/// As it is read once more.
fn copy(row: &Row) -> Row {
    Row::of(row.id, row.key.as_deref().map(str::to_owned), row.due)
}

/// What the database does, and who reads and settles.
struct World {
    ordering: Ordering,
    scan: Scan,
    rows: BTreeMap<StoredId, Row>,
    open: BTreeMap<StoredId, Row>,
    last: StoredId,
    now: i64,
    /// Handed over and not settled, in this order.
    out: Vec<Row>,
    settled: HashSet<StoredId>,
    /// Committed late: whatever was there before has no order with these.
    late: HashSet<StoredId>,
    /// What a read that is under way has found.
    asked: Option<(Plan, Vec<Row>, Option<i64>)>,
    /// Settled or put off since it began.
    gone: HashSet<StoredId>,
}

impl World {
    fn new(ordering: Ordering, capacity: usize) -> Self {
        Self {
            ordering,
            scan: Scan::new(ordering, capacity),
            rows: BTreeMap::new(),
            open: BTreeMap::new(),
            last: 0,
            now: 0,
            out: Vec::new(),
            settled: HashSet::new(),
            late: HashSet::new(),
            asked: None,
            gone: HashSet::new(),
        }
    }

    fn row(&mut self, key: Option<u8>, later: bool) -> Row {
        self.last += 1;
        Row::of(self.last, key.map(|key| key.to_string()), later.then(|| self.now + LATER))
    }

    /// What a statement brings.
    fn query(&self, plan: &Plan) -> (Vec<Row>, Option<i64>) {
        let keyless = |row: &Row| row.key.is_none();
        let left_out =
            |row: &Row, without: &[Arc<str>]| row.key.as_ref().is_some_and(|key| without.contains(key));
        let most = limit(plan);
        let all = || self.rows.values().map(copy);
        match plan {
            Plan::Page { after, without } if without.is_empty() => {
                (all().filter(|row| row.id > *after).take(most).collect(), None)
            }
            Plan::Page { after, without } => {
                let top = self.rows.keys().last().copied();
                let within = |row: &Row| row.id > *after && row.id <= top.unwrap_or(*after);
                (all().filter(|row| within(row) && !left_out(row, without)).take(most).collect(), top)
            }
            Plan::Key { key, from, to } => {
                let is = |row: &Row| row.key.as_ref() == Some(key) && row.id >= *from && row.id <= *to;
                (all().filter(is).take(most).collect(), None)
            }
            Plan::Due { now, keyed } => {
                let counts = |row: &Row| *keyed || keyless(row);
                let mut due: Vec<Row> =
                    all().filter(|row| counts(row) && row.due.is_some_and(|due| due <= *now)).collect();
                due.sort_by_key(|row| (row.due, row.id));
                due.truncate(most);
                let next = all().filter(counts).filter_map(|row| row.due).filter(|due| due > now).min();
                (due, next)
            }
            Plan::Late { after, to, without, now } => {
                let is = |row: &Row| {
                    row.id > *after
                        && row.id <= *to
                        && row.due.is_none_or(|due| due <= *now)
                        && !left_out(row, without)
                };
                (all().filter(is).take(most).collect(), None)
            }
            Plan::These { ids } => (ids.iter().filter_map(|id| self.rows.get(id)).map(copy).collect(), None),
            Plan::Trim { .. } | Plan::Bodies { .. } => (Vec::new(), None),
        }
    }

    fn ask(&mut self, plan: Plan) {
        if let Plan::Due { .. } = plan {
            self.scan.looks_for_due();
        }
        let (rows, beyond) = self.query(&plan);
        self.asked = Some((plan, rows, beyond));
    }

    fn answer(&mut self) {
        let Some((plan, rows, beyond)) = self.asked.take() else { return };
        let gone = std::mem::take(&mut self.gone);
        for row in self.scan.take(&plan, rows, &gone, beyond, self.now) {
            assert!(!self.settled.contains(&row.id), "{} was settled before", row.id);
            assert!(!self.out.iter().any(|out| out.id == row.id), "{} is handed over already", row.id);
            self.in_order(&row);
            self.out.push(row);
        }
    }

    fn read(&mut self) {
        if self.asked.is_none() {
            self.ask(self.scan.plan(self.now));
        }
        self.answer();
    }

    /// Nothing that comes before it is in the store, and was not handed over.
    fn in_order(&self, row: &Row) {
        let before = |other: &&Row| {
            let ordered = match self.ordering {
                Ordering::All => true,
                Ordering::Keys => row.key.is_some() && other.key == row.key,
                Ordering::None => false,
            };
            ordered && other.id < row.id && !self.late.contains(&other.id) && !self.late.contains(&row.id)
        };
        let missing =
            self.rows.values().filter(before).find(|other| !self.out.iter().any(|out| out.id == other.id));
        assert!(missing.is_none(), "{} was handed over before {missing:?}", row.id);
    }

    fn look_for_late(&mut self, far: bool) {
        self.answer();
        let plan = self.scan.late(
            Instant::ZERO + Duration::from_millis(self.now.unsigned_abs()),
            self.now,
            far,
            None,
        );
        let ids = self.query(&plan).0.iter().map(|row| row.id).collect();
        let ids = self.scan.found(ids, &HashSet::new());
        if !ids.is_empty() {
            self.ask(Plan::These { ids });
            self.answer();
        }
    }

    /// The first that is handed over and due, with nothing of its order before it.
    fn first(&self) -> Option<usize> {
        let waits = |index: usize| {
            let row = &self.out[index];
            let is_later = row.due.is_some_and(|due| due > self.now);
            let before = &self.out[..index];
            is_later
                || match self.ordering {
                    Ordering::All => !before.is_empty(),
                    Ordering::Keys => row.key.is_some() && before.iter().any(|other| other.key == row.key),
                    Ordering::None => false,
                }
        };
        (0..self.out.len()).find(|index| !waits(*index))
    }

    fn settle(&mut self) -> bool {
        let Some(index) = self.first() else { return false };
        let row = self.out.remove(index);
        self.rows.remove(&row.id);
        self.settled.insert(row.id);
        self.release(row.id);
        true
    }

    fn release(&mut self, id: StoredId) {
        self.scan.release(id);
        if self.asked.is_some() {
            self.gone.insert(id);
        }
    }

    fn put_off(&mut self) {
        let free = |row: &Row| match self.ordering {
            Ordering::All => false,
            Ordering::Keys => row.key.is_none(),
            Ordering::None => true,
        };
        let Some(index) = self.first().filter(|index| free(&self.out[*index])) else { return };
        let row = self.out.remove(index);
        let due = self.now + LATER;
        self.release(row.id);
        self.rows.insert(row.id, Row::of(row.id, row.key.as_deref().map(str::to_owned), Some(due)));
        self.scan.wake_at(due);
    }

    fn commit(&mut self) {
        self.late.extend(self.open.keys());
        self.rows.append(&mut self.open);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { many, key, later } => {
                for _ in 0..many {
                    let row = self.row(key, later);
                    self.rows.insert(row.id, row);
                }
            }
            Step::Begin { key } => {
                let row = self.row(key, false);
                self.open.insert(row.id, row);
            }
            Step::Commit => self.commit(),
            Step::Read => self.read(),
            Step::Ask if self.asked.is_none() => self.ask(self.scan.plan(self.now)),
            Step::Ask => {}
            Step::Answer => self.answer(),
            Step::LookForLate { far } => self.look_for_late(far),
            Step::Settle { many } => _ = (0..many).all(|_| self.settle()),
            Step::PutOff => self.put_off(),
            Step::Pass => self.now += LATER / 2,
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_forgotten_handed_over_twice_or_out_of_order(
        ordering in prop_oneof![Just(Ordering::All), Just(Ordering::Keys), Just(Ordering::None)],
        capacity in 8..400_usize,
        steps in steps(),
    ) {
        let mut world = World::new(ordering, capacity);
        for step in steps {
            world.step(step);
        }
        world.commit();
        world.look_for_late(true);
        world.now += 2 * LATER;
        // Each round of these brings something, or all is done: there are at most so many messages. No look for what is late helps.
        for _ in 0..2 * world.last + 8 {
            if world.rows.is_empty() {
                break;
            }
            world.read();
            while world.settle() {}
            world.now += LATER;
        }
        prop_assert!(world.rows.is_empty(), "left behind: {:?}", world.rows.values().take(5).collect::<Vec<_>>());
        prop_assert_eq!(world.settled.len(), usize::try_from(world.last).unwrap());
    }
}
