//! What a database must do to carry leases: every statement of the protocol, and each race of its design beside the twin
//! that loses it. It runs on a real server, for whoever meets leasehold's databases in a version, a service or behind a
//! proxy of their own.
//!
//! ```
//! mod suite {
//!     leasehold_testkit::conformance!(sqlite);
//!     // With a server that these variables name, whose user may create schemas or databases:
//!     # mod servers {}
//!     # #[cfg(any())]
//!     leasehold_testkit::conformance!(postgres, "MY_POSTGRES_URL");
//!     # #[cfg(any())]
//!     leasehold_testkit::conformance!(mysql, "MY_MARIADB_URL");
//! }
//! ```
//!
//! The crate that says so needs `tokio` with the features `macros` and `rt-multi-thread`.
// A case that fails panics, as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bed;
#[doc(hidden)]
#[cfg(feature = "sqlite")]
pub mod file;
#[doc(hidden)]
pub mod leases;
#[doc(hidden)]
pub mod messages;
#[doc(hidden)]
#[cfg(feature = "mysql")]
pub mod mysql_races;
#[doc(hidden)]
#[cfg(feature = "postgres")]
pub mod postgres_races;
#[doc(hidden)]
pub mod schema;
#[doc(hidden)]
pub mod sessions;

pub use bed::Bed;

/// The suite as tests, one per case: `conformance!(sqlite)`, `conformance!(postgres, "VARIABLE")` or
/// `conformance!(mysql, "VARIABLE")`, where the variable of the environment holds the server's URL. Needs the feature of
/// that name. MariaDB and MySQL both go by `mysql`.
#[macro_export]
macro_rules! conformance {
    (sqlite) => {
        $crate::conformance!(@all $crate::conformance::Bed::sqlite());
        $crate::conformance!(@cases $crate::conformance::Bed::sqlite();
            file::a_replaced_file_is_noticed,
            file::a_copy_of_the_file_is_another_incarnation,
            file::a_missing_folder_is_named_and_nothing_is_made,
        );
    };
    (postgres, $variable:expr) => {
        $crate::conformance!(@all $crate::conformance::Bed::on($variable));
        $crate::conformance!(@cases $crate::conformance::Bed::on($variable);
            postgres_races::a_sub_select_lets_a_stale_write_through,
            postgres_races::a_fenced_checkpoint_is_not_fooled,
            postgres_races::no_grant_comes_between_a_fenced_checkpoint_and_its_commit,
            postgres_races::a_fence_waits_for_a_grant_and_is_lost,
            postgres_races::a_fenced_lease_holds_up_nobody_else,
            postgres_races::locking_the_cluster_first_holds_up_everybody,
            postgres_races::the_server_ends_a_fenced_transaction_that_falls_silent,
            postgres_races::notifications_tell_of_assignments_and_not_of_renewals,
            postgres_races::a_new_cluster_in_counted_tables_gets_its_leases,
            postgres_races::a_lost_connection_is_an_error_once_and_then_mended,
            postgres_races::a_server_that_cannot_carry_leases_is_refused,
            postgres_races::renewals_are_heap_only_updates,
            postgres_races::a_connection_with_a_search_path_is_followed,
        );
    };
    (mysql, $variable:expr) => {
        $crate::conformance!(@all $crate::conformance::Bed::on($variable));
        $crate::conformance!(@cases $crate::conformance::Bed::on($variable);
            mysql_races::a_sub_select_lets_a_stale_write_through,
            mysql_races::a_fenced_checkpoint_is_not_fooled,
            mysql_races::a_fence_waits_for_a_grant_and_is_lost,
            mysql_races::a_fenced_lease_holds_up_nobody_else,
            mysql_races::a_grant_that_reads_the_node_delays_its_renewals,
            mysql_races::names_compare_bytewise,
        );
    };
    (@all $bed:expr) => {
        $crate::conformance!(@cases $bed;
            sessions::opening_makes_one_row,
            sessions::joins,
            sessions::renews_and_views,
            sessions::heads_are_the_leader_and_two,
            sessions::expires_only_an_unmoved_beat,
            sessions::elects_by_term,
            sessions::adopts,
            sessions::another_incarnation_is_refused,
            sessions::drains_deploys_leaves_and_evicts,
            sessions::fifty_nodes_join_at_once,
            sessions::who_asks_is_among_the_heads,
            sessions::forms_by_term,
            leases::registers,
            leases::the_newest_placement_counts,
            leases::grants_by_token,
            leases::grants_many,
            leases::hands_over,
            leases::reruns,
            leases::targets_and_desires,
            leases::keeps_out,
            leases::expiry_beside_a_grant_leaves_no_orphan,
            leases::checkpoints_are_fenced,
            leases::a_fence_holds_the_lease,
            leases::audits,
            leases::prefers_commands_and_forgets,
            messages::an_inbox_remembers_what_took_effect_and_nothing_else,
            messages::an_inbox_forgets_in_batches_what_is_old,
            schema::migrators_start_at_once,
            schema::a_newer_schema_stops_nobody,
            schema::tables_of_others_are_left_alone,
            schema::the_script_makes_the_whole_schema,
            schema::a_fence_needs_the_tables,
            schema::a_target_comes_from_a_connection,
            schema::clusters_of_one_schema_do_not_meet,
            schema::columns_are_added_while_nodes_run,
            schema::a_table_in_use_is_changed_later_and_holds_up_nobody,
            schema::a_column_that_is_there_already,
            schema::a_prepared_schema_needs_no_right_to_change_it,
        );
    };
    (@cases $bed:expr; $($module:ident::$case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::$module::$case($bed.await).await;
            }
        )*
    };
}
