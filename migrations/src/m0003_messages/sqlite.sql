create table leasehold_store (
    name text not null primary key,
    cluster text, -- of the one processor that reads it
    artifact text,
    made_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- What is delivered is deleted, what is parked moves: what is here is not done yet.
create table leasehold_message (
    id integer not null primary key autoincrement, -- an id is never given again
    store text not null,
    message text not null, -- the id that its sender, or we, gave it
    order_key text, -- what its order goes by
    headers text not null default '[]',
    content_type text,
    body blob not null,
    ordered integer not null default 0, -- 1: appends of its key followed one another
    attempts integer not null default 0,
    due integer, -- milliseconds since 1970: not handed over before
    expires integer, -- milliseconds since 1970: parked afterwards
    error text,
    appended_at integer not null -- milliseconds since 1970, by this database's clock
);
create index leasehold_message_store on leasehold_message (store, id);
create index leasehold_message_key on leasehold_message (store, order_key, id);
create index leasehold_message_due on leasehold_message (store, due) where due is not null;

create table leasehold_parked (
    store text not null,
    id integer not null,
    message text not null,
    order_key text,
    headers text not null,
    content_type text,
    body blob not null,
    attempts integer not null,
    reason text not null,
    answer text, -- of the endpoint, if it gave one
    artifact text not null,
    token integer not null,
    appended_at integer not null, -- milliseconds since 1970, by this database's clock
    parked_at integer not null,
    primary key (store, id)
);
create index leasehold_parked_at on leasehold_parked (store, parked_at);
