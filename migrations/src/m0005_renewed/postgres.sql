-- When a session was last renewed, for people: nothing is decided by it. Null for sessions of older programs.
-- Whoever waits for the table holds up all renewals: rather than that, it fails soon and is to be tried again.
set local lock_timeout = '200ms';
alter table leasehold_node add column renewed_at timestamptz;
set local lock_timeout = '60s';
