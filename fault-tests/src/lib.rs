//! Scenarios of faults: the built server under load, with something broken on the way, and the
//! judgement of what came of it. `cargo xtask faults` runs them.
//!
//! A scenario is one file in `scenarios/`, and shows one thing. What clients were told is written down
//! as a history, and the checker of `vaultsync-testkit` decides from it whether the promises were kept.
//!
//! Not here: the checker, and expectations about time that a busy machine could not meet.

#![cfg(target_os = "linux")]

pub mod faults;
pub mod judge;
pub mod load;
pub mod process;
pub mod report;
pub mod scenario;
pub mod scenarios;
pub mod shell;

pub use scenario::{Scale, Scenario, ScenarioContext, ScenarioReport};
