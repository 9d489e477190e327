//! Fault scenarios: the built server under load, with a fault injected, and a check of the outcome.
//! `cargo xtask faults` runs them.
//!
//! A scenario is one file in `scenarios/`, and shows one thing. Clients record their requests and the
//! responses as a history, and the checker of `vaultsync-testkit` decides from it whether the promises were
//! kept.
//!
//! Not here: the checker; expectations about time that a busy machine could not meet.

#![cfg(target_os = "linux")]

pub mod faults;
pub mod http;
pub mod report;
pub mod scenario;
pub mod scenarios;
pub mod shell;
pub mod verify;
pub mod workload;

pub use scenario::{Scale, Scenario, ScenarioContext, ScenarioReport};
