-- Files that were handled and stay where they are, by the hash of their path.
create table if not exists leasehold_file (
    cluster varchar(100) collate utf8mb4_bin not null,
    artifact varchar(100) collate utf8mb4_bin not null,
    file varbinary(16) not null,
    path text not null,
    tag text not null,
    size bigint not null,
    modified bigint not null,
    outcome varchar(20) not null,
    reason text,
    token bigint not null,
    at timestamp(3) not null default current_timestamp(3),
    primary key (cluster, artifact, file)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;
