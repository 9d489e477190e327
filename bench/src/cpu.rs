//! CPU time and memory of processes, from Linux's `/proc`.

use std::{collections::HashMap, fs, path::Path};

use anyhow::Context as _;

/// Length of a clock tick of `/proc/PID/stat`: 100 per second in Linux's default configuration.
const TICK_MICROS: u64 = 10_000;

/// A set of processes, including all their children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes(pub(crate) Vec<u32>);

struct Process {
    parent: u32,
    /// Its own ticks and those of its children that have exited.
    ticks: u64,
}

impl Processes {
    /// Their CPU time on all processors, in microseconds.
    pub(crate) fn cpu_micros(&self) -> anyhow::Result<u64> {
        let all = running()?;
        let is_included = |mut id: u32| {
            while let Some(process) = all.get(&id) {
                if self.0.contains(&id) {
                    return true;
                }
                id = process.parent;
            }
            false
        };
        let included = all.iter().filter(|(id, _)| is_included(**id));
        Ok(included.map(|(_, process)| process.ticks).sum::<u64>() * TICK_MICROS)
    }
}

fn running() -> anyhow::Result<HashMap<u32, Process>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").context("the benchmark needs /proc, which only Linux has")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // The ticks of a process that has exited meanwhile are added to its parent's.
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
    // The name in parentheses may contain any characters.
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
    Some(Process { parent: fields.get(1)?.parse().ok()?, ticks: ticks.sum::<Result<_, _>>().ok()? })
}

/// The peak memory of a process since [`reset_peak`], in KiB.
pub(crate) fn peak_kib(process: u32) -> Option<u64> {
    status(process, "VmHWM:")
}

/// The resident memory of a process, in KiB.
pub(crate) fn resident_kib(process: u32) -> Option<u64> {
    status(process, "VmRSS:")
}

fn status(process: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Resets the peak memory of a process. If that is not permitted, the peak covers its whole lifetime.
pub(crate) fn reset_peak(process: u32) {
    let _ = fs::write(Path::new("/proc").join(process.to_string()).join("clear_refs"), "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_parsed_whatever_the_process_is_named() {
        let line = "12 (a) b (c) S 7 12 12 0 -1 4194304 1 2 3 4 10 20 3 4 20 0 1 0 5 6 7";
        let process = parse(line).unwrap();
        assert_eq!((process.parent, process.ticks), (7, 37));
        assert!(parse("12 (a) S").is_none());
    }

    #[test]
    fn memory_and_cpu_time_of_this_process_can_be_read() {
        let id = std::process::id();
        assert!(resident_kib(id).unwrap() > 0);
        assert!(peak_kib(id).unwrap() >= resident_kib(id).unwrap() / 2);
        Processes(vec![id]).cpu_micros().unwrap();
    }
}
