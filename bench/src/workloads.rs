//! What is asked of every target.

use clap::ValueEnum;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// One new record a request
    Push1,
    /// 100 new records a request
    Push100,
    /// 100 updates a request, at the right version
    Update100,
    /// 10,000 records in pages of 100, again and again
    PullAll,
    /// A pull where nothing is new
    PullIdle,
    /// Of ten requests 6 pulls from the cursor, 2 pushes of 5, 1 push of 1, 1 update of 5
    Mixed,
}

/// Records in a vault that is pulled.
pub(crate) const PULLED_RECORDS: u64 = 10_000;

/// Records in a vault whose records are updated.
pub(crate) const UPDATED_RECORDS: u64 = 1_000;

impl Workload {
    pub(crate) const ALL: [Self; 6] =
        [Self::Push1, Self::Push100, Self::Update100, Self::PullAll, Self::PullIdle, Self::Mixed];

    /// As people write it.
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

    /// What it is, as a sentence.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Push1 => "One new record a request.",
            Self::Push100 => "100 new records a request.",
            Self::Update100 => "100 updates a request, each at the right version.",
            Self::PullAll => "A vault of 10,000 records, read in pages of 100.",
            Self::PullIdle => "A pull at the head, which finds nothing.",
            Self::Mixed => {
                "Of ten requests 6 pulls from the cursor, 2 pushes of 5, 1 push of 1, 1 update of 5."
            }
        }
    }

    /// Whether requests are counted, and not records.
    pub(crate) const fn counts_requests(self) -> bool {
        matches!(self, Self::PullIdle | Self::Mixed)
    }

    /// Whether it changes nothing, so that one filled vault serves every round.
    pub(crate) const fn only_reads(self) -> bool {
        matches!(self, Self::PullAll | Self::PullIdle)
    }
}
