//! The goals, and whether a run reached them.

use std::fmt::Write as _;

use super::table::{BASE, Row, grouped, row};
use crate::{
    rounds::Sample,
    targets::{PG, SQLITE},
    workloads::Workload,
};

const DRIVER: &str = "limit: driver";
const SQLITE_1: &str = "limit: SQLite FULL, 1 request a commit";
const SQLITE_8: &str = "limit: SQLite FULL, 8 requests a commit";
const CEILING: &str = "ceiling";

/// The requirement of a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Requirement {
    /// At least this multiple of another target's rate.
    Times(f64, &'static str),
    P99MsAtMost(f64),
    CpuMicrosAtMost(f64),
    PeakMibAtMost(f64),
}

use Requirement::{CpuMicrosAtMost, P99MsAtMost, PeakMibAtMost, Times};

/// All goals. `docs/PERFORMANCE.md` says where they come from.
const GOALS: &[(Workload, &str, Requirement)] = &[
    (Workload::Push100, PG, Times(14.0, BASE)),
    (Workload::Push100, PG, Times(0.7, DRIVER)),
    (Workload::Push100, PG, P99MsAtMost(60.0)),
    (Workload::Push100, PG, CpuMicrosAtMost(20.0)),
    (Workload::Push100, PG, PeakMibAtMost(40.0)),
    (Workload::Push100, SQLITE, Times(8.0, BASE)),
    (Workload::Push100, SQLITE, Times(0.85, SQLITE_8)),
    (Workload::Push100, SQLITE, CpuMicrosAtMost(18.0)),
    (Workload::Push100, SQLITE, PeakMibAtMost(48.0)),
    (Workload::Update100, PG, Times(14.0, BASE)),
    (Workload::Update100, PG, Times(0.7, DRIVER)),
    (Workload::Update100, SQLITE, Times(8.0, BASE)),
    (Workload::Push1, PG, Times(4.0, BASE)),
    (Workload::Push1, PG, Times(0.8, DRIVER)),
    (Workload::Push1, SQLITE, Times(6.0, BASE)),
    (Workload::Push1, SQLITE, Times(2.0, SQLITE_1)),
    (Workload::Push1, SQLITE, P99MsAtMost(10.0)),
    (Workload::PullAll, PG, Times(5.0, BASE)),
    (Workload::PullAll, SQLITE, Times(6.0, BASE)),
    (Workload::PullAll, SQLITE, Times(0.6, CEILING)),
    (Workload::PullIdle, PG, Times(4.0, BASE)),
    (Workload::PullIdle, PG, Times(0.7, DRIVER)),
    (Workload::PullIdle, SQLITE, Times(10.0, BASE)),
    (Workload::PullIdle, SQLITE, Times(0.5, CEILING)),
    (Workload::Mixed, PG, Times(5.0, BASE)),
    (Workload::Mixed, SQLITE, Times(5.0, BASE)),
    (Workload::Mixed, SQLITE, P99MsAtMost(10.0)),
];

/// The measured value of a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measured {
    value: f64,
    reached: bool,
}

/// Compares a row with a requirement; `None` if a figure is missing.
fn compare(requirement: Requirement, row: &Row, other: Option<&Row>) -> Option<Measured> {
    let at_most = |value: f64, bound: f64| Measured { value, reached: value <= bound };
    Some(match requirement {
        Times(times, _) => {
            let value = row.rate / other.filter(|other| other.rate > 0.0)?.rate;
            Measured { value, reached: value >= times }
        }
        P99MsAtMost(bound) => at_most(row.p99_ms, bound),
        CpuMicrosAtMost(bound) => at_most(row.cpu_micros, bound),
        PeakMibAtMost(bound) => at_most(row.peak_mib?, bound),
    })
}

/// The table of all goals of measured targets.
pub(super) fn table(samples: &[Sample]) -> String {
    let mut text = String::from("\n### Goals\n\n| workload | target | goal | measured | |\n");
    text.push_str("| --- | --- | --- | --: | --- |\n");
    for (workload, target, requirement) in GOALS {
        let Some(own) = row(samples, *workload, target) else {
            continue;
        };
        let other = match requirement {
            Times(_, other) => row(samples, *workload, other),
            _ => None,
        };
        let measured = compare(*requirement, &own, other.as_ref());
        let (value, result) = match measured {
            Some(Measured { value, reached }) => (
                format_value(*requirement, value),
                if reached { "reached" } else { "**not reached**" },
            ),
            None => ("-".to_owned(), "not measured"),
        };
        let _ = writeln!(
            text,
            "| {} | {target} | {} | {value} | {result} |",
            workload.name(),
            describe(*requirement)
        );
    }
    text
}

fn describe(requirement: Requirement) -> String {
    match requirement {
        Times(times, other) => format!("at least {times} x {other}"),
        P99MsAtMost(bound) => format!("p99 at most {bound} ms"),
        CpuMicrosAtMost(bound) => format!("at most {bound} us of CPU per record"),
        PeakMibAtMost(bound) => format!("at most {bound} MiB"),
    }
}

fn format_value(requirement: Requirement, value: f64) -> String {
    match requirement {
        Times(..) => format!("{value:.2} x"),
        P99MsAtMost(_) => format!("{value:.1} ms"),
        CpuMicrosAtMost(_) => format!("{value:.1} us"),
        PeakMibAtMost(_) => format!("{} MiB", grouped(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(target: &'static str, rate: f64, p99_ms: f64) -> Sample {
        let (workload, cpu_micros) = (Workload::Push1, 1.0);
        Sample { target, workload, rate, p50_ms: 1.0, p99_ms, cpu_micros, peak_kib: Some(1024) }
    }

    #[test]
    fn a_goal_is_reached_at_its_bound_and_not_below() {
        let row = |rate, p99| row(&[sample(PG, rate, p99)], Workload::Push1, PG).unwrap();
        let base = row(10.0, 0.0);
        let reached =
            |goal, rate, p99| compare(goal, &row(rate, p99), Some(&base)).unwrap().reached;
        assert!(reached(Times(4.0, BASE), 40.0, 0.0));
        assert!(!reached(Times(4.0, BASE), 39.9, 0.0));
        assert!(reached(P99MsAtMost(10.0), 1.0, 10.0));
        assert!(!reached(P99MsAtMost(10.0), 1.0, 10.1));
        assert_eq!(compare(Times(4.0, BASE), &base, None), None);
        assert_eq!(
            compare(PeakMibAtMost(1.0), &base, None),
            Some(Measured { value: 1.0, reached: true })
        );
        assert!(!reached(CpuMicrosAtMost(0.9), 1.0, 1.0));
    }

    #[test]
    fn the_table_has_a_row_for_each_goal_of_a_measured_target() {
        let all = table(&[sample(PG, 40.0, 1.0), sample(BASE, 10.0, 1.0)]);
        assert!(
            all.contains(
                "| push1 | vaultsync-pg | at least 4 x node-baseline | 4.00 x | reached |"
            ),
            "{all}"
        );
        assert!(all.contains("at least 0.8 x limit: driver | - | not measured |"), "{all}");
        assert!(!all.contains(SQLITE), "{all}");
        let short = table(&[sample(PG, 39.0, 1.0), sample(BASE, 10.0, 1.0)]);
        assert!(short.contains("3.90 x | **not reached** |"), "{short}");
    }
}
