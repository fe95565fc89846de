-- When a session was last renewed, for people: nothing is decided by it. Null for sessions of older programs.
-- MySQL knows no "if not exists" here, and this may be repeated. Whoever waits for the table holds up all renewals: rather
-- than that, it fails after the shortest time that there is, and is to be tried again.
set session lock_wait_timeout = 1;
set @leasehold_step = if((select count(*) from information_schema.columns where table_schema = database()
    and table_name = 'leasehold_node' and column_name = 'renewed_at') = 0,
    'alter table leasehold_node add column renewed_at timestamp(3) null default null', 'do 0');
prepare leasehold_step from @leasehold_step;
execute leasehold_step;
deallocate prepare leasehold_step;
