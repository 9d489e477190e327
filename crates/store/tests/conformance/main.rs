//! The suite that every backend of the store must pass.
//!
//! Each case is an `async fn` that takes a new store, written once and stamped once per backend by
//! [`backends!`], so that two backends can never be held to different promises. A case that is not
//! stamped is dead code, and the compiler says so.

#[path = "../support/mod.rs"]
mod support;

/// Makes the cases named into tests, one for each backend: `theme::sqlite::case`.
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
                    let ended = tokio::time::timeout($crate::dsl::CASE_MAX, case).await;
                    ended.expect("a case ends: this one waits for what never comes");
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
mod followers;
mod judging;
mod listening;
mod paging;
mod races;
mod receipts;
mod retries;
mod sqlite_file;
mod sqlite_threads;
mod time;
mod tombstones;
mod users;
