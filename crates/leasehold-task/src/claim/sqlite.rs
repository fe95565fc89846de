//! Whoever writes holds the only write lock, so a condition in a writing statement is a fence.

use super::Texts;

macro_rules! lease {
    () => {
        "select 1 from leasehold_lease where cluster = ?1 and artifact = ?2 and token = ?3 and holder = ?4"
    };
}

pub(super) static TEXTS: Texts = Texts {
    // The trigger `leasehold_firing_command` takes the command away with the first claim.
    claim: concat!(
        "insert into leasehold_firing as old (cluster, artifact, slot, command, ordinal, token, attempt, node) \
         select ?1, ?2, ?5, ?6, ?7, ?3, 1, ?8 where exists (",
        lease!(),
        ") and (?6 = 0 or exists (select 1 from leasehold_command where id = ?6 and cluster = ?1 and artifact = ?2) \
         or exists (select 1 from leasehold_firing where cluster = ?1 and artifact = ?2 and slot = ?5 and command = ?6)) \
         on conflict (cluster, artifact, slot, command) do update set \
         attempt = old.attempt + (old.token < excluded.token or old.due is not null), \
         token = excluded.token, node = excluded.node, claimed_at = excluded.claimed_at, due = null \
         where old.finished_at is null and old.token <= excluded.token returning 1 as held, attempt"
    ),
    claimed: None,
    taken: None,
    skip: concat!(
        "insert into leasehold_firing (cluster, artifact, slot, ordinal, token, attempt, node, finished_at, outcome) \
         select ?1, ?2, ?5, ?6, ?3, 0, ?7, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), 'skipped' where exists (",
        lease!(),
        ") on conflict do nothing returning 1 as held"
    ),
    retry: concat!(
        "update leasehold_firing set due = ?7, error = ?8 where cluster = ?1 and artifact = ?2 and slot = ?5 \
         and command = ?6 and token = ?3 and finished_at is null and exists (",
        lease!(),
        ") returning 1 as held"
    ),
    complete: concat!(
        "update leasehold_firing set finished_at = strftime('%Y-%m-%dT%H:%M:%fZ', ?7 / 1000.0, 'unixepoch'), \
         outcome = ?8, error = ?9 where cluster = ?1 and artifact = ?2 and slot = ?5 and command = ?6 and token = ?3 \
         and finished_at is null and exists (",
        lease!(),
        ") returning 1 as held"
    ),
    refuse: concat!(
        "delete from leasehold_command where id = ?5 and cluster = ?1 and artifact = ?2 and exists (",
        lease!(),
        ") returning 1 as held"
    ),
    trim: concat!(
        "delete from leasehold_firing where cluster = ?1 and artifact = ?2 and exists (",
        lease!(),
        ") and (slot, command) in (select slot, command from leasehold_firing where cluster = ?1 and artifact = ?2 \
         and slot < ?5 and finished_at is not null and (command <> 0 \
         or slot < (select max(slot) from leasehold_firing where cluster = ?1 and artifact = ?2 and command = 0)) \
         order by slot limit ?6) returning 1 as held"
    ),
    old: None,
    held: lease!(),
    unfinished: "select slot, command, due from leasehold_firing where cluster = ?1 and artifact = ?2 \
         and finished_at is null and token < ?3 order by slot, command limit ?4",
    last: "select slot, cast(round(unixepoch(finished_at, 'subsec') * 1000) as integer) as completed, ordinal \
         from leasehold_firing where cluster = ?1 and artifact = ?2 and command = 0 order by slot desc limit 1",
    commands: "select id, verb from leasehold_command where cluster = ?1 and artifact = ?2 order by id limit 1",
    node: "select node_id from leasehold_node where session = ?1",
    history: "select slot, command, attempt, node, outcome, error, \
         cast(round(unixepoch(claimed_at, 'subsec') * 1000) as integer) as claimed, \
         cast(round(unixepoch(finished_at, 'subsec') * 1000) as integer) as finished from leasehold_firing \
         where cluster = ?1 and artifact = ?2 order by slot desc, command desc limit ?3",
};
