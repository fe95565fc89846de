//! Whoever writes holds the only write lock, so a condition in a writing statement is a fence.

use super::Texts;

macro_rules! lease {
    () => {
        "select 1 from leasehold_lease where cluster = ?1 and artifact = ?2 and token = ?3 and holder = ?4"
    };
}

pub(super) static TEXTS: Texts = Texts {
    claim: concat!(
        "insert into leasehold_firing as old (cluster, artifact, slot, token, attempt, node) \
         select ?1, ?2, ?5, ?3, 1, ?6 where exists (",
        lease!(),
        ") on conflict (cluster, artifact, slot) do update set \
         attempt = old.attempt + (old.token < excluded.token), token = excluded.token, node = excluded.node, \
         claimed_at = excluded.claimed_at \
         where old.finished_at is null and old.token <= excluded.token returning 1 as held, attempt"
    ),
    complete: concat!(
        "update leasehold_firing set finished_at = strftime('%Y-%m-%dT%H:%M:%fZ', ?6 / 1000.0, 'unixepoch'), \
         outcome = ?7, error = ?8 where cluster = ?1 and artifact = ?2 and slot = ?5 and token = ?3 \
         and finished_at is null and exists (",
        lease!(),
        ") returning 1 as held"
    ),
    trim: concat!(
        "delete from leasehold_firing where cluster = ?1 and artifact = ?2 and exists (",
        lease!(),
        ") and slot in (select slot from leasehold_firing where cluster = ?1 and artifact = ?2 and slot < ?5 \
         and finished_at is not null \
         and slot < (select max(slot) from leasehold_firing where cluster = ?1 and artifact = ?2) \
         order by slot limit ?6) returning 1 as held"
    ),
    held: lease!(),
    unfinished: "select slot from leasehold_firing where cluster = ?1 and artifact = ?2 and finished_at is null \
         and token < ?3 order by slot limit ?4",
    last: "select slot, cast(round(unixepoch(finished_at, 'subsec') * 1000) as integer) as completed \
         from leasehold_firing where cluster = ?1 and artifact = ?2 order by slot desc limit 1",
    node: "select node_id from leasehold_node where session = ?1",
};
