//! The workloads that every target runs.

use clap::ValueEnum;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// One new record per request
    Push1,
    /// 100 new records per request
    Push100,
    /// 100 updates per request, with the right base version
    Update100,
    /// 10,000 records in pages of 100, repeatedly
    PullAll,
    /// A pull that returns nothing new
    PullIdle,
    /// Of ten requests, 6 pulls from the cursor, 2 pushes of 5, 1 push of 1, 1 update of 5
    Mixed,
}

/// Number of records in a vault that is pulled.
pub(crate) const PULLED_RECORDS: u64 = 10_000;

/// Number of records in a vault whose records are updated.
pub(crate) const UPDATED_RECORDS: u64 = 1_000;

impl Workload {
    pub(crate) const ALL: [Self; 6] =
        [Self::Push1, Self::Push100, Self::Update100, Self::PullAll, Self::PullIdle, Self::Mixed];

    /// Its name on the command line and in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Push1 => "push1",
            Self::Push100 => "push100",
            Self::Update100 => "update100",
            Self::PullAll => "pull-all",
            Self::PullIdle => "pull-idle",
            Self::Mixed => "mixed",
        }
    }

    /// Its description.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Push1 => "One new record per request.",
            Self::Push100 => "100 new records per request.",
            Self::Update100 => "100 updates per request, each with the right base version.",
            Self::PullAll => "A vault of 10,000 records, read in pages of 100.",
            Self::PullIdle => "A pull at the head, which returns nothing new.",
            Self::Mixed => {
                "Of ten requests, 6 pulls from the cursor, 2 pushes of 5, 1 push of 1, 1 update of 5."
            }
        }
    }

    /// Whether the rate counts requests instead of records.
    pub(crate) const fn counts_requests(self) -> bool {
        matches!(self, Self::PullIdle | Self::Mixed)
    }

    /// Whether it only reads, so that one filled vault serves every round.
    pub(crate) const fn only_reads(self) -> bool {
        matches!(self, Self::PullAll | Self::PullIdle)
    }
}
