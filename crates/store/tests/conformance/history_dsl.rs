//! Helpers of the cases about the history.

use vaultsync_protocol::{
    Cursor, FoundVersion, HistoryQuery, HistoryRequest, KeptVersion, PastState, PastStates,
    RecordHistory, RecordId, RecordVersion, Timestamp, Version,
};
use vaultsync_store::{HistoryOutcome, ReadBudget, Unbounded, Vault};

use crate::support::TestStore;

pub(crate) const SECOND: i64 = 1000;
pub(crate) const MINUTE: i64 = 60 * SECOND;

pub(crate) fn id(text: &str) -> RecordId {
    RecordId::new(text).expect(text)
}

pub(crate) fn version(number: i64) -> Version {
    Version::new(number).expect("a version")
}

pub(crate) fn cursor(millis: i64) -> Cursor {
    Cursor::from(Timestamp::from_millis(millis))
}

/// A state: id, current version, version, whether it is exact.
pub(crate) type State<'a> = (&'a str, i64, Option<i64>, bool);

pub(crate) fn state(state: &PastState) -> State<'_> {
    (
        state.record_id.as_str(),
        state.current_version.get(),
        state.version.map(Version::get),
        state.exact,
    )
}

/// The versions of a page.
pub(crate) fn numbers(kept: &[KeptVersion]) -> Vec<i64> {
    kept.iter().map(|kept| kept.version.get()).collect()
}

impl TestStore {
    /// Reads the history within a budget.
    pub(crate) async fn history(
        &self,
        vault: &Vault,
        query: HistoryQuery,
        budget: impl ReadBudget,
    ) -> HistoryOutcome {
        let request = HistoryRequest { query, epoch: None };
        self.store.history(vault, &request, budget).await.expect("the history").0
    }

    /// One page of the kept versions of a record.
    pub(crate) async fn versions(
        &self,
        vault: &Vault,
        record_id: &str,
        before: Option<i64>,
        limit: usize,
    ) -> RecordHistory {
        let query =
            HistoryQuery::Versions { record_id: id(record_id), before: before.map(version), limit };
        match self.history(vault, query, Unbounded).await {
            HistoryOutcome::Versions(history) => history,
            other => panic!("no versions: {other:?}"),
        }
    }

    /// The kept versions of a record, newest first.
    pub(crate) async fn kept(&self, vault: &Vault, record_id: &str) -> Vec<KeptVersion> {
        let history = self.versions(vault, record_id, None, 1000).await;
        assert_eq!((history.record_id.as_str(), history.next), (record_id, None));
        history.versions
    }

    /// The numbers of the kept versions of a record, newest first.
    pub(crate) async fn kept_numbers(&self, vault: &Vault, record_id: &str) -> Vec<i64> {
        numbers(&self.kept(vault, record_id).await)
    }

    /// One version of a record.
    pub(crate) async fn found_version(
        &self,
        vault: &Vault,
        record_id: &str,
        number: i64,
    ) -> FoundVersion {
        let query = HistoryQuery::Version { record_id: id(record_id), version: version(number) };
        match self.history(vault, query, Unbounded).await {
            HistoryOutcome::Version(found) => found,
            other => panic!("no version: {other:?}"),
        }
    }

    /// A version of a record that the store has.
    pub(crate) async fn version(
        &self,
        vault: &Vault,
        record_id: &str,
        number: i64,
    ) -> RecordVersion {
        self.found_version(vault, record_id, number).await.record.expect("the version")
    }

    /// One page of states.
    pub(crate) async fn states_page(
        &self,
        vault: &Vault,
        at: i64,
        after: Option<&str>,
        limit: usize,
    ) -> PastStates {
        let query = HistoryQuery::States { at: cursor(at), after: after.map(id), limit };
        match self.history(vault, query, Unbounded).await {
            HistoryOutcome::States(states) => states,
            other => panic!("no states: {other:?}"),
        }
    }

    /// All states at a cursor, in pages that look at `limit` records.
    pub(crate) async fn states(&self, vault: &Vault, at: i64, limit: usize) -> Vec<PastState> {
        let (mut entries, mut after) = (Vec::new(), None);
        loop {
            let page = self.states_page(vault, at, after.as_deref(), limit).await;
            assert!(page.entries.len() <= limit, "a page looks at `limit` records");
            entries.extend(page.entries);
            let Some(next) = page.next else { return entries };
            assert!(after.as_deref() < Some(next.as_str()), "a page advances");
            after = Some(next.as_str().to_owned());
        }
    }
}
