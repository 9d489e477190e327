//! Random histories, compared with a reference model of the contract.
//!
//! Devices of two users push and pull at random, with guards, quotas, epochs and `since`, in default and named
//! vaults; meanwhile time passes, tombstones and replaced versions are removed, and vaults are erased. Every
//! response must equal the model's. At the end each device that follows its cursor must have the model's records,
//! and so must every other way to read them. `PROPTEST_CASES` sets the number of histories.

#[path = "model/drafts.rs"]
mod drafts;
#[path = "model/follower.rs"]
mod follower;
#[path = "model/maintenance.rs"]
mod maintenance;
#[path = "model/reads.rs"]
mod reads;
#[path = "model/record.rs"]
mod record;
#[path = "model/reference.rs"]
mod reference;
#[path = "model/steps.rs"]
mod steps;
#[path = "support/mod.rs"]
mod support;
#[path = "model/system.rs"]
mod system;

use proptest::test_runner::Config;
use proptest_state_machine::{StateMachineTest, prop_state_machine};

use self::{
    steps::{Reference, State, Step},
    support::Backend,
    system::System,
};

/// Tests one backend with random histories.
macro_rules! histories {
    ($name:ident, $test:ident, $backend:expr) => {
        struct $name;

        impl StateMachineTest for $name {
            type SystemUnderTest = System;
            type Reference = Reference;

            fn init_test(state: &State) -> System {
                System::new($backend, state)
            }

            fn apply(system: System, model: &State, step: Step) -> System {
                system.apply(model, &step)
            }

            fn teardown(system: System, model: State) {
                system.finish(&model);
            }
        }

        prop_state_machine! {
            #![proptest_config(Config {
                failure_persistence: None,
                max_shrink_iters: 2_000,
                ..Config::with_cases(cases())
            })]

            #[test]
            fn $test(sequential 1..=80 => $name);
        }
    };
}

histories!(OnSqlite, sqlite_responds_to_any_history_as_the_model_does, Backend::Sqlite);
histories!(OnPostgres, postgres_responds_to_any_history_as_the_model_does, Backend::Postgres);

/// The number of histories: 40, or `PROPTEST_CASES`.
fn cases() -> u32 {
    let configured = std::env::var_os("PROPTEST_CASES").map(|_| Config::default().cases);
    configured.unwrap_or(40)
}
