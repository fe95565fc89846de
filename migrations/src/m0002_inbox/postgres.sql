-- Messages that were handled, by id; ids compare bytewise.
create table leasehold_inbox (
    cluster text collate "C" not null,
    inbox text collate "C" not null,
    id bytea not null,
    token bigint not null,
    seen_at timestamptz not null default now(),
    primary key (cluster, inbox, id)
);
create index leasehold_inbox_seen on leasehold_inbox (cluster, inbox, seen_at);
