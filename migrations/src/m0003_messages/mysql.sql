create table if not exists leasehold_store (
    name varchar(100) collate utf8mb4_bin not null primary key,
    cluster varchar(100) collate utf8mb4_bin, -- of the one processor that reads it
    artifact varchar(100) collate utf8mb4_bin,
    made_at timestamp(3) not null default current_timestamp(3)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

-- Locked by appends that are to have an order among them; keys share these rows by their hash.
create table if not exists leasehold_store_order (
    bucket smallint not null primary key
) engine = InnoDB;
insert ignore into leasehold_store_order (bucket) values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15), (16), (17), (18), (19), (20), (21), (22), (23), (24), (25), (26), (27), (28), (29), (30), (31);

-- What is delivered is deleted, what is parked moves: what is here is not done yet.
create table if not exists leasehold_message (
    store varchar(100) collate utf8mb4_bin not null,
    id bigint not null auto_increment,
    message varchar(200) collate utf8mb4_bin not null, -- the id that its sender, or we, gave it
    order_key varchar(200) collate utf8mb4_bin, -- what its order goes by
    headers mediumtext not null,
    content_type varchar(200) collate utf8mb4_bin,
    body longblob not null,
    ordered bigint not null default 0, -- 1: appends of its key followed one another
    attempts bigint not null default 0,
    due bigint, -- milliseconds since 1970: not handed over before
    expires bigint, -- milliseconds since 1970: parked afterwards
    error text,
    appended_at bigint not null, -- milliseconds since 1970, by this database's clock
    primary key (store, id),
    index leasehold_message_id (id),
    index leasehold_message_key (store, order_key, id),
    index leasehold_message_due (store, due)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

create table if not exists leasehold_parked (
    store varchar(100) collate utf8mb4_bin not null,
    id bigint not null,
    message varchar(200) collate utf8mb4_bin not null,
    order_key varchar(200) collate utf8mb4_bin,
    headers mediumtext not null,
    content_type varchar(200) collate utf8mb4_bin,
    body longblob not null,
    attempts bigint not null,
    reason text not null,
    answer mediumtext, -- of the endpoint, if it gave one
    artifact varchar(100) collate utf8mb4_bin not null,
    token bigint not null,
    appended_at bigint not null, -- milliseconds since 1970, by this database's clock
    parked_at bigint not null,
    primary key (store, id),
    index leasehold_parked_at (store, parked_at)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;
