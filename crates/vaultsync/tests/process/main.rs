//! The binary as a process: start, service, stop and `kill -9`.

mod cluster;
#[cfg(target_os = "linux")]
mod descriptors;
mod kill;
mod kill_gc;
mod kill_maintenance;
#[cfg(target_os = "linux")]
mod log;
mod nodes;
mod serve;
#[cfg(target_os = "linux")]
mod signals;
mod support;
mod users;
