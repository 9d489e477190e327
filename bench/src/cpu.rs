//! What processes cost: time of the processors, and memory, as Linux tells it in `/proc`.

use std::{collections::HashMap, fs, path::Path};

use anyhow::Context as _;

/// Of the clock that processes are charged by: 100 a second on every Linux that has not been built otherwise.
const TICK_MICROS: u64 = 10_000;

/// Processes with all their children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes(pub(crate) Vec<u32>);

struct Process {
    parent: u32,
    /// Its own ticks and those of its children that have ended.
    ticks: u64,
}

impl Processes {
    /// The time that they have had of all processors, in microseconds.
    pub(crate) fn cpu_micros(&self) -> anyhow::Result<u64> {
        let all = running()?;
        let is_ours = |mut id: u32| {
            while let Some(process) = all.get(&id) {
                if self.0.contains(&id) {
                    return true;
                }
                id = process.parent;
            }
            false
        };
        let ours = all.iter().filter(|(id, _)| is_ours(**id));
        Ok(ours.map(|(_, process)| process.ticks).sum::<u64>() * TICK_MICROS)
    }
}

fn running() -> anyhow::Result<HashMap<u32, Process>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").context("processes are counted by /proc, which Linux has")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile is charged to its parent.
        if let Some(process) =
            fs::read_to_string(entry.path().join("stat")).ok().as_deref().and_then(parse)
        {
            all.insert(id, process);
        }
    }
    Ok(all)
}

/// Reads a line of `/proc/PID/stat`: see `proc_pid_stat(5)`.
fn parse(line: &str) -> Option<Process> {
    // The name, in brackets, may hold anything.
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
    Some(Process { parent: fields.get(1)?.parse().ok()?, ticks: ticks.sum::<Result<_, _>>().ok()? })
}

/// The most memory that a process has had since [`forget_peak`], in KiB.
pub(crate) fn peak_kib(process: u32) -> Option<u64> {
    status(process, "VmHWM:")
}

/// The memory that a process has now, in KiB.
pub(crate) fn resident_kib(process: u32) -> Option<u64> {
    status(process, "VmRSS:")
}

fn status(process: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Begins the peak of a process anew. Where that is not allowed, the peak is of all its life.
pub(crate) fn forget_peak(process: u32) {
    let _ = fs::write(Path::new("/proc").join(process.to_string()).join("clear_refs"), "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_process_is_called() {
        let line = "12 (a) b (c) S 7 12 12 0 -1 4194304 1 2 3 4 10 20 3 4 20 0 1 0 5 6 7";
        let process = parse(line).unwrap();
        assert_eq!((process.parent, process.ticks), (7, 37));
        assert!(parse("12 (a) S").is_none());
    }

    #[test]
    fn this_process_has_memory() {
        let id = std::process::id();
        assert!(resident_kib(id).unwrap() > 0);
        assert!(peak_kib(id).unwrap() >= resident_kib(id).unwrap() / 2);
        Processes(vec![id]).cpu_micros().unwrap();
    }
}
