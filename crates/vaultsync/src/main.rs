//! The `vaultsync` command.

mod banner;
mod cli;
mod data_dir;
mod descriptors;
mod gc;
mod log_sink;
mod logging;
mod migrate;
mod serve;
mod settings;
mod signals;
mod stores;
mod token;
mod user;
mod user_export;
mod verify;

use std::process::ExitCode;

/// Allocator. Compared with the C library's, it takes a quarter less CPU time for a small push to
/// PostgreSQL and a third less for an empty pull. mimalloc gains as much and takes twice the memory.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run(std::env::args_os(), std::env::vars_os().collect())
}
