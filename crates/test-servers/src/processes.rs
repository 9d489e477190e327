//! The processes of this machine: children of a process, and signals.
//!
//! Not here: starting them (`process_guard.rs`).

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::folder::output_of;

/// How long a wait may take, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// Interval at which a condition is checked.
const INTERVAL: Duration = Duration::from_millis(20);

/// The running children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    running().filter(|process| process.parent == parent).map(|process| process.id).collect()
}

/// Whether any of these processes is running.
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
    // A zombie has exited, and waits until its parent reaps it.
    (!fields.next()?.starts_with('Z')).then_some(process)
}

/// Sends a signal to processes. One that has already exited needs none, or its absence shows later.
pub(crate) fn signal(name: &str, ids: &[u32]) {
    // The shell's `kill`, because not every system has a program of that name.
    let mut command = Command::new("sh");
    command.args(["-c", "kill -s \"$0\" \"$@\" 2>/dev/null", name]);
    command.args(ids.iter().map(u32::to_string));
    command.status().expect("sh can be run");
}

/// Waits until a condition holds.
///
/// # Panics
///
/// If it takes too long, with the message of `timeout_message`.
#[expect(clippy::disallowed_methods, reason = "only for the timeout; no server gets this time")]
pub(crate) fn wait_until(
    mut condition: impl FnMut() -> bool,
    timeout_message: impl FnOnce() -> String,
) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "{}", timeout_message());
        thread::sleep(INTERVAL);
    }
}
