//! Reads of records by id.

use vaultsync_protocol::{FoundRecords, RecordDigest, RecordId};
use vaultsync_store::{ReadBudget, RecordsOutcome, Vault};

use crate::{
    dsl::{NOW, create, creates, delete, summary, update, user},
    support::{TestStore, records_request},
};

backends!(
    records_are_returned_in_the_order_of_the_request,
    an_unknown_vault_has_no_records,
    a_tombstone_is_a_record,
    ids_are_compared_byte_by_byte,
    the_response_is_cut_before_it_exceeds_the_byte_limit,
    the_first_record_is_returned_whatever_its_size,
    asking_again_for_what_is_left_returns_every_record,
    the_response_is_cut_when_memory_is_used_up,
    another_epoch_is_reported,
    a_hundred_records_of_any_vault_are_found,
);

async fn found(store: &TestStore, vault: &Vault, ids: &[&str]) -> FoundRecords {
    match store.records(vault, &records_request(ids, None)).await {
        RecordsOutcome::Found(found) => found,
        other => panic!("no epoch was named: {other:?}"),
    }
}

fn texts(ids: &[RecordId]) -> Vec<&str> {
    ids.iter().map(RecordId::as_str).collect()
}

/// The ids of the records, the missing ids, and whether the response is cut.
fn outline(found: &FoundRecords) -> (Vec<&str>, Vec<&str>, bool) {
    let records = found.records.iter().map(|found| found.record.record_id.as_str());
    (records.collect(), texts(&found.missing), found.has_more)
}

async fn records_are_returned_in_the_order_of_the_request(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 6)).await;
    store.push_applied(&vault, &[update("r2", 1, "new")]).await;
    let found = found(&store, &vault, &["r5", "none", "r2", "r0", "also none", "r4"]).await;
    assert_eq!(outline(&found), (vec!["r5", "r2", "r0", "r4"], vec!["none", "also none"], false));
    let pulled = store.pull_all(&vault, 100).await;
    for one in &found.records {
        assert!(pulled.contains(&one.record), "as in a pull");
        assert_eq!(one.digest, RecordDigest::of(one.record.ciphertext.as_bytes()));
    }
    assert_eq!(found.head.unwrap().as_millis(), store.head(&vault).await);
    assert_eq!(found.epoch.unwrap().to_string(), store.epoch(&vault).await);
}

async fn an_unknown_vault_has_no_records(store: TestStore) {
    let found = found(&store, &user(), &["a", "b"]).await;
    assert_eq!(outline(&found), (vec![], vec!["a", "b"], false));
    assert_eq!((found.epoch, found.head), (None, None));
}

async fn a_tombstone_is_a_record(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied(&vault, &[delete("a", 1)]).await;
    let found = found(&store, &vault, &["a"]).await;
    assert_eq!(summary(&found.records[0].record), ("a".to_owned(), 2, vec![], true));
    assert_eq!(found.records[0].digest, RecordDigest::of(b""));
}

async fn ids_are_compared_byte_by_byte(store: TestStore) {
    let vault = user();
    store
        .push_applied(&vault, &[create("a", "1"), create("é", "2"), create("a b'\"\\", "3")])
        .await;
    let ids = ["A", "a ", "e\u{301}", "é", "a b'\"\\", "a%"];
    let found = found(&store, &vault, &ids).await;
    assert_eq!(outline(&found), (vec!["é", "a b'\"\\"], vec!["A", "a ", "e\u{301}", "a%"], false));
}

/// A vault of five records of 10 bytes each.
async fn five_of_ten_bytes(store: &TestStore) -> Vault {
    let vault = user();
    let operations = ["a", "b", "c", "d", "e"].map(|id| create(id, "0123456789"));
    store.push_applied(&vault, &operations).await;
    vault
}

async fn the_response_is_cut_before_it_exceeds_the_byte_limit(store: TestStore) {
    let ids = ["none", "e", "no", "a", "nil", "c", "b", "null", "d", "nul"];
    // What is missing before the cut is known to be missing, and what is missing after it is not.
    for (bytes_max, records, missing) in
        [(10, 1, 2), (19, 1, 2), (20, 2, 3), (29, 2, 3), (30, 3, 3), (49, 4, 4), (50, 5, 5)]
    {
        let store = store.with_page_bytes_max(bytes_max).await;
        let vault = five_of_ten_bytes(&store).await;
        let found = found(&store, &vault, &ids).await;
        let (found, absent, has_more) = outline(&found);
        assert_eq!(found, ["e", "a", "c", "b", "d"][..records], "{bytes_max} bytes");
        assert_eq!(absent, ["none", "no", "nil", "null", "nul"][..missing], "{bytes_max} bytes");
        assert_eq!(has_more, records < 5, "{bytes_max} bytes");
    }
}

async fn the_first_record_is_returned_whatever_its_size(store: TestStore) {
    for bytes_max in [0, 1, 9] {
        let store = store.with_page_bytes_max(bytes_max).await;
        let vault = five_of_ten_bytes(&store).await;
        store.push_applied(&vault, &[delete("d", 1)]).await;
        let first = found(&store, &vault, &["none", "a", "no", "d", "b"]).await;
        assert_eq!(outline(&first), (vec!["a"], vec!["none", "no"], true), "{bytes_max} bytes");
        let last = found(&store, &vault, &["none", "a", "no"]).await;
        assert_eq!(outline(&last), (vec!["a"], vec!["none", "no"], false));
    }
}

async fn asking_again_for_what_is_left_returns_every_record(store: TestStore) {
    for bytes_max in [0, 25, 100, 1000] {
        let (store, vault) = (store.with_page_bytes_max(bytes_max).await, user());
        let operations: Vec<_> =
            (0..50).map(|n| create(&format!("r{n}"), &"x".repeat(1 + n * 7 % 31))).collect();
        store.push_applied(&vault, &operations).await;
        let ids: Vec<String> = (0..100).map(|n| format!("r{}", n * 37 % 100)).collect();
        let mut left: Vec<&str> = ids.iter().map(String::as_str).collect();
        let (mut records, mut missing) = (Vec::new(), Vec::new());
        while !left.is_empty() {
            let found = found(&store, &vault, &left).await;
            let (these, absent, has_more) = outline(&found);
            assert_eq!(has_more, these.len() + absent.len() < left.len());
            left.retain(|id| !these.contains(id) && !absent.contains(id));
            records.extend(these.into_iter().map(str::to_owned));
            missing.extend(absent.into_iter().map(str::to_owned));
        }
        let (exist, absent): (Vec<_>, Vec<_>) =
            ids.iter().cloned().partition(|id| id[1..].parse::<usize>().unwrap() < 50);
        assert_eq!((records, missing), (exist, absent), "{bytes_max} bytes");
    }
}

/// A budget of some bytes.
struct Bytes(usize);

impl ReadBudget for Bytes {
    fn take(&mut self, ciphertext_bytes: usize) -> bool {
        let left = self.0.checked_sub(ciphertext_bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }

    fn clear(&mut self) {}
}

async fn the_response_is_cut_when_memory_is_used_up(store: TestStore) {
    let vault = five_of_ten_bytes(&store).await;
    let request = records_request(&["a", "no", "b", "nil", "c"], None);
    for (bytes, records, missing) in [(5, 1, 1), (10, 1, 1), (29, 2, 2), (30, 3, 2)] {
        let read = store.store.records(&vault, &request, Bytes(bytes)).await.expect("a response");
        let RecordsOutcome::Found(found) = read.0 else { panic!("no epoch was named") };
        let counts = (found.records.len(), found.missing.len(), found.has_more);
        assert_eq!(counts, (records, missing, records < 3), "{bytes} bytes");
    }
}

async fn another_epoch_is_reported(store: TestStore) {
    let vault = user();
    let read =
        async |epoch: &str| store.records(&vault, &records_request(&["a"], Some(epoch))).await;
    assert_eq!(read("any").await, RecordsOutcome::EpochChanged, "the vault does not exist");
    store.push_applied(&vault, &[create("a", "v1")]).await;
    assert_eq!(read("other").await, RecordsOutcome::EpochChanged);
    let RecordsOutcome::Found(found) = read(&store.epoch(&vault).await).await else {
        panic!("the right epoch")
    };
    assert_eq!(outline(&found), (vec!["a"], vec![], false));
}

async fn a_hundred_records_of_any_vault_are_found(store: TestStore) {
    let (vault, other) = (user(), user());
    for batch in 0..3 {
        store.push_applied(&vault, &creates(&format!("{batch} "), 100)).await;
    }
    store.push_applied_at(&other, &[create("0 0", "other")], NOW).await;
    let ids: Vec<String> = (0..100).rev().map(|n| format!("{} {n}", n % 3)).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let all = found(&store, &vault, &ids).await;
    assert_eq!(outline(&all), (ids.clone(), vec![], false));
    let theirs = found(&store, &other, &ids).await;
    assert_eq!((theirs.records.len(), theirs.missing.len()), (1, 99));
    assert_eq!(theirs.records[0].record.ciphertext.as_bytes(), b"other");
}
