//! What a store may get right or wrong.

/// When a push takes its vault's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    BeforeReading,
    AfterReading,
    Never,
}

/// Where an `updated_at` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// The vault's clock: the later of now and one millisecond past the last.
    Clock,
    /// The wall clock at the write, a millisecond further for each record of the push.
    Now,
    /// As `NOW()` has it: the wall clock when the transaction began, for all of its records.
    Transaction,
    /// The wall clock in microseconds, all different; shown, and taken for a cursor, in milliseconds.
    Micros,
}

/// What is on disk when a push is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// The whole push, at once.
    BeforeAnswer,
    /// Nothing yet: the disk comes later, and a crash may come before.
    AfterAnswer,
    /// Each write as it is made: there is no transaction.
    EachWrite,
}

/// How a store keeps its promises, or does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) lock: Lock,
    pub(crate) times: Times,
    pub(crate) commit: Commit,
    /// Whether it knows a push again that it has applied.
    pub(crate) receipts: bool,
    /// Whether a pull says whose records it wants.
    pub(crate) pulls_name_the_user: bool,
}

impl Rules {
    /// What keeps all promises.
    pub(crate) const RIGHT: Self = Self {
        lock: Lock::BeforeReading,
        times: Times::Clock,
        commit: Commit::BeforeAnswer,
        receipts: true,
        pulls_name_the_user: true,
    };

    /// What one writes first: read the version, compare, write with `NOW()`, in a transaction;
    /// pull what is later than the cursor.
    pub(crate) const NAIVE: Self =
        Self { lock: Lock::Never, times: Times::Transaction, receipts: false, ..Self::RIGHT };
}
