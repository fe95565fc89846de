-- When a session was last renewed, for people: nothing is decided by it. Null for sessions of older programs.
alter table leasehold_node add column renewed_at text;
