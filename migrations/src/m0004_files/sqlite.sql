-- Files that were handled and stay where they are, by the hash of their path.
create table leasehold_file (
    cluster text not null,
    artifact text not null,
    file blob not null,
    path text not null,
    tag text not null,
    size integer not null,
    modified integer not null,
    outcome text not null,
    reason text,
    token integer not null,
    at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (cluster, artifact, file)
) without rowid;
