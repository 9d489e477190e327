//! The processes of this machine: who is whose child, and signals to them.
//!
//! Not here: starting them (`process_guard.rs`).

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::folder::output_of;

/// The longest that anything may take, however busy the machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// How often it is looked whether it has come.
const INTERVAL: Duration = Duration::from_millis(20);

/// The children of that process that are there; those that ended do not count.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    running().filter(|process| process.parent == parent).map(|process| process.id).collect()
}

/// Whether any of them is there; those that ended do not count.
pub(crate) fn any_runs(ids: &[u32]) -> bool {
    running().any(|process| ids.contains(&process.id))
}

struct Process {
    id: u32,
    parent: u32,
}

fn running() -> impl Iterator<Item = Process> {
    let table = output_of(Command::new("ps").args("-A -o pid= -o ppid= -o stat=".split(' ')));
    let processes: Vec<_> = table.lines().filter_map(parse).collect();
    processes.into_iter()
}

fn parse(line: &str) -> Option<Process> {
    let mut fields = line.split_whitespace();
    let process =
        Process { id: fields.next()?.parse().ok()?, parent: fields.next()?.parse().ok()? };
    // A zombie has ended, and waits for its parent to be told.
    (!fields.next()?.starts_with('Z')).then_some(process)
}

/// Sends a signal to all of them. One that has ended meanwhile is what was wanted or shows later.
pub(crate) fn signal(name: &str, ids: &[u32]) {
    // The `kill` of the shell, since not every system has one of its own.
    let mut command = Command::new("sh");
    command.args(["-c", "kill -s \"$0\" \"$@\" 2>/dev/null", name]);
    command.args(ids.iter().map(u32::to_string));
    command.status().expect("sh can be run");
}

/// Waits until it is so.
///
/// # Panics
///
/// With what `otherwise` tells, where it takes too long.
#[expect(clippy::disallowed_methods, reason = "only to give up; no server is told the time")]
pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool, otherwise: impl FnOnce() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "{}", otherwise());
        thread::sleep(INTERVAL);
    }
}
