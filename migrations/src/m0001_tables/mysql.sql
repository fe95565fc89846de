-- For MariaDB and MySQL. Ids and keys compare bytewise; sessions are 16 bytes. A schema change commits by itself here, so
-- that each statement can be repeated.
create table if not exists leasehold_cluster (
    name varchar(100) collate utf8mb4_bin not null primary key,
    revision bigint not null,
    term bigint not null,
    leader binary(16),
    incarnation text not null,
    epoch bigint not null,
    max_ttl_ms bigint not null,
    formed bigint not null default 0,
    min_program bigint not null default 0
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

create table if not exists leasehold_node (
    session binary(16) not null primary key,
    cluster varchar(100) collate utf8mb4_bin not null,
    node_id varchar(100) collate utf8mb4_bin not null,
    beat bigint not null default 0,
    pass bigint not null default 0,
    ttl_ms bigint not null,
    labels longtext not null,
    deployment binary(16) not null,
    draining boolean not null default false,
    evicted boolean not null default false,
    version varchar(4000) not null default '',
    joined_at timestamp(3) not null default current_timestamp(3),
    constraint leasehold_node_id unique (cluster, node_id),
    index leasehold_node_session (cluster, session)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

-- Nothing but the lease: users' transactions lock these rows. Never deleted, because tokens never start anew.
create table if not exists leasehold_lease (
    cluster varchar(100) collate utf8mb4_bin not null,
    artifact varchar(100) collate utf8mb4_bin not null,
    holder binary(16),
    token bigint not null default 0,
    primary key (cluster, artifact),
    index leasehold_lease_holder (cluster, holder)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

create table if not exists leasehold_artifact (
    cluster varchar(100) collate utf8mb4_bin not null,
    name varchar(100) collate utf8mb4_bin not null,
    kind varchar(100) collate utf8mb4_bin not null,
    desired varchar(20) collate utf8mb4_bin not null default 'active',
    placement longtext not null,
    fingerprint binary(16) not null,
    preferred varchar(100) collate utf8mb4_bin,
    target binary(16),
    last_error text,
    changed_at timestamp(3) not null default current_timestamp(3),
    primary key (cluster, name)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

create table if not exists leasehold_deployment (
    cluster varchar(100) collate utf8mb4_bin not null,
    hash binary(16) not null,
    artifact varchar(100) collate utf8mb4_bin not null,
    kind varchar(100) collate utf8mb4_bin not null,
    fingerprint binary(16) not null,
    placement longtext not null,
    primary key (cluster, hash, artifact),
    index leasehold_deployment_fingerprint (cluster, artifact, fingerprint)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

create table if not exists leasehold_command (
    id bigint not null auto_increment primary key,
    cluster varchar(100) collate utf8mb4_bin not null,
    artifact varchar(100) collate utf8mb4_bin not null,
    verb varchar(100) collate utf8mb4_bin not null,
    args longtext not null,
    by_whom varchar(4000) not null default '',
    reason varchar(4000) not null default '',
    at timestamp(3) not null default current_timestamp(3),
    index leasehold_command_artifact (cluster, artifact, id)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

create table if not exists leasehold_keepout (
    cluster varchar(100) collate utf8mb4_bin not null,
    artifact varchar(100) collate utf8mb4_bin not null,
    session binary(16) not null,
    failures bigint not null,
    until_beat bigint not null,
    error text not null,
    primary key (cluster, artifact, session)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

create table if not exists leasehold_exclusion (
    cluster varchar(100) collate utf8mb4_bin not null,
    node_id varchar(100) collate utf8mb4_bin not null,
    by_whom varchar(4000) not null default '',
    reason varchar(4000) not null default '',
    at timestamp(3) not null default current_timestamp(3),
    primary key (cluster, node_id)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

create table if not exists leasehold_checkpoint (
    cluster varchar(100) collate utf8mb4_bin not null,
    artifact varchar(100) collate utf8mb4_bin not null,
    `key` varbinary(200) not null, -- users' names: this collation takes no notice of spaces at the end
    token bigint not null,
    value longtext not null,
    updated_at timestamp(3) not null default current_timestamp(3),
    primary key (cluster, artifact, `key`)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

create table if not exists leasehold_firing (
    cluster varchar(100) collate utf8mb4_bin not null,
    artifact varchar(100) collate utf8mb4_bin not null,
    slot bigint not null, -- milliseconds since 1970
    command bigint not null default 0, -- that asked for it; 0: the schedule did
    ordinal bigint not null default 0, -- of the slots of the schedule
    token bigint not null,
    attempt bigint not null,
    node varchar(100) collate utf8mb4_bin not null,
    claimed_at timestamp(3) not null default current_timestamp(3),
    due bigint, -- milliseconds since 1970: it is tried again, not before
    finished_at timestamp(3) null default null,
    outcome varchar(100) collate utf8mb4_bin,
    error text,
    primary key (cluster, artifact, slot, command),
    index leasehold_firing_unfinished (cluster, artifact, finished_at, slot)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

create table if not exists leasehold_event (
    id bigint not null auto_increment primary key,
    cluster varchar(100) collate utf8mb4_bin not null,
    at timestamp(3) not null default current_timestamp(3),
    kind varchar(100) collate utf8mb4_bin not null,
    node varchar(100) collate utf8mb4_bin,
    artifact varchar(100) collate utf8mb4_bin,
    token bigint,
    detail varchar(4000) not null default '',
    index leasehold_event_cluster (cluster, id),
    index leasehold_event_at (cluster, at)
) engine = InnoDB, default character set utf8mb4 collate utf8mb4_bin;

-- Emptied by every start of the server: its row tells one life of it from the next.
create table if not exists leasehold_life (
    id tinyint not null primary key,
    nonce char(36) character set utf8mb4 collate utf8mb4_bin not null
) engine = MEMORY;
