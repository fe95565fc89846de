//! What fences is the lock on the lease's row, taken in the same statement: a condition in a sub-select is not evaluated
//! again after a wait.

use super::Texts;
use super::batch::BatchTexts;

macro_rules! fence {
    () => {
        "with f as (select 1 from leasehold_lease where cluster = $1 and artifact = $2 and token = $3 and holder = $4 \
         for share), "
    };
}

macro_rules! claim_again {
    () => {
        "attempt = old.attempt + case when old.token < excluded.token or old.due is not null then 1 else 0 end, \
         token = excluded.token, node = excluded.node, claimed_at = now(), due = null \
         where old.finished_at is null and old.token <= excluded.token"
    };
}

// A lease that is locked otherwise is being granted away, or its holder's fence waits for that: it is left out, so that it
// holds up no other. What is left out is asked about by itself.
macro_rules! batch {
    ($columns:literal) => {
        concat!(
            "with w as (select distinct * from json_to_recordset($3::json) as w(artifact text, token bigint, slot bigint, \
             command bigint, ",
            $columns,
            ")), f as (select l.cluster, w.* from leasehold_lease l join w on w.artifact = l.artifact and w.token = l.token \
             where l.cluster = $1 and l.holder = $2 for share of l skip locked), "
        )
    };
}

pub(super) static BATCH: BatchTexts = BatchTexts {
    // No join of what is fenced with what was written: the planner takes both for a row or two, and would nest loops.
    claim: concat!(
        batch!("ordinal bigint, node text"),
        "i as (insert into leasehold_firing as old (cluster, artifact, slot, command, ordinal, token, attempt, node) \
         select $1, artifact, slot, command, ordinal, token, 1, node from f \
         on conflict (cluster, artifact, slot, command) do update set ",
        claim_again!(),
        " returning artifact, token, slot, command, attempt) \
         select artifact, token, slot, command, null::bigint as attempt from f union all select * from i"
    ),
    // By `outcome`, which is null as long as `finished_at`: asked for that, the planner would go through the index of what
    // is unfinished, for each row of it through all of `f`.
    complete: concat!(
        batch!("at bigint, outcome text, error text"),
        "u as (update leasehold_firing r set finished_at = to_timestamp(f.at / 1000.0::float8), outcome = f.outcome, \
         error = f.error from f where r.cluster = f.cluster and r.artifact = f.artifact and r.slot = f.slot \
         and r.command = f.command and r.token = f.token and r.outcome is null returning 1) \
         select f.artifact, f.token, f.slot, f.command, null::bigint as attempt from f"
    ),
};

pub(super) static TEXTS: Texts = Texts {
    // A command that another claim has taken is gone; one whose claim was answered to nobody has its firing.
    claim: concat!(
        fence!(),
        "i as (insert into leasehold_firing as old (cluster, artifact, slot, command, ordinal, token, attempt, node) \
         select $1, $2, $5, $6, $7, $3, 1, $8 from f where $6 = 0 \
         or exists (select 1 from leasehold_command where id = $6 and cluster = $1 and artifact = $2) \
         or exists (select 1 from leasehold_firing where cluster = $1 and artifact = $2 and slot = $5 and command = $6) \
         on conflict (cluster, artifact, slot, command) do update set ",
        claim_again!(),
        " returning attempt), \
         d as (delete from leasehold_command using f where id = $6 and cluster = $1 and artifact = $2) \
         select (select count(*) from f) as held, (select attempt from i) as attempt"
    ),
    claimed: None,
    taken: None,
    skip: concat!(
        fence!(),
        "i as (insert into leasehold_firing (cluster, artifact, slot, ordinal, token, attempt, node, finished_at, outcome) \
         select $1, $2, $5, $6, $3, 0, $7, now(), 'skipped' from f on conflict do nothing) \
         select (select count(*) from f) as held"
    ),
    // `from f`: without it the update would run whether the lease is held or not.
    retry: concat!(
        fence!(),
        "u as (update leasehold_firing r set due = $7, error = $8 from f where r.cluster = $1 and r.artifact = $2 \
         and r.slot = $5 and r.command = $6 and r.token = $3 and r.finished_at is null returning 1) \
         select (select count(*) from f) as held, (select count(*) from u) as written"
    ),
    complete: concat!(
        fence!(),
        "u as (update leasehold_firing r set finished_at = to_timestamp($7::bigint / 1000.0::float8), outcome = $8, \
         error = $9 from f where r.cluster = $1 and r.artifact = $2 and r.slot = $5 and r.command = $6 and r.token = $3 \
         and r.finished_at is null returning 1) \
         select (select count(*) from f) as held, (select count(*) from u) as written"
    ),
    refuse: concat!(
        fence!(),
        "d as (delete from leasehold_command using f where id = $5 and cluster = $1 and artifact = $2) \
         select (select count(*) from f) as held"
    ),
    trim: concat!(
        fence!(),
        "old as (select slot, command from leasehold_firing where cluster = $1 and artifact = $2 and slot < $5 \
         and finished_at is not null and (command <> 0 \
         or slot < (select max(slot) from leasehold_firing where cluster = $1 and artifact = $2 and command = 0)) \
         order by slot limit $6) \
         delete from leasehold_firing r using f, old where r.cluster = $1 and r.artifact = $2 and r.slot = old.slot \
         and r.command = old.command returning 1::bigint as held"
    ),
    old: None,
    held: "select 1 from leasehold_lease where cluster = $1 and artifact = $2 and token = $3 and holder = $4",
    unfinished: "select slot, command, due from leasehold_firing where cluster = $1 and artifact = $2 \
         and finished_at is null and token < $3 order by slot, command limit $4",
    last: "select slot, round(extract(epoch from finished_at) * 1000)::bigint as completed, ordinal from leasehold_firing \
         where cluster = $1 and artifact = $2 and command = 0 order by slot desc limit 1",
    commands: "select id, verb from leasehold_command where cluster = $1 and artifact = $2 order by id limit 1",
    node: "select node_id from leasehold_node where session = $1",
    history: "select slot, command, attempt, node, outcome, error, \
         round(extract(epoch from claimed_at) * 1000)::bigint as claimed, \
         round(extract(epoch from finished_at) * 1000)::bigint as finished from leasehold_firing \
         where cluster = $1 and artifact = $2 order by slot desc, command desc limit $3",
};
