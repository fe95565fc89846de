-- Messages that were handled, by id; ids compare bytewise.
create table if not exists leasehold_inbox (
    cluster varchar(100) collate utf8mb4_bin not null,
    inbox varchar(100) collate utf8mb4_bin not null,
    id varbinary(255) not null,
    token bigint not null,
    seen_at timestamp(3) not null default current_timestamp(3),
    primary key (cluster, inbox, id),
    index leasehold_inbox_seen (cluster, inbox, seen_at)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;
