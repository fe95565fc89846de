//! What fences is the lock on the lease's row. An insert takes it by `lock in share mode`; an update has no such clause,
//! and takes it by writing the lease's row as it is.

use super::Texts;

macro_rules! lease {
    () => {
        "cluster = ?1 and artifact = ?2 and token = ?3 and holder = ?4"
    };
}

macro_rules! firing_of_lease {
    () => {
        "update leasehold_lease l straight_join leasehold_firing r on r.cluster = l.cluster and r.artifact = l.artifact \
         and r.slot = ?5 and r.command = ?6 and r.token = l.token and r.finished_at is null"
    };
}

macro_rules! where_held {
    () => {
        ", l.token = l.token where l.cluster = ?1 and l.artifact = ?2 and l.token = ?3 and l.holder = ?4"
    };
}

pub(super) static TEXTS: Texts = Texts {
    // Assignments are made from left to right: `attempt`, `node` and `claimed_at` look at the token and `due` of before.
    claim: concat!(
        "insert into leasehold_firing (cluster, artifact, slot, command, ordinal, token, attempt, node) \
         select l.cluster, l.artifact, ?5, ?6, ?7, l.token, 1, ?8 from leasehold_lease l where l.cluster = ?1 \
         and l.artifact = ?2 and l.token = ?3 and l.holder = ?4 and (?6 = 0 or exists (select 1 from leasehold_firing f \
         where f.cluster = ?1 and f.artifact = ?2 and f.slot = ?5 and f.command = ?6) \
         or (exists (select 1 from leasehold_command m where m.id = ?6 and m.cluster = ?1 and m.artifact = ?2) \
         and not exists (select 1 from leasehold_firing f where f.cluster = ?1 and f.artifact = ?2 and f.command = ?6))) \
         lock in share mode on duplicate key update ",
        "attempt = if(leasehold_firing.finished_at is null and (leasehold_firing.token < values(token) \
         or (leasehold_firing.token = values(token) and leasehold_firing.due is not null)), \
         leasehold_firing.attempt + 1, leasehold_firing.attempt), \
         node = if(leasehold_firing.finished_at is null and leasehold_firing.token <= values(token), values(node), \
         leasehold_firing.node), \
         claimed_at = if(leasehold_firing.finished_at is null and leasehold_firing.token <= values(token), \
         current_timestamp(3), leasehold_firing.claimed_at), \
         due = if(leasehold_firing.finished_at is null and leasehold_firing.token <= values(token), null, \
         leasehold_firing.due), \
         token = if(leasehold_firing.finished_at is null, greatest(leasehold_firing.token, values(token)), \
         leasehold_firing.token)"
    ),
    claimed: Some(concat!(
        "select 1 as held, attempt from leasehold_firing where cluster = ?1 and artifact = ?2 and slot = ?5 and command = ?6 \
         and token = ?3 and finished_at is null and exists (select 1 from leasehold_lease where ",
        lease!(),
        ")"
    )),
    taken: Some(
        "delete from leasehold_command where cluster = ?1 and artifact = ?2 and id = ?3 and exists (select 1 \
         from leasehold_firing where cluster = ?1 and artifact = ?2 and command = ?3)",
    ),
    skip: "insert into leasehold_firing (cluster, artifact, slot, ordinal, token, attempt, node, finished_at, outcome) \
         select l.cluster, l.artifact, ?5, ?6, l.token, 0, ?7, current_timestamp(3), 'skipped' from leasehold_lease l \
         where l.cluster = ?1 and l.artifact = ?2 and l.token = ?3 and l.holder = ?4 lock in share mode \
         on duplicate key update attempt = leasehold_firing.attempt",
    retry: concat!(firing_of_lease!(), " set r.due = ?7, r.error = ?8", where_held!()),
    complete: concat!(
        firing_of_lease!(),
        " set r.finished_at = from_unixtime(?7 / 1000), r.outcome = ?8, r.error = ?9",
        where_held!()
    ),
    // Neither can lock the lease in one statement. What they delete is of no use to the next holder either.
    refuse: concat!(
        "delete from leasehold_command where id = ?5 and cluster = ?1 and artifact = ?2 \
         and exists (select 1 from leasehold_lease where ",
        lease!(),
        ")"
    ),
    trim: concat!(
        "delete from leasehold_firing where cluster = ?1 and artifact = ?2 and slot < ?5 and finished_at is not null \
         and (command <> 0 or slot < (select last from (select max(slot) as last from leasehold_firing \
         where cluster = ?1 and artifact = ?2 and command = 0) newest)) and exists (select 1 from leasehold_lease where ",
        lease!(),
        ") order by slot limit ?6"
    ),
    old: Some(
        "select slot from leasehold_firing where cluster = ?1 and artifact = ?2 and slot < ?3 and finished_at is not null \
         and (command <> 0 or slot < (select max(slot) from leasehold_firing where cluster = ?1 and artifact = ?2 \
         and command = 0)) limit ?4",
    ),
    held: concat!("select 1 from leasehold_lease where ", lease!()),
    unfinished: "select slot, command, due from leasehold_firing where cluster = ?1 and artifact = ?2 \
         and finished_at is null and token < ?3 order by slot, command limit ?4",
    last: "select slot, cast(round(unix_timestamp(finished_at) * 1000) as signed) as completed, ordinal from leasehold_firing \
         where cluster = ?1 and artifact = ?2 and command = 0 order by slot desc limit 1",
    // One that was claimed and could not be taken away has its firing.
    commands: "select m.id, m.verb from leasehold_command m where m.cluster = ?1 and m.artifact = ?2 and not exists \
         (select 1 from leasehold_firing f where f.cluster = ?1 and f.artifact = ?2 and f.command = m.id) order by m.id limit 1",
    node: "select node_id from leasehold_node where session = ?1",
    history: "select slot, command, attempt, node, outcome, error, \
         cast(round(unix_timestamp(claimed_at) * 1000) as signed) as claimed, \
         cast(round(unix_timestamp(finished_at) * 1000) as signed) as finished from leasehold_firing \
         where cluster = ?1 and artifact = ?2 order by slot desc, command desc limit ?3",
};
