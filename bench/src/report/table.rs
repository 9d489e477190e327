//! A table for each workload.

use std::fmt::Write as _;

use super::Setting;
use crate::{rounds::Sample, tally::median, workloads::Workload};

/// The target that all are compared with.
pub(crate) const BASE: &str = "node-seed";

/// The medians of a target's windows of one workload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) target: &'static str,
    pub(crate) rate: f64,
    pub(crate) rate_min: f64,
    pub(crate) rate_max: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_micros: f64,
    pub(crate) peak_mib: Option<f64>,
}

/// The rows of a workload, fastest first.
pub(crate) fn rows(samples: &[Sample], workload: Workload) -> Vec<Row> {
    let mut targets: Vec<&'static str> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.workload == workload) {
        if !targets.contains(&sample.target) {
            targets.push(sample.target);
        }
    }
    let mut rows: Vec<Row> =
        targets.into_iter().filter_map(|target| row(samples, workload, target)).collect();
    rows.sort_by(|one, other| other.rate.total_cmp(&one.rate));
    rows
}

/// The row of a target; `None` where it did not do the workload.
pub(crate) fn row(samples: &[Sample], workload: Workload, target: &str) -> Option<Row> {
    let ours =
        || samples.iter().filter(|sample| sample.workload == workload && sample.target == target);
    let middle = |value: fn(&Sample) -> f64| median(ours().map(value));
    Some(Row {
        target: ours().next()?.target,
        rate: middle(|sample| sample.rate)?,
        rate_min: ours().map(|sample| sample.rate).fold(f64::INFINITY, f64::min),
        rate_max: ours().map(|sample| sample.rate).fold(0.0, f64::max),
        p50_ms: middle(|sample| sample.p50_ms)?,
        p99_ms: middle(|sample| sample.p99_ms)?,
        cpu_micros: middle(|sample| sample.cpu_micros)?,
        peak_mib: ours()
            .filter_map(|sample| sample.peak_kib)
            .max()
            .map(|kib| crate::rounds::number(kib) / 1024.0),
    })
}

/// All tables, each under a heading.
pub(crate) fn tables(setting: &Setting, samples: &[Sample]) -> String {
    let mut text = String::new();
    for workload in &setting.plan.workloads {
        table(&mut text, *workload, &rows(samples, *workload));
    }
    for note in &setting.notes {
        let _ = writeln!(text, "\n{note}");
    }
    text
}

fn table(text: &mut String, workload: Workload, rows: &[Row]) {
    let (unit, cost) = if workload.counts_requests() {
        ("requests/s", "us a request")
    } else {
        ("records/s", "us a record")
    };
    let base = rows.iter().find(|row| row.target == BASE).map(|row| row.rate);
    let _ = writeln!(text, "\n### {}\n\n{}\n", workload.name(), workload.sentence());
    let _ = writeln!(
        text,
        "| target | {unit} | min..max | x {BASE} | p50 ms | p99 ms | {cost} | peak MiB |"
    );
    let _ = writeln!(text, "| --- | --: | --: | --: | --: | --: | --: | --: |");
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {}..{} | {} | {:.2} | {:.2} | {:.1} | {} |",
            row.target,
            grouped(row.rate),
            grouped(row.rate_min),
            grouped(row.rate_max),
            base.map_or_else(|| "-".to_owned(), |base| format!("{:.1}", row.rate / base)),
            row.p50_ms,
            row.p99_ms,
            row.cpu_micros,
            row.peak_mib.map_or_else(|| "-".to_owned(), |mib| format!("{mib:.0}")),
        );
    }
}

/// A whole number with a comma between thousands.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (value, text) in
            [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (1_234_567.0, "1,234,567")]
        {
            assert_eq!(grouped(value), text);
        }
    }
}
