//! What the adversary may do, and to whom.

use std::time::Duration;

use leasehold_core::protocol::action::Outcome;
use leasehold_core::protocol::request::Request;
use leasehold_core::timing::Timings;

/// One unit of the model's time: coarse, so that a `ttl` is eight steps, and long, so that it is not the floor of the
/// timeouts (`MIN_PATIENCE`, `MIN_CALL`) that decides.
pub const UNIT: Duration = Duration::from_millis(500);

/// One thing the adversary may do, once for each time it is listed. Nodes are meant by their place in the scenario.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    /// The node stops as by SIGSTOP, also in the middle of a call; what is under way goes on.
    Pause(usize),
    /// It goes on, with all answers that arrived meanwhile.
    Thaw(usize),
    /// The processes die.
    Kill(&'static [usize]),
    /// A node starts: a late one, or one that was killed.
    Start(usize),
    /// The state of the database that a failover will fall back to.
    Snapshot,
    /// That state takes over, under another incarnation.
    Rollback,
    /// The database restarts: another incarnation answers, nothing is lost.
    RestartDatabase,
    /// The node is told to drain.
    Drain(usize),
    /// The node is told to take part again.
    Stay(usize),
    /// The node is told to leave.
    Leave(usize),
    /// A run on the node ends.
    End(usize, Outcome),
    /// An operator does something to the database.
    Operator(Request),
}

/// What a call is for, for filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Join,
    Renew,
    Watch,
    Held,
    HandOver,
    Rerun,
    Expire,
    Elect,
    Adopt,
    Leases,
    Grant,
    Other,
}

impl Kind {
    pub fn of(request: &Request) -> Self {
        match request {
            Request::Join { .. } => Self::Join,
            Request::Renew { .. } => Self::Renew,
            Request::Watch { .. } => Self::Watch,
            Request::Held { .. } => Self::Held,
            Request::HandOver { .. } => Self::HandOver,
            Request::Rerun { .. } => Self::Rerun,
            Request::Expire { .. } => Self::Expire,
            Request::Elect { .. } => Self::Elect,
            Request::Adopt { .. } => Self::Adopt,
            Request::Leases { .. } => Self::Leases,
            Request::Grant { .. } => Self::Grant,
            _ => Self::Other,
        }
    }
}

/// Which leg of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Request,
    Answer,
}

/// A node of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// In units of its own clock.
    pub ttl: u32,
    /// How much its clock advances per step, in percent.
    pub rate: u32,
    /// The step at which it starts; none: when the adversary starts it.
    pub starts: Option<u32>,
}

/// The first node starts two steps before the others: it leads, and holds what `first` places.
pub const FIRST: Spec = Spec { ttl: 8, rate: 100, starts: Some(0) };
pub const NEXT: Spec = Spec { starts: Some(2), ..FIRST };
pub const LATE: Spec = Spec { starts: None, ..FIRST };

impl Spec {
    pub fn timings(&self) -> Timings {
        let ttl = UNIT * self.ttl;
        Timings { ttl, renew: ttl / 4, watch: UNIT, margin: ttl / 4, drain: UNIT * 2, stall: UNIT * 600 }
    }
}

/// A cluster and a bounded adversary. Whatever the adversary does not touch goes on without delay.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub nodes: Vec<Spec>,
    /// `first`, `last` or `follow`: see `placing.rs`.
    pub resolver: &'static str,
    /// Steps that pass undisturbed at the beginning; 0 lets the adversary at the very first join.
    pub warm: u32,
    /// Steps during which the adversary acts.
    pub disturbed: u32,
    /// Steps that follow undisturbed, at the end of which everything must run again; less when it does so earlier.
    pub quiet: u32,
    /// What it may do, each entry once.
    pub moves: Vec<Move>,
    /// Moves that are made at these steps, in every history.
    pub script: Vec<(u32, Move)>,
    /// The adversary makes its own in the order listed.
    pub ordered: bool,
    /// How many legs it may hold back; it lets each go when it likes, or never.
    pub holds: u8,
    /// Which ones.
    pub may_hold: fn(usize, Kind, Side) -> bool,
    /// A held leg may be let go amid the legs of one step, not only between steps.
    pub fine: bool,
    /// Runs that are asked to end go on until they are stopped.
    pub slow_runs: bool,
    /// At most this many steps between the last renewal of a holder and the start of the next.
    pub bound: Option<u32>,
    /// Both orders in which the nodes of one step act are explored.
    pub both_orders: bool,
}

impl Scenario {
    pub fn new(name: &'static str, nodes: &[Spec]) -> Self {
        Self {
            name,
            nodes: nodes.to_vec(),
            resolver: "first",
            warm: 6,
            disturbed: 10,
            quiet: 40,
            moves: Vec::new(),
            script: Vec::new(),
            ordered: false,
            holds: 0,
            may_hold: |_, _, _| true,
            fine: false,
            slow_runs: false,
            bound: None,
            both_orders: false,
        }
    }

    /// With more time for the adversary.
    pub fn deeper(self) -> Self {
        Self { disturbed: self.disturbed + 3, ..self }
    }

    /// The step after which the adversary rests.
    pub fn rests(&self) -> u32 {
        self.warm + self.disturbed
    }
}
