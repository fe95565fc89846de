//! What the store promises, on SQLite always, and with the features `test-postgres`, `test-mariadb` and `test-mysql` on real
//! servers.

// Helpers outside of test functions may fail like tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "store/bed.rs"]
mod bed;
#[path = "store/cases.rs"]
mod cases;
#[cfg(feature = "sqlite")]
#[path = "store/file.rs"]
mod file;
#[path = "store/leases.rs"]
mod leases;
#[cfg(any(feature = "test-mariadb", feature = "test-mysql"))]
#[path = "store/mysql_races.rs"]
mod mysql_races;
#[cfg(feature = "test-postgres")]
#[path = "store/races.rs"]
mod races;
#[path = "store/schema.rs"]
mod schema;

macro_rules! on_each_database {
    ($($case:path => $name:ident),* $(,)?) => {
        #[cfg(feature = "sqlite")]
        on_each_database!(sqlite: $($case => $name),*);
        #[cfg(feature = "test-postgres")]
        on_each_database!(postgres: $($case => $name),*);
        #[cfg(feature = "test-mariadb")]
        on_each_database!(mariadb: $($case => $name),*);
        #[cfg(feature = "test-mysql")]
        on_each_database!(mysql: $($case => $name),*);
    };
    ($database:ident: $($case:path => $name:ident),*) => {
        on_each_database!($database: $database $($case => $name),*);
    };
    ($database:ident: $module:ident $($case:path => $name:ident),*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $case(super::bed::Bed::$database().await).await;
            })*
        }
    };
}

on_each_database! {
    crate::cases::opening_makes_one_row => opening_makes_one_row,
    crate::cases::joins => joins,
    crate::cases::renews_and_views => renews_and_views,
    crate::cases::heads_are_the_leader_and_two => heads_are_the_leader_and_two,
    crate::cases::expires_only_an_unmoved_beat => expires_only_an_unmoved_beat,
    crate::cases::elects_by_term => elects_by_term,
    crate::cases::adopts => adopts,
    crate::cases::another_incarnation_is_refused => another_incarnation_is_refused,
    crate::cases::drains_deploys_leaves_and_evicts => drains_deploys_leaves_and_evicts,
    crate::cases::fifty_nodes_join_at_once => fifty_nodes_join_at_once,
    crate::cases::who_asks_is_among_the_heads => who_asks_is_among_the_heads,
    crate::cases::forms_by_term => forms_by_term,
    crate::leases::prefers_commands_and_forgets => prefers_commands_and_forgets,
    crate::leases::registers => registers,
    crate::leases::the_newest_placement_counts => the_newest_placement_counts,
    crate::leases::grants_by_token => grants_by_token,
    crate::leases::grants_many => grants_many,
    crate::leases::hands_over => hands_over,
    crate::leases::reruns => reruns,
    crate::leases::targets_and_desires => targets_and_desires,
    crate::leases::keeps_out => keeps_out,
    crate::leases::expiry_beside_a_grant_leaves_no_orphan => expiry_beside_a_grant_leaves_no_orphan,
    crate::leases::checkpoints_are_fenced => checkpoints_are_fenced,
    crate::leases::a_fence_holds_the_lease => a_fence_holds_the_lease,
    crate::leases::audits => audits,
    crate::schema::migrators_start_at_once => migrators_start_at_once,
    crate::schema::a_newer_schema_stops_nobody => a_newer_schema_stops_nobody,
    crate::schema::tables_of_others_are_left_alone => tables_of_others_are_left_alone,
    crate::schema::the_script_makes_the_whole_schema => the_script_makes_the_whole_schema,
    crate::schema::a_fence_needs_the_tables => a_fence_needs_the_tables,
    crate::schema::a_target_comes_from_a_connection => a_target_comes_from_a_connection,
}

#[cfg(any(feature = "test-mariadb", feature = "test-mysql"))]
macro_rules! on_mariadb_and_mysql {
    ($($name:ident),* $(,)?) => {
        #[cfg(feature = "test-mariadb")]
        on_each_database!(mariadb: races_of_mariadb $(crate::mysql_races::$name => $name),*);
        #[cfg(feature = "test-mysql")]
        on_each_database!(mysql: races_of_mysql $(crate::mysql_races::$name => $name),*);
    };
}

#[cfg(any(feature = "test-mariadb", feature = "test-mysql"))]
on_mariadb_and_mysql! {
    a_sub_select_lets_a_stale_write_through,
    a_fenced_checkpoint_is_not_fooled,
    a_fence_waits_for_a_grant_and_is_lost,
    a_fenced_lease_holds_up_nobody_else,
    a_grant_that_reads_the_node_delays_its_renewals,
    names_compare_bytewise,
}
