//! The scenarios. Each says what the adversary may do; all of that is explored.

use leasehold_core::protocol::action::Outcome;
use leasehold_core::protocol::request::{Desired, Request};

use crate::driver::job;
use crate::scenario::{FIRST, Kind, LATE, Move, NEXT, Scenario, Side, Spec};

/// Any two legs of anything, late or lost.
pub fn two_nodes_delays() -> Scenario {
    Scenario { holds: 2, disturbed: 14, both_orders: true, ..Scenario::new("two_nodes_delays", &[FIRST, NEXT]) }
}

/// The same from the first join on: election, first grant, ghosts.
pub fn two_nodes_joining() -> Scenario {
    let first = Spec { starts: Some(0), ..FIRST };
    Scenario {
        holds: 2,
        warm: 0,
        disturbed: 8,
        both_orders: true,
        ..Scenario::new("two_nodes_joining", &[first, first])
    }
}

/// The holder stops in the middle of anything, and one leg of anything is late.
pub fn two_nodes_pause() -> Scenario {
    Scenario {
        holds: 1,
        disturbed: 16,
        moves: vec![Move::Pause(0), Move::Thaw(0)],
        ..Scenario::new("two_nodes_pause", &[FIRST, NEXT])
    }
}

/// Either dies and is started again, with its predecessor's calls still under way.
pub fn two_nodes_restart() -> Scenario {
    Scenario {
        holds: 1,
        disturbed: 12,
        moves: vec![Move::Kill(&[0]), Move::Start(0), Move::Kill(&[1])],
        ..Scenario::new("two_nodes_restart", &[FIRST, NEXT])
    }
}

/// Both may stop in the middle of a call; a watch may be executed late.
pub fn two_nodes_both_pause() -> Scenario {
    Scenario {
        holds: 1,
        disturbed: 14,
        moves: vec![Move::Pause(0), Move::Pause(1), Move::Thaw(1)],
        may_hold: |node, kind, side| node == 1 && kind == Kind::Watch && side == Side::Request,
        ..Scenario::new("two_nodes_both_pause", &[FIRST, NEXT])
    }
}

/// The holder wakes up and renews while its expiry is under way.
pub fn late_expiry() -> Scenario {
    Scenario {
        holds: 1,
        disturbed: 14,
        moves: vec![Move::Pause(0), Move::Thaw(0)],
        may_hold: |_, kind, side| kind == Kind::Expire && side == Side::Request,
        fine: true,
        ..Scenario::new("late_expiry", &[FIRST, NEXT])
    }
}

/// The leader's first grant is late, and the next node may get the second.
pub fn late_grant() -> Scenario {
    Scenario {
        resolver: "last",
        warm: 0,
        holds: 1,
        disturbed: 16,
        moves: vec![Move::Start(1), Move::Kill(&[1])],
        may_hold: |_, kind, side| kind == Kind::Grant && side == Side::Request,
        ..Scenario::new("late_grant", &[FIRST, LATE])
    }
}

/// A leader stops between its reads while others lead, join and hold.
pub fn late_planner() -> Scenario {
    Scenario {
        resolver: "last",
        holds: 1,
        warm: 9,
        disturbed: 14,
        script: vec![(7, Move::Operator(pause())), (9, Move::Operator(resume())), (12, Move::Start(2))],
        moves: vec![Move::Pause(0), Move::Thaw(0)],
        may_hold: |node, kind, side| node == 0 && kind == Kind::Leases && side == Side::Request,
        ..Scenario::new("late_planner", &[FIRST, NEXT, LATE])
    }
}

fn desire(desired: Desired) -> Request {
    Request::Desire { artifact: job(), desired }
}

fn pause() -> Request {
    desire(Desired::Paused)
}

fn resume() -> Request {
    desire(Desired::Active)
}

/// Runs end by themselves and are run again; any leg of the statements about leases is late.
pub fn rerun() -> Scenario {
    Scenario {
        holds: 2,
        disturbed: 14,
        moves: vec![Move::End(0, Outcome::Returned), Move::End(0, Outcome::Failed("no".into()))],
        may_hold: |_, kind, _| matches!(kind, Kind::Held | Kind::Rerun | Kind::Renew),
        ..Scenario::new("rerun", &[FIRST, NEXT])
    }
}

/// A node drains and takes part again; the outcome of its handover is unknown and reads are late.
pub fn handover_unknown_outcome() -> Scenario {
    Scenario {
        holds: 2,
        disturbed: 8,
        moves: vec![Move::Drain(0), Move::Stay(0)],
        may_hold: |_, kind, _| matches!(kind, Kind::Held | Kind::HandOver),
        fine: true,
        ..Scenario::new("handover_unknown_outcome", &[FIRST, NEXT])
    }
}

/// An artifact is paused and resumed before its new holder has read of the grant.
pub fn pause_and_resume() -> Scenario {
    Scenario {
        holds: 2,
        warm: 0,
        disturbed: 12,
        moves: vec![Move::Operator(pause()), Move::Operator(resume())],
        ordered: true,
        may_hold: |node, kind, side| node == 0 && matches!(kind, Kind::Held | Kind::HandOver) && side == Side::Request,
        fine: true,
        ..Scenario::new("pause_and_resume", &[FIRST, NEXT])
    }
}

/// A node is told to drain and to stay again between a grant and its run.
pub fn handover_before_the_run() -> Scenario {
    Scenario {
        holds: 2,
        disturbed: 12,
        script: vec![(7, Move::Drain(1)), (8, Move::Stay(1))],
        moves: vec![Move::Drain(0), Move::Stay(0)],
        ordered: true,
        may_hold: |node, kind, side| {
            node == 0 && matches!(kind, Kind::Held | Kind::HandOver) && side == Side::Request
        },
        fine: true,
        ..Scenario::new("handover_before_the_run", &[NEXT, FIRST])
    }
}

/// The lease moves to the youngest node, with any two legs about it late.
pub fn moving() -> Scenario {
    Scenario {
        resolver: "follow",
        holds: 2,
        disturbed: 10,
        moves: vec![Move::Start(1)],
        may_hold: |_, kind, _| matches!(kind, Kind::Held | Kind::HandOver | Kind::Leases | Kind::Grant),
        slow_runs: true,
        ..Scenario::new("moving", &[FIRST, LATE])
    }
}

/// The database falls back to an older state; a node starts only afterwards.
pub fn rollback_with_late_start() -> Scenario {
    Scenario {
        holds: 1,
        disturbed: 12,
        script: vec![(7, Move::Snapshot)],
        moves: vec![Move::End(0, Outcome::Returned), Move::Rollback, Move::Kill(&[0]), Move::Start(1)],
        may_hold: |_, kind, side| !matches!(kind, Kind::Other | Kind::Watch) && side == Side::Request,
        ..Scenario::new("rollback_with_late_start", &[FIRST, LATE])
    }
}

/// The database forgets that the lease was handed over.
pub fn rollback_of_a_handover() -> Scenario {
    Scenario {
        holds: 2,
        disturbed: 20,
        moves: vec![Move::Snapshot, Move::Drain(0), Move::Stay(0), Move::Rollback],
        ordered: true,
        may_hold: |node, kind, side| node == 1 && kind == Kind::Held && side == Side::Request,
        ..Scenario::new("rollback_of_a_handover", &[FIRST, NEXT])
    }
}

/// The database forgets a grant whose session trusts longer than the adopter.
pub fn different_ttl() -> Scenario {
    let short = Spec { ttl: 4, starts: Some(0), ..FIRST };
    Scenario {
        resolver: "last",
        warm: 4,
        disturbed: 14,
        moves: vec![Move::Snapshot, Move::Start(1), Move::Rollback, Move::Pause(1)],
        ..Scenario::new("different_ttl", &[short, LATE])
    }
}

/// Clocks at rates whose ratio is just below `ttl / (ttl - margin)`: 4/3 here.
pub fn rates(name: &'static str, slow: u32, fast: u32) -> Scenario {
    let (slow, fast) = (Spec { rate: slow, ..FIRST }, Spec { rate: fast, ..NEXT });
    Scenario { holds: 1, disturbed: 14, moves: vec![Move::Pause(0)], ..Scenario::new(name, &[slow, fast]) }
}

/// The heads and the holder die together, and one node is left.
pub fn four_deaths_at_once() -> Scenario {
    Scenario {
        resolver: "last",
        warm: 8,
        disturbed: 10,
        script: vec![(5, Move::Operator(pause())), (6, Move::Start(3)), (8, Move::Operator(resume()))],
        moves: vec![Move::Kill(&[0, 1, 2, 3])],
        bound: Some(8 + 2 + 3),
        ..Scenario::new("four_deaths_at_once", &[FIRST, NEXT, NEXT, LATE, NEXT])
    }
}

/// The holder dies while an answer of its observer is late.
pub fn death_and_late_answer() -> Scenario {
    Scenario {
        holds: 1,
        disturbed: 10,
        moves: vec![Move::Kill(&[0])],
        may_hold: |node, kind, side| node == 1 && kind == Kind::Watch && side == Side::Answer,
        fine: true,
        bound: Some(8 + 3),
        ..Scenario::new("death_and_late_answer", &[FIRST, NEXT])
    }
}

/// Three nodes: any leg late, the leader stops, another dies.
pub fn three_nodes() -> Scenario {
    Scenario {
        holds: 1,
        disturbed: 10,
        moves: vec![Move::Pause(0), Move::Thaw(0), Move::Kill(&[1])],
        ..Scenario::new("three_nodes", &[FIRST, NEXT, NEXT])
    }
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![
        two_nodes_delays(),
        two_nodes_joining(),
        two_nodes_pause(),
        two_nodes_restart(),
        two_nodes_both_pause(),
        late_expiry(),
        late_grant(),
        late_planner(),
        rerun(),
        handover_unknown_outcome(),
        handover_before_the_run(),
        pause_and_resume(),
        moving(),
        rollback_with_late_start(),
        rollback_of_a_handover(),
        different_ttl(),
        rates("rates", 100, 133),
        four_deaths_at_once(),
        death_and_late_answer(),
        three_nodes(),
    ]
}
