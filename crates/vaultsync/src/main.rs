//! The `vaultsync` command.
//!
//! Not here: anything but the way in.

mod cli;
mod data_dir;
mod greeting;
mod logging;
mod migrate;
mod serve;
mod settings;
mod token;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os(), std::env::vars_os().collect())
}
