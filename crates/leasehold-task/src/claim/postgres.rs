//! What fences is the lock on the lease's row, taken in the same statement: a condition in a sub-select is not evaluated
//! again after a wait.

use super::Texts;

macro_rules! fence {
    () => {
        "with f as (select 1 from leasehold_lease where cluster = $1 and artifact = $2 and token = $3 and holder = $4 \
         for share), "
    };
}

pub(super) static TEXTS: Texts = Texts {
    claim: concat!(
        fence!(),
        "i as (insert into leasehold_firing as old (cluster, artifact, slot, token, attempt, node) \
         select $1, $2, $5, $3, 1, $6 from f \
         on conflict (cluster, artifact, slot) do update set \
         attempt = old.attempt + case when old.token < excluded.token then 1 else 0 end, \
         token = excluded.token, node = excluded.node, claimed_at = now() \
         where old.finished_at is null and old.token <= excluded.token returning attempt) \
         select (select count(*) from f) as held, (select attempt from i) as attempt"
    ),
    // `from f`: without it the update would run whether the lease is held or not.
    complete: concat!(
        fence!(),
        "u as (update leasehold_firing r set finished_at = to_timestamp($6::bigint / 1000.0::float8), outcome = $7, \
         error = $8 from f where r.cluster = $1 and r.artifact = $2 and r.slot = $5 and r.token = $3 \
         and r.finished_at is null returning 1) \
         select (select count(*) from f) as held, (select count(*) from u) as written"
    ),
    trim: concat!(
        fence!(),
        "old as (select slot from leasehold_firing where cluster = $1 and artifact = $2 and slot < $5 \
         and finished_at is not null \
         and slot < (select max(slot) from leasehold_firing where cluster = $1 and artifact = $2) \
         order by slot limit $6) \
         delete from leasehold_firing r using f, old where r.cluster = $1 and r.artifact = $2 and r.slot = old.slot \
         returning 1::bigint as held"
    ),
    held: "select 1 from leasehold_lease where cluster = $1 and artifact = $2 and token = $3 and holder = $4",
    unfinished: "select slot from leasehold_firing where cluster = $1 and artifact = $2 and finished_at is null \
         and token < $3 order by slot limit $4",
    last: "select slot, round(extract(epoch from finished_at) * 1000)::bigint as completed from leasehold_firing \
         where cluster = $1 and artifact = $2 order by slot desc limit 1",
    node: "select node_id from leasehold_node where session = $1",
};
