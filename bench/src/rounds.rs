//! Rounds: in each round, all targets run a workload before the next workload starts, so that other
//! activity of the machine affects all of them alike.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    cpu::{peak_kib, reset_peak},
    record_ids::RecordIds,
    tally::percentile,
    targets::Target,
    workloads::Workload,
};

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) clients: usize,
    pub(crate) ids: RecordIds,
}

/// The figures of one target in one window.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) target: &'static str,
    pub(crate) workload: Workload,
    /// Records per second, or requests per second if the workload counts those.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// CPU time of server and database per record, or per request.
    pub(crate) cpu_micros: f64,
    /// Peak memory of the server.
    pub(crate) peak_kib: Option<u64>,
}

/// Runs a plan, and prints each window to standard error.
///
/// Every second round runs the targets in reverse order, so that work that one target leaves behind does not
/// always fall into the window of the same other target.
pub(crate) fn run(plan: &Plan, mut targets: Vec<Box<dyn Target>>) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for round in 1..=plan.rounds {
        for workload in &plan.workloads {
            for target in targets.iter_mut().filter(|target| target.supports(*workload)) {
                let name = target.name();
                let sample = prepare_and_measure(plan, target.as_mut(), *workload)
                    .with_context(|| format!("{name} fails at {}", workload.name()))?;
                eprintln!(
                    "round {round} {:<10} {name:<42} {:>10.0}/s  p50 {:>8.2} ms  p99 {:>8.2} ms  {:>8.1} us",
                    workload.name(),
                    sample.rate,
                    sample.p50_ms,
                    sample.p99_ms,
                    sample.cpu_micros,
                );
                samples.push(sample);
            }
        }
        targets.reverse();
    }
    Ok(samples)
}

fn prepare_and_measure(
    plan: &Plan,
    target: &mut dyn Target,
    workload: Workload,
) -> anyhow::Result<Sample> {
    target.prepare(workload, plan.clients)?;
    measure(plan, target, workload)
}

/// Measures one window of a prepared target, after a warm-up.
pub(crate) fn measure(
    plan: &Plan,
    target: &mut dyn Target,
    workload: Workload,
) -> anyhow::Result<Sample> {
    let time = Duration::from_secs(plan.seconds.into());
    target.run(workload, (time / 4).min(Duration::from_secs(1)))?;
    if let Some(server) = target.server() {
        reset_peak(server);
    }
    let processes = target.processes();
    let before = processes.cpu_micros()?;
    let mut tally = target.run(workload, time)?;
    let cpu_micros = processes.cpu_micros()?.saturating_sub(before);
    tally.micros.sort_unstable();
    let count = if workload.counts_requests() { tally.requests() } else { tally.records };
    let millis = |per_cent| f64::from(percentile(&tally.micros, per_cent)) / 1000.0;
    Ok(Sample {
        target: target.name(),
        workload,
        rate: to_f64(count) / tally.elapsed.as_secs_f64(),
        p50_ms: millis(50),
        p99_ms: millis(99),
        cpu_micros: to_f64(cpu_micros) / to_f64(count.max(1)),
        peak_kib: target.server().and_then(peak_kib),
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far smaller than 2^53")]
pub(crate) const fn to_f64(count: u64) -> f64 {
    count as f64
}
