//! The counts and times of a window.

use std::time::Duration;

/// The requests of clients in a window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    /// The duration of each request in microseconds.
    pub(crate) micros: Vec<u32>,
    pub(crate) elapsed: Duration,
}

impl Tally {
    /// Adds a request.
    pub(crate) fn add_request(&mut self, took: Duration, records: u64) {
        self.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        self.records += records;
    }

    pub(crate) fn requests(&self) -> u64 {
        self.micros.len() as u64
    }

    /// Adds the requests of another client in the same window.
    pub(crate) fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.micros.extend(other.micros);
        self.elapsed = self.elapsed.max(other.elapsed);
    }
}

/// The nearest-rank percentile of sorted values; 0 if there are none.
pub(crate) fn percentile(sorted: &[u32], per_cent: usize) -> u32 {
    let rank = (sorted.len() * per_cent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The median; `None` if there are no values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let high = values.get(middle)?;
    if values.len() % 2 == 1 { Some(*high) } else { Some(f64::midpoint(values[middle - 1], *high)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_use_the_nearest_rank() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), 50);
        assert_eq!(percentile(&hundred, 99), 99);
        assert_eq!(percentile(&hundred, 100), 100);
        assert_eq!(percentile(&[7], 99), 7);
        assert_eq!(percentile(&[1, 2, 3], 50), 2);
        assert_eq!(percentile(&[], 50), 0);
    }

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_the_middle_two() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }
}
