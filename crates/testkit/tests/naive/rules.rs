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

/// When a push checks its guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guards {
    /// Together with its operations.
    UnderLock,
    /// Before it takes the lock.
    BeforeLock,
    /// It ignores them, as a server of version 0.2 does.
    Never,
}

/// Which requests find the vault that they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    All,
    /// None: they reach the default vault.
    None,
    /// All but pulls, which read all vaults of the user.
    NotPulls,
}

/// What an erasure does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Erasure {
    /// Removes the records, and remembers the epoch for ever. The clock goes on.
    Remembered,
    /// Removes the records, and forgets the epoch: who names it is served.
    Forgotten,
    /// Begins a new epoch, and leaves the records where they are.
    LeavesRecords,
    /// As it should, but in the new epoch the clock begins again.
    ClockBeginsAgain,
    /// As it should, but it is on disk only later, and a crash may come first.
    AfterResponse,
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
    pub(crate) guards: Guards,
    pub(crate) names: Names,
    pub(crate) erasure: Erasure,
}

impl Rules {
    /// The rules that keep all promises.
    pub(crate) const CORRECT: Self = Self {
        lock: Lock::BeforeReading,
        times: Times::Clock,
        commit: Commit::BeforeResponse,
        receipts: true,
        pulls_filter_by_user: true,
        guards: Guards::UnderLock,
        names: Names::All,
        erasure: Erasure::Remembered,
    };

    /// The naive design: a push reads the version, compares, and writes with `NOW()` in a transaction; a pull
    /// reads what is later than the cursor.
    pub(crate) const NAIVE: Self =
        Self { lock: Lock::Never, times: Times::Transaction, receipts: false, ..Self::CORRECT };
}
