//! SQLite only: the conflicts of a push are read within its budget.

use vaultsync_protocol::Timestamp;
use vaultsync_store::{PushOutcome, ReadBudget, Refused};

use crate::{
    dsl::{NOW, conflicts, create, live, open, user},
    support::{Backend, batch},
};

/// A budget for this many records.
struct Budget(usize);

impl ReadBudget for Budget {
    fn take(&mut self, ciphertext_bytes: usize) -> bool {
        assert_eq!(ciphertext_bytes, "v1 of a".len(), "the length of the record that is next");
        self.0 = self.0.wrapping_sub(1);
        self.0 != usize::MAX
    }

    fn clear(&mut self) {}
}

#[tokio::test]
async fn conflicts_without_memory_are_not_read() {
    let store = open(Backend::Sqlite).await;
    let vault = user();
    let records = ["a", "b", "c"].map(|id| create(id, &format!("v1 of {id}")));
    store.push_applied(&vault, &records).await;
    let conflicting = ["a", "b", "c"].map(|id| create(id, "another"));
    for (budget, ids, more) in [
        (3, &["a", "b", "c"][..], false),
        (2, &["a", "b"], true),
        (1, &["a"], true),
        (0, &[], true),
    ] {
        let push = batch(&conflicting, None);
        let now = Timestamp::from_millis(NOW);
        let outcome = store.store.push(&vault, push, now, Budget(budget)).await.unwrap();
        let PushOutcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
        let expected: Vec<_> = ids.iter().map(|id| live(id, 1, &format!("v1 of {id}"))).collect();
        assert_eq!(conflicts(&refused), expected, "a budget of {budget}");
        let Refused { has_more, .. } = refused;
        assert_eq!(has_more, more, "a budget of {budget}");
    }
}
