-- Sessions are 16-byte blobs, which compare like the UUIDs they are; times are ISO 8601 text, for people only.
create table leasehold_cluster (
    name text not null primary key,
    revision integer not null,
    term integer not null,
    leader blob,
    incarnation text not null,
    epoch integer not null,
    max_ttl_ms integer not null,
    formed integer not null default 0,
    min_program integer not null default 0
);

create table leasehold_node (
    session blob not null primary key,
    cluster text not null,
    node_id text not null,
    beat integer not null default 0,
    pass integer not null default 0,
    ttl_ms integer not null,
    labels text not null default '{}',
    deployment blob not null,
    draining integer not null default 0,
    evicted integer not null default 0,
    version text not null default '',
    joined_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    constraint leasehold_node_id unique (cluster, node_id)
);
create index leasehold_node_session on leasehold_node (cluster, session);

-- Nothing but the lease: users' transactions lock these rows. Never deleted, because tokens never start anew.
create table leasehold_lease (
    cluster text not null,
    artifact text not null,
    holder blob,
    token integer not null default 0,
    primary key (cluster, artifact)
);
create index leasehold_lease_holder on leasehold_lease (cluster, holder);

create table leasehold_artifact (
    cluster text not null,
    name text not null,
    kind text not null,
    desired text not null default 'active',
    placement text not null,
    fingerprint blob not null,
    preferred text,
    target blob,
    last_error text,
    changed_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (cluster, name)
);

create table leasehold_deployment (
    cluster text not null,
    hash blob not null,
    artifact text not null,
    kind text not null,
    fingerprint blob not null,
    placement text not null,
    primary key (cluster, hash, artifact)
);
create index leasehold_deployment_fingerprint on leasehold_deployment (cluster, artifact, fingerprint);

create table leasehold_command (
    id integer primary key autoincrement,
    cluster text not null,
    artifact text not null,
    verb text not null,
    args text not null default '{}',
    by_whom text not null default '',
    reason text not null default '',
    at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
create index leasehold_command_artifact on leasehold_command (cluster, artifact, id);

create table leasehold_keepout (
    cluster text not null,
    artifact text not null,
    session blob not null,
    failures integer not null,
    until_beat integer not null,
    error text not null default '',
    primary key (cluster, artifact, session)
);

create table leasehold_exclusion (
    cluster text not null,
    node_id text not null,
    by_whom text not null default '',
    reason text not null default '',
    at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (cluster, node_id)
);

create table leasehold_checkpoint (
    cluster text not null,
    artifact text not null,
    key text not null,
    token integer not null,
    value text not null,
    updated_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (cluster, artifact, key)
);

create table leasehold_firing (
    cluster text not null,
    artifact text not null,
    slot integer not null, -- milliseconds since 1970
    command integer not null default 0, -- that asked for it; 0: the schedule did
    ordinal integer not null default 0, -- of the slots of the schedule
    token integer not null,
    attempt integer not null,
    node text not null,
    claimed_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    due integer, -- milliseconds since 1970: it is tried again, not before
    finished_at text,
    outcome text,
    error text,
    primary key (cluster, artifact, slot, command)
);
-- Interrupted firings are found without reading the history.
create index leasehold_firing_unfinished on leasehold_firing (cluster, artifact, slot) where finished_at is null;

-- A command is taken away by the first claim of its firing, in the same statement.
create trigger leasehold_firing_command after insert on leasehold_firing when new.command <> 0 begin
    delete from leasehold_command where id = new.command and cluster = new.cluster and artifact = new.artifact;
end;

create table leasehold_event (
    id integer primary key autoincrement,
    cluster text not null,
    at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    kind text not null,
    node text,
    artifact text,
    token integer,
    detail text not null default ''
);
create index leasehold_event_cluster on leasehold_event (cluster, id);
create index leasehold_event_at on leasehold_event (cluster, at);
