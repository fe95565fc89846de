create table leasehold_store (
    name varchar(100) collate "C" not null primary key,
    cluster varchar(100) collate "C", -- of the one processor that reads it
    artifact varchar(100) collate "C",
    made_at timestamptz not null default now()
);

-- What is delivered is deleted, what is parked moves: what is here is not done yet.
create table leasehold_message (
    store varchar(100) collate "C" not null,
    id bigint generated always as identity,
    message varchar(200) collate "C" not null, -- the id that its sender, or we, gave it
    order_key varchar(200) collate "C", -- what its order goes by
    headers text not null default '[]',
    content_type varchar(200) collate "C",
    body bytea not null,
    ordered bigint not null default 0, -- 1: appends of its key followed one another
    attempts bigint not null default 0,
    due bigint, -- milliseconds since 1970: not handed over before
    expires bigint, -- milliseconds since 1970: parked afterwards
    error text,
    appended_at bigint not null, -- milliseconds since 1970, by this database's clock
    primary key (store, id)
);
create index leasehold_message_key on leasehold_message (store, order_key, id);
create index leasehold_message_due on leasehold_message (store, due) where due is not null;
-- Rows live for a moment: by the defaults of autovacuum a queue would carry a fifth of its history along.
alter table leasehold_message set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000
);

create table leasehold_parked (
    store varchar(100) collate "C" not null,
    id bigint not null,
    message varchar(200) collate "C" not null,
    order_key varchar(200) collate "C",
    headers text not null,
    content_type varchar(200) collate "C",
    body bytea not null,
    attempts bigint not null,
    reason text not null,
    answer text, -- of the endpoint, if it gave one
    artifact varchar(100) collate "C" not null,
    token bigint not null,
    appended_at bigint not null, -- milliseconds since 1970, by this database's clock
    parked_at bigint not null,
    primary key (store, id)
);
create index leasehold_parked_at on leasehold_parked (store, parked_at);
