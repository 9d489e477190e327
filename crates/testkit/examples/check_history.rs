//! Checks a history that was recorded to a file: `check_history FILE`.
//!
//! Exit status 0: no promise is broken, and the counts are printed. 1: the violations are printed. 2: the
//! file is no history.

use std::{fs::File, io::BufReader, process::ExitCode};

use vaultsync_testkit::history::{History, check, read};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: check_history FILE");
        return ExitCode::from(2);
    };
    let read = || -> Result<History, Box<dyn std::error::Error>> {
        Ok(History::new(&read(BufReader::new(File::open(&path)?))?)?)
    };
    match read().map(|history| check(&history)) {
        Ok(Ok(counts)) => {
            println!("{counts:#?}");
            ExitCode::SUCCESS
        }
        Ok(Err(violations)) => {
            for violation in &violations {
                println!("{violation}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{}: {error}", path.to_string_lossy());
            ExitCode::from(2)
        }
    }
}
