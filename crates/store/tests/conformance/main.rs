//! The conformance suite of the store's backends.
//!
//! Each case is an `async fn` that takes a new store. It is written once, and [`backends!`] makes it a test
//! for every backend, so that all backends meet the same contract. The compiler reports a case that is
//! missing from the macro as dead code.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/upgrade.rs"]
mod upgrade;

/// Makes each case a test for every backend, named `module::sqlite::case` and so on.
macro_rules! backends {
    ($($case:ident),+ $(,)?) => {
        backends!(@on sqlite, Sqlite, $($case),+);
        backends!(@on postgres, Postgres, $($case),+);
    };
    (@on $module:ident, $backend:ident, $($case:ident),+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let backend = $crate::support::Backend::$backend;
                    let case = async { super::$case($crate::dsl::open(backend).await).await };
                    let result = tokio::time::timeout($crate::dsl::CASE_MAX, case).await;
                    result.expect("the case ends in time");
                }
            )+
        }
    };
}

mod conflicts;
mod content;
mod dsl;
mod durability;
mod epochs;
mod erase;
mod followers;
mod gc;
mod guards;
mod history;
mod history_dsl;
mod history_reads;
mod manifest;
mod named_vaults;
mod paging;
mod quotas;
mod races;
mod receipts;
mod records_by_id;
mod retries;
mod revisions;
mod rewind;
mod rewind_model;
mod sqlite_damage;
mod sqlite_file;
mod sqlite_memory;
mod sqlite_replaced;
mod sqlite_threads;
mod sqlite_upgrade;
mod subscriptions;
mod time;
mod tombstones;
mod usage;
mod users;
mod version_check;
