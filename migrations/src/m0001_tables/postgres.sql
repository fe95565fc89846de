-- Renewals touch only columns that no index covers, and a half-empty page has room for the next version:
-- so they are heap-only updates and the indexes do not bloat.
create table leasehold_cluster (
    name varchar(100) collate "C" not null primary key,
    revision bigint not null,
    term bigint not null,
    leader uuid,
    incarnation text not null,
    epoch bigint not null,
    max_ttl_ms bigint not null,
    formed bigint not null default 0,
    min_program bigint not null default 0
) with (fillfactor = 50);

create table leasehold_node (
    session uuid not null primary key,
    cluster varchar(100) collate "C" not null,
    node_id varchar(100) collate "C" not null,
    beat bigint not null default 0,
    pass bigint not null default 0,
    ttl_ms bigint not null,
    labels text not null default '{}',
    deployment uuid not null,
    draining boolean not null default false,
    evicted boolean not null default false,
    version text not null default '',
    joined_at timestamptz not null default now(),
    constraint leasehold_node_id unique (cluster, node_id)
) with (fillfactor = 50);
create index leasehold_node_session on leasehold_node (cluster, session);

-- Nothing but the lease: users' transactions lock these rows. Never deleted, because tokens never start anew.
create table leasehold_lease (
    cluster varchar(100) collate "C" not null,
    artifact varchar(100) collate "C" not null,
    holder uuid,
    token bigint not null default 0,
    primary key (cluster, artifact)
);
create index leasehold_lease_holder on leasehold_lease (cluster, holder);

create table leasehold_artifact (
    cluster varchar(100) collate "C" not null,
    name varchar(100) collate "C" not null,
    kind varchar(100) collate "C" not null,
    desired varchar(20) collate "C" not null default 'active',
    placement text not null,
    fingerprint uuid not null,
    preferred varchar(100) collate "C",
    target uuid,
    last_error text,
    changed_at timestamptz not null default now(),
    primary key (cluster, name)
);

create table leasehold_deployment (
    cluster varchar(100) collate "C" not null,
    hash uuid not null,
    artifact varchar(100) collate "C" not null,
    kind varchar(100) collate "C" not null,
    fingerprint uuid not null,
    placement text not null,
    primary key (cluster, hash, artifact)
);
create index leasehold_deployment_fingerprint on leasehold_deployment (cluster, artifact, fingerprint);

create table leasehold_command (
    id bigint generated always as identity primary key,
    cluster varchar(100) collate "C" not null,
    artifact varchar(100) collate "C" not null,
    verb varchar(100) collate "C" not null,
    args text not null default '{}',
    by_whom text not null default '',
    reason text not null default '',
    at timestamptz not null default now()
);
create index leasehold_command_artifact on leasehold_command (cluster, artifact, id);

create table leasehold_keepout (
    cluster varchar(100) collate "C" not null,
    artifact varchar(100) collate "C" not null,
    session uuid not null,
    failures bigint not null,
    until_beat bigint not null,
    error text not null default '',
    primary key (cluster, artifact, session)
);

create table leasehold_exclusion (
    cluster varchar(100) collate "C" not null,
    node_id varchar(100) collate "C" not null,
    by_whom text not null default '',
    reason text not null default '',
    at timestamptz not null default now(),
    primary key (cluster, node_id)
);

create table leasehold_checkpoint (
    cluster varchar(100) collate "C" not null,
    artifact varchar(100) collate "C" not null,
    key varchar(200) collate "C" not null,
    token bigint not null,
    value text not null,
    updated_at timestamptz not null default now(),
    primary key (cluster, artifact, key)
);

create table leasehold_firing (
    cluster varchar(100) collate "C" not null,
    artifact varchar(100) collate "C" not null,
    slot bigint not null, -- milliseconds since 1970
    command bigint not null default 0, -- that asked for it; 0: the schedule did
    ordinal bigint not null default 0, -- of the slots of the schedule
    token bigint not null,
    attempt bigint not null,
    node varchar(100) collate "C" not null,
    claimed_at timestamptz not null default now(),
    due bigint, -- milliseconds since 1970: it is tried again, not before
    finished_at timestamptz,
    outcome varchar(100) collate "C",
    error text,
    primary key (cluster, artifact, slot, command)
);
-- Interrupted firings are found without reading the history.
create index leasehold_firing_unfinished on leasehold_firing (cluster, artifact, slot) where finished_at is null;

create table leasehold_event (
    id bigint generated always as identity primary key,
    cluster varchar(100) collate "C" not null,
    at timestamptz not null default now(),
    kind varchar(100) collate "C" not null,
    node varchar(100) collate "C",
    artifact varchar(100) collate "C",
    token bigint,
    detail text not null default ''
);
create index leasehold_event_cluster on leasehold_event (cluster, id);
create index leasehold_event_at on leasehold_event (cluster, at);
