//! The comparison of this build with another one that ran in the same rounds.

use std::fmt::Write as _;

use crate::{
    report::table::grouped,
    rounds::Sample,
    tally::median,
    targets::{PG, PG_OTHER, SQLITE, SQLITE_OTHER},
    workloads::Workload,
};

const PAIRS: [(&str, &str); 2] = [(PG, PG_OTHER), (SQLITE, SQLITE_OTHER)];

/// The table of the comparison; empty if no other build was measured.
///
/// A change is the median over the rounds of this build's figure relative to the other's in the same round.
pub(super) fn table(samples: &[Sample]) -> String {
    let mut rows = String::new();
    for workload in Workload::ALL {
        for (this, other) in PAIRS {
            rows.push_str(&row(samples, workload, this, other).unwrap_or_default());
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "\n### This build compared with the other one\n\n\
         | workload | target | other build | this build | change | min..max | change of CPU time |\n\
         | --- | --- | --: | --: | --: | --: | --: |\n{rows}"
    )
}

fn row(samples: &[Sample], workload: Workload, this: &str, other: &str) -> Option<String> {
    let of = |target: &str, figure: fn(&Sample) -> f64| -> Vec<f64> {
        let own = |sample: &&Sample| sample.workload == workload && sample.target == target;
        samples.iter().filter(own).map(figure).collect()
    };
    let (rates, other_rates) = (of(this, |sample| sample.rate), of(other, |sample| sample.rate));
    let changes = changes(&rates, &other_rates);
    let cpu = |sample: &Sample| sample.cpu_micros;
    let cpu_change = median(self::changes(&of(this, cpu), &of(other, cpu)))?;
    let (min, max) = changes
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), one| (min.min(*one), max.max(*one)));
    let mut text = String::new();
    let _ = writeln!(
        text,
        "| {} | {this} | {} | {} | {:+.1} % | {min:+.1}..{max:+.1} % | {cpu_change:+.1} % |",
        workload.name(),
        grouped(median(other_rates)?),
        grouped(median(rates)?),
        median(changes)?,
    );
    Some(text)
}

/// The change in each round, in percent.
fn changes(this: &[f64], other: &[f64]) -> Vec<f64> {
    this.iter().zip(other).map(|(this, other)| (this / other - 1.0) * 100.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(target: &'static str, rate: f64, cpu_micros: f64) -> Sample {
        let workload = Workload::Push1;
        Sample { target, workload, rate, p50_ms: 1.0, p99_ms: 1.0, cpu_micros, peak_kib: None }
    }

    #[test]
    fn the_change_is_the_median_over_the_rounds() {
        let rounds = [(110.0, 100.0), (50.0, 50.0), (240.0, 200.0)];
        let samples: Vec<_> = rounds
            .iter()
            .flat_map(|(this, other)| [sample(PG, *this, 9.0), sample(PG_OTHER, *other, 10.0)])
            .collect();
        let table = table(&samples);
        let row = "| push1 | vaultsync-pg | 100 | 110 | +10.0 % | +0.0..+20.0 % | -10.0 % |";
        assert!(table.contains(row), "{table}");
        assert!(!table.contains(SQLITE), "{table}");
    }

    #[test]
    fn without_another_build_there_is_no_table() {
        assert_eq!(table(&[sample(PG, 1.0, 1.0)]), "");
    }
}
