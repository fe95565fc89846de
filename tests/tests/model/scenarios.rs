//! The scenarios. Each says what the adversary may do; all of that is explored.
//!
//! An adversary that acts for more than a `ttl`, eight steps, has outlived every timeout and every trust. Where there are
//! too many states for that, or for any leg to be late, the scenario says what bounds it. When the adversary rests, all goes
//! on until everything runs again.

use leasehold_core::protocol::action::Outcome;
use leasehold_core::protocol::request::{Desired, Request};

use crate::driver::job;
use crate::scenario::{FIRST, Kind, LATE, Move, NEXT, Scenario, Side, Spec};

/// Any two legs of anything, late or lost.
pub fn two_nodes_delays() -> Scenario {
    Scenario {
        holds: 2,
        disturbed: 14,
        both_orders: true,
        ..Scenario::new("two_nodes_delays", &[FIRST, NEXT])
    }
}

/// The same from the first join on: election, first grant, ghosts. For one `ttl`.
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

/// Runs end by themselves and are run again; any two legs of the statements about leases are late, for one `ttl`.
pub fn rerun() -> Scenario {
    Scenario {
        holds: 2,
        disturbed: 8,
        moves: vec![Move::End(0, Outcome::Returned), Move::End(0, Outcome::Failed("no".into()))],
        may_hold: |_, kind, _| matches!(kind, Kind::Held | Kind::Rerun | Kind::Renew),
        ..Scenario::new("rerun", &[FIRST, NEXT])
    }
}

/// A node drains and takes part again; the outcome of its handover is unknown and reads are late. Two legs in six steps;
/// what they lead to is followed to its end.
pub fn handover_unknown_outcome() -> Scenario {
    Scenario {
        holds: 2,
        disturbed: 6,
        moves: vec![Move::Drain(0), Move::Stay(0)],
        may_hold: |_, kind, _| matches!(kind, Kind::Held | Kind::HandOver),
        fine: true,
        ..Scenario::new("handover_unknown_outcome", &[FIRST, NEXT])
    }
}

/// An artifact is paused and resumed between a grant and its run; any leg of the grantee is late.
pub fn pause_before_the_run() -> Scenario {
    Scenario {
        holds: 1,
        warm: 7,
        disturbed: 12,
        script: vec![
            (7, Move::Drain(1)),
            (9, Move::Operator(pause())),
            (10, Move::Stay(1)),
            (11, Move::Operator(resume())),
        ],
        may_hold: |node, _, _| node == 0,
        fine: true,
        ..Scenario::new("pause_before_the_run", &[NEXT, FIRST])
    }
}

/// The grantee drains and stays again between a grant and its run; two of its statements about leases are late.
pub fn drain_before_the_run() -> Scenario {
    Scenario {
        holds: 2,
        disturbed: 12,
        script: vec![(7, Move::Drain(1)), (10, Move::Stay(1))],
        moves: vec![Move::Drain(0), Move::Stay(0)],
        ordered: true,
        may_hold: |node, kind, side| {
            node == 0 && matches!(kind, Kind::Held | Kind::HandOver) && side == Side::Request
        },
        fine: true,
        ..Scenario::new("drain_before_the_run", &[NEXT, FIRST])
    }
}

/// A node drains and stays again before the one is declared; then the other dies, and it must run. Only the answer is late:
/// a statement that executes after one that was sent later would still win.
pub fn drain_and_stay() -> Scenario {
    Scenario {
        holds: 1,
        moves: vec![Move::Drain(0), Move::Stay(0), Move::Kill(&[1])],
        ordered: true,
        may_hold: |node, kind, side| node == 0 && kind == Kind::Other && side == Side::Answer,
        fine: true,
        ..Scenario::new("drain_and_stay", &[FIRST, NEXT])
    }
}

/// The leader, which also holds, leaves; any leg of anything is late.
pub fn leaving() -> Scenario {
    Scenario { holds: 1, moves: vec![Move::Leave(0)], ..Scenario::new("leaving", &[FIRST, NEXT]) }
}

/// The database restarts and forgets nothing, while the holder may stop in the middle of a call; one leg is late, within
/// one `ttl`.
pub fn restart_of_the_database() -> Scenario {
    Scenario {
        holds: 1,
        disturbed: 8,
        moves: vec![Move::RestartDatabase, Move::Pause(0), Move::Thaw(0)],
        may_hold: |_, kind, _| matches!(kind, Kind::Renew | Kind::Grant | Kind::Held),
        ..Scenario::new("restart_of_the_database", &[FIRST, NEXT])
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

/// The database falls back to an older state; a node starts only afterwards. One late statement, for one `ttl`.
pub fn rollback_with_late_start() -> Scenario {
    Scenario {
        holds: 1,
        disturbed: 8,
        script: vec![(7, Move::Snapshot)],
        moves: vec![Move::End(0, Outcome::Returned), Move::Rollback, Move::Kill(&[0]), Move::Start(1)],
        may_hold: |_, kind, side| !matches!(kind, Kind::Other | Kind::Watch) && side == Side::Request,
        ..Scenario::new("rollback_with_late_start", &[FIRST, LATE])
    }
}

/// The database forgets that the lease was handed over. The moves come in one order, and only reads of what the other
/// node holds are late.
pub fn rollback_of_a_handover() -> Scenario {
    Scenario {
        holds: 2,
        disturbed: 17,
        moves: vec![Move::Snapshot, Move::Drain(0), Move::Stay(0), Move::Rollback],
        ordered: true,
        may_hold: |node, kind, side| node == 1 && kind == Kind::Held && side == Side::Request,
        ..Scenario::new("rollback_of_a_handover", &[FIRST, NEXT])
    }
}

/// The database forgets a session that holds the lease and trusts itself for longer than the other's whole `ttl`. The
/// adversary acts in the first five steps: later it could only come later.
pub fn different_ttl() -> Scenario {
    let (short, long) = (Spec { ttl: 4, ..FIRST }, Spec { ttl: 12, starts: Some(5), ..FIRST });
    Scenario {
        resolver: "follow",
        holds: 1,
        warm: 7,
        disturbed: 5,
        script: vec![(4, Move::Snapshot)],
        moves: vec![Move::Rollback, Move::Pause(1), Move::Thaw(1)],
        ..Scenario::new("different_ttl", &[short, long])
    }
}

/// The holder's clock is slow, at a ratio just below `ttl / (ttl - margin)`, 4/3 here; it stops, and one leg is late.
pub fn slow_holder() -> Scenario {
    let (slow, fast) = (Spec { rate: 100, ..FIRST }, Spec { rate: 133, ..NEXT });
    Scenario {
        holds: 1,
        disturbed: 14,
        moves: vec![Move::Pause(0)],
        ..Scenario::new("slow_holder", &[slow, fast])
    }
}

/// The same at a ratio above that, for which nothing is promised.
pub fn too_slow_holder() -> Scenario {
    let (slow, fast) = (Spec { rate: 100, ..FIRST }, Spec { rate: 160, ..NEXT });
    Scenario { name: "too_slow_holder", nodes: vec![slow, fast], ..slow_holder() }
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

/// The holder dies while an answer of its observer is late, by up to a quarter of a `ttl`.
pub fn death_and_late_answer() -> Scenario {
    let (first, next) = (Spec { ttl: 24, ..FIRST }, Spec { ttl: 24, ..NEXT });
    Scenario {
        holds: 1,
        disturbed: 10,
        moves: vec![Move::Kill(&[0])],
        may_hold: |node, kind, side| {
            node == 1 && matches!(kind, Kind::Watch | Kind::Renew) && side == Side::Answer
        },
        bound: Some(24 + 3),
        both_orders: true,
        ..Scenario::new("death_and_late_answer", &[first, next])
    }
}

/// Three nodes: any leg late, the leader stops, another dies. One leg, and ten steps: a little more than a `ttl`.
pub fn three_nodes() -> Scenario {
    Scenario {
        holds: 1,
        disturbed: 10,
        moves: vec![Move::Pause(0), Move::Thaw(0), Move::Kill(&[1])],
        ..Scenario::new("three_nodes", &[FIRST, NEXT, NEXT])
    }
}
