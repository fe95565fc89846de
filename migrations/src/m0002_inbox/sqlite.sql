-- Messages that were handled, by id; ids compare bytewise.
create table leasehold_inbox (
    cluster text not null,
    inbox text not null,
    id blob not null,
    token integer not null,
    seen_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (cluster, inbox, id)
) without rowid;
create index leasehold_inbox_seen on leasehold_inbox (cluster, inbox, seen_at);
