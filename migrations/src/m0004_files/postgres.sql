-- Files that were handled and stay where they are, by the hash of their path.
create table leasehold_file (
    cluster text collate "C" not null,
    artifact text collate "C" not null,
    file bytea not null,
    path text not null,
    tag text not null,
    size bigint not null,
    modified bigint not null,
    outcome text not null,
    reason text,
    token bigint not null,
    at timestamptz not null default now(),
    primary key (cluster, artifact, file)
);
