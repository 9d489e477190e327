//! Scenarios: the built server under load, with a fault injected or in a deployment of another kind, and a
//! check of the outcome. `cargo xtask faults` and `cargo xtask deployments` run them.
//!
//! A fault is one file in `scenarios/`, and a deployment one file in `deployments/`. Clients record their requests and the
//! responses as a history, and the checker of `vaultsync-testkit` decides from it whether the promises were
//! kept.
//!
//! Not here: the checker; expectations about time that a busy machine could not meet.

#![cfg(target_os = "linux")]

pub mod deployments;
pub mod faults;
pub mod http;
pub mod report;
pub mod scenario;
pub mod scenarios;
pub mod shell;
pub mod verify;
pub mod version_0_2;
pub mod workload;

pub use scenario::{Scale, Scenario, ScenarioContext, ScenarioReport};
