//! The rules that a store may follow or break.

/// When a push takes its vault's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    BeforeReading,
    AfterReading,
    Never,
}

/// The source of `updated_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// The vault's clock: the later of now and one millisecond past the last.
    Clock,
    /// The wall clock at the write, plus a millisecond for each further record of the push.
    Now,
    /// `NOW()` of SQL: the wall clock at the begin of the transaction, for all of its records.
    Transaction,
    /// The wall clock in microseconds, all different, but returned and used as a cursor in milliseconds.
    Micros,
}

/// What is on disk when a push is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// The whole push, in one commit.
    BeforeResponse,
    /// Nothing: it is synced later, and a crash may come first.
    AfterResponse,
    /// Each write, as soon as it is made: there is no transaction.
    EachWrite,
}

/// The rules of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) lock: Lock,
    pub(crate) times: Times,
    pub(crate) commit: Commit,
    /// Whether it recognises a push that it has already applied.
    pub(crate) receipts: bool,
    /// Whether a pull reads only the user's own records.
    pub(crate) pulls_filter_by_user: bool,
}

impl Rules {
    /// The rules that keep all promises.
    pub(crate) const CORRECT: Self = Self {
        lock: Lock::BeforeReading,
        times: Times::Clock,
        commit: Commit::BeforeResponse,
        receipts: true,
        pulls_filter_by_user: true,
    };

    /// The naive design: a push reads the version, compares, and writes with `NOW()` in a transaction; a pull
    /// reads what is later than the cursor.
    pub(crate) const NAIVE: Self =
        Self { lock: Lock::Never, times: Times::Transaction, receipts: false, ..Self::CORRECT };
}
