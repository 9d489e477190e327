//! The table of a workload.

use std::fmt::Write as _;

use crate::{rounds::Sample, tally::median, workloads::Workload};

/// The target that all others are compared with.
pub(crate) const BASE: &str = "node-baseline";

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

/// The row of a target; `None` if it has not run the workload.
pub(crate) fn row(samples: &[Sample], workload: Workload, target: &str) -> Option<Row> {
    let own =
        || samples.iter().filter(|sample| sample.workload == workload && sample.target == target);
    let middle = |value: fn(&Sample) -> f64| median(own().map(value));
    Some(Row {
        target: own().next()?.target,
        rate: middle(|sample| sample.rate)?,
        rate_min: own().map(|sample| sample.rate).fold(f64::INFINITY, f64::min),
        rate_max: own().map(|sample| sample.rate).fold(0.0, f64::max),
        p50_ms: middle(|sample| sample.p50_ms)?,
        p99_ms: middle(|sample| sample.p99_ms)?,
        cpu_micros: middle(|sample| sample.cpu_micros)?,
        peak_mib: own()
            .filter_map(|sample| sample.peak_kib)
            .max()
            .map(|kib| crate::rounds::to_f64(kib) / 1024.0),
    })
}

/// The table of a workload, with a heading. The last columns compare with the limits and the ceiling.
pub(super) fn table(workload: Workload, rows: &[Row]) -> String {
    let (unit, cost) = if workload.counts_requests() {
        ("requests/s", "us per request")
    } else {
        ("records/s", "us per record")
    };
    let rate_of = |target: &str| rows.iter().find(|row| row.target == target).map(|row| row.rate);
    let limits = limits(rows);
    let mut text = format!("\n### {}\n\n{}\n\n", workload.name(), workload.description());
    let _ = write!(
        text,
        "| target | {unit} | min..max | p50 ms | p99 ms | {cost} | peak MiB | x {BASE} |"
    );
    for limit in &limits {
        text.extend([" of ", limit, " |"]);
    }
    text.push_str("\n| --- | --: | --: | --: | --: | --: | --: | --: |");
    text.push_str(&" --: |".repeat(limits.len()));
    for row in rows {
        let _ = write!(
            text,
            "\n| {} | {} | {}..{} | {:.2} | {:.2} | {:.1} | {} | {} |",
            row.target,
            grouped(row.rate),
            grouped(row.rate_min),
            grouped(row.rate_max),
            row.p50_ms,
            row.p99_ms,
            row.cpu_micros,
            row.peak_mib.map_or_else(|| "-".to_owned(), grouped),
            ratio(row.rate, rate_of(BASE)),
        );
        for limit in &limits {
            let ratio = if row.target.starts_with("vaultsync") {
                ratio(row.rate, rate_of(limit))
            } else {
                "-".to_owned()
            };
            let _ = write!(text, " {ratio} |");
        }
    }
    text.push('\n');
    text
}

/// The limits and the ceiling among the rows.
fn limits(rows: &[Row]) -> Vec<&'static str> {
    let targets = rows.iter().map(|row| row.target);
    targets.filter(|target| target.starts_with("limit") || *target == "ceiling").collect()
}

/// The ratio to another rate; `-` if there is none.
fn ratio(rate: f64, other: Option<f64>) -> String {
    let times = other.filter(|other| *other > 0.0).map(|other| rate / other);
    times.map_or_else(|| "-".to_owned(), |times| format!("{times:.2}"))
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

    fn sample(target: &'static str, rate: f64) -> Sample {
        let workload = Workload::Push1;
        let (p50_ms, p99_ms, cpu_micros) = (1.0, 2.0, 3.0);
        Sample { target, workload, rate, p50_ms, p99_ms, cpu_micros, peak_kib: Some(2048) }
    }

    #[test]
    fn a_row_has_the_median_and_the_range_of_its_windows() {
        let samples = [30.0, 10.0, 20.0].map(|rate| sample("vaultsync-pg", rate));
        let row = row(&samples, Workload::Push1, "vaultsync-pg").unwrap();
        assert_eq!((row.rate, row.rate_min, row.rate_max), (20.0, 10.0, 30.0));
        assert_eq!(row.peak_mib, Some(2.0));
    }

    #[test]
    fn a_table_has_ratios_to_the_baseline_and_to_each_limit() {
        let samples = [sample(BASE, 10.0), sample("vaultsync-pg", 40.0), sample("ceiling", 80.0)];
        let text = table(Workload::Push1, &rows(&samples, Workload::Push1));
        assert!(text.contains("| x node-baseline | of ceiling |"), "{text}");
        assert!(
            text.contains("| vaultsync-pg | 40 | 40..40 | 1.00 | 2.00 | 3.0 | 2 | 4.00 | 0.50 |"),
            "{text}"
        );
        assert!(
            text.contains("| ceiling | 80 | 80..80 | 1.00 | 2.00 | 3.0 | 2 | 8.00 | - |"),
            "{text}"
        );
        assert_eq!(ratio(1.0, Some(0.0)), "-");
    }
}
