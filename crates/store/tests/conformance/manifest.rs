//! Manifests: pages by record id, and what they show while others write.

use std::collections::BTreeMap;

use vaultsync_protocol::{Manifest, ManifestEntry, ManifestRequest, RecordDigest, RecordId};
use vaultsync_store::{ManifestOutcome, ReadBudget, Unbounded, Vault};

use crate::{
    dsl::{create, creates, delete, operation, update, user},
    support::{TestStore, known_epoch},
};

backends!(
    an_unknown_vault_has_an_empty_manifest,
    entries_are_ordered_by_the_bytes_of_their_ids,
    entries_say_what_a_pull_says,
    every_page_size_returns_every_entry_once,
    a_page_continues_after_any_id,
    next_is_null_only_on_the_last_page,
    a_page_ends_when_memory_is_used_up,
    another_epoch_is_reported,
    the_manifest_and_a_pull_after_its_first_head_show_every_change,
);

async fn read(store: &TestStore, vault: &Vault, request: &ManifestRequest) -> ManifestOutcome {
    store.store.manifest(vault, request, Unbounded).await.expect("a manifest").0
}

async fn page(store: &TestStore, vault: &Vault, after: Option<&str>, limit: usize) -> Manifest {
    let after = after.map(|id| RecordId::new(id).expect(id));
    match read(store, vault, &ManifestRequest { after, limit, epoch: None }).await {
        ManifestOutcome::Manifest(page) => page,
        other => panic!("no epoch was named: {other:?}"),
    }
}

/// All entries, page by page.
async fn all(store: &TestStore, vault: &Vault, limit: usize) -> Vec<ManifestEntry> {
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let page = page(store, vault, after.as_deref(), limit).await;
        assert!(page.entries.len() <= limit);
        entries.extend(page.entries);
        after = page.next.map(|next| next.as_str().to_owned());
        if after.is_none() {
            return entries;
        }
    }
}

fn ids(entries: &[ManifestEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.record_id.as_str()).collect()
}

async fn an_unknown_vault_has_an_empty_manifest(store: TestStore) {
    for after in [None, Some("a")] {
        assert_eq!(page(&store, &user(), after, 1000).await, Manifest::default());
    }
}

async fn entries_are_ordered_by_the_bytes_of_their_ids(store: TestStore) {
    let vault = user();
    let mut names = [
        "a",
        "A",
        "b",
        "B",
        "_",
        "-",
        " ",
        "~",
        "aa",
        "a b",
        "a-b",
        "a_b",
        "ä",
        "é",
        "e\u{301}",
        "z",
        "Z",
        "0",
        "10",
        "2",
        "\u{fffd}",
        "😀",
        "\u{10ffff}",
        "ﬀ",
        "ss",
        "ß",
        "'",
        "\\",
        "%",
    ];
    store.push_applied(&vault, &names.map(|name| create(name, name))).await;
    names.sort_by_key(|name| name.as_bytes());
    for limit in [1, 2, 5, 1000] {
        assert_eq!(ids(&all(&store, &vault, limit).await), names, "pages of {limit}");
    }
}

async fn entries_say_what_a_pull_says(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 20)).await;
    store.push_applied(&vault, &[update("r3", 1, "new"), delete("r4", 1)]).await;
    store.push_applied(&vault, &[operation("r5", Some(1), "content", true)]).await;
    store.push_applied(&user(), &creates("other", 5)).await;
    let entries = all(&store, &vault, 7).await;
    let mut records = store.pull_all(&vault, 100).await;
    records.sort_by(|a, b| a.record_id.cmp(&b.record_id));
    let expected: Vec<_> = records
        .iter()
        .map(|record| ManifestEntry {
            record_id: record.record_id.clone(),
            version: record.version,
            deleted: record.deleted,
            updated_at: record.updated_at,
            digest: RecordDigest::of(record.ciphertext.as_bytes()),
        })
        .collect();
    assert_eq!(entries, expected);
    let first = page(&store, &vault, None, 1).await;
    assert_eq!(first.head.unwrap().as_millis(), store.head(&vault).await);
    assert_eq!(first.epoch.unwrap().to_string(), store.epoch(&vault).await);
}

async fn every_page_size_returns_every_entry_once(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 23)).await;
    let whole = page(&store, &vault, None, 1000).await;
    assert_eq!((whole.entries.len(), &whole.next), (23, &None));
    for limit in (1..=7).chain([22, 23, 24]) {
        assert_eq!(all(&store, &vault, limit).await, whole.entries, "pages of {limit}");
    }
}

async fn a_page_continues_after_any_id(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &["b", "d", "f"].map(|id| create(id, "1"))).await;
    for (after, expected) in [
        ("a", &["b", "d", "f"][..]),
        ("b", &["d", "f"]),
        ("c", &["d", "f"]),
        ("e\u{10ffff}", &["f"]),
        ("f", &[]),
        ("\u{10ffff}", &[]),
    ] {
        let page = page(&store, &vault, Some(after), 1000).await;
        assert_eq!((ids(&page.entries), page.next), (expected.to_vec(), None), "after {after}");
        assert!(page.head.is_some() && page.epoch.is_some(), "also of an empty page");
    }
}

async fn next_is_null_only_on_the_last_page(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &["a", "b", "c", "d"].map(|id| create(id, "1"))).await;
    for (after, limit, next) in [
        (None, 3, Some("c")),
        (None, 4, None),
        (None, 5, None),
        (Some("a"), 2, Some("c")),
        (Some("a"), 3, None),
        (Some("c"), 1, None),
    ] {
        let page = page(&store, &vault, after, limit).await;
        let found = page.next.as_ref().map(RecordId::as_str);
        assert_eq!(found, next, "{limit} after {after:?}");
    }
}

/// A budget of some entries.
struct Entries(usize);

impl ReadBudget for Entries {
    fn take(&mut self, _: usize) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }

    fn clear(&mut self) {}
}

async fn a_page_ends_when_memory_is_used_up(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &["a", "b", "c"].map(|id| create(id, "1"))).await;
    for (room, expected, next) in [
        (0, &["a"][..], Some("a")),
        (1, &["a"], Some("a")),
        (2, &["a", "b"], Some("b")),
        (3, &["a", "b", "c"], None),
    ] {
        let request = ManifestRequest::default();
        let read = store.store.manifest(&vault, &request, Entries(room)).await.expect("a page");
        let ManifestOutcome::Manifest(page) = read.0 else { panic!("no epoch was named") };
        let found = page.next.as_ref().map(RecordId::as_str);
        assert_eq!((ids(&page.entries), found), (expected.to_vec(), next), "room for {room}");
    }
}

async fn another_epoch_is_reported(store: TestStore) {
    let vault = user();
    let with_epoch =
        |epoch| ManifestRequest { epoch: Some(known_epoch(epoch)), ..ManifestRequest::default() };
    let another = vaultsync_protocol::Epoch::from_bytes([9; 16]);
    let changed = ManifestOutcome::EpochChanged;
    assert_eq!(read(&store, &vault, &with_epoch(another)).await, changed, "no vault");
    store.push_applied(&vault, &[create("a", "v1")]).await;
    assert_eq!(read(&store, &vault, &with_epoch(another)).await, changed);
    let epoch = page(&store, &vault, None, 1).await.epoch.unwrap();
    let whole = page(&store, &vault, None, 1000).await;
    assert_eq!(read(&store, &vault, &with_epoch(epoch)).await, ManifestOutcome::Manifest(whole));
}

/// The contract for a vault that changes while its manifest is read: what existed before the first page is
/// listed once, and a pull after the head of the first page brings everything else up to date.
async fn the_manifest_and_a_pull_after_its_first_head_show_every_change(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 30)).await;
    let before: Vec<String> =
        ids(&all(&store, &vault, 1000).await).into_iter().map(str::to_owned).collect();
    let (mut listed, mut after, mut first_head) = (Vec::new(), None, None);
    for step in 0.. {
        let page = page(&store, &vault, after.as_deref(), 4).await;
        first_head = first_head.or(page.head);
        listed.extend(page.entries);
        after = page.next.map(|next| next.as_str().to_owned());
        if after.is_none() {
            break;
        }
        // Creates before and after the place of the next page, and changes of records before and after it.
        let changes = [
            create(&format!("a{step}"), "new"),
            create(&format!("z{step}"), "new"),
            update(&format!("r{step}"), 1, "changed"),
            delete(&format!("r{}", 29 - step), 1),
        ];
        store.push_applied(&vault, &changes).await;
    }
    let mut once = ids(&listed);
    once.retain(|id| before.iter().any(|known| known == id));
    assert_eq!(once, before, "each record from before is listed once");
    let mut known: BTreeMap<RecordId, i64> =
        listed.iter().map(|entry| (entry.record_id.clone(), entry.version.get())).collect();
    let head = first_head.unwrap().as_millis();
    let changed = store.page(&vault, Some(head), 100).await;
    assert!(!changed.has_more);
    for record in changed.records {
        let version = record.version.get();
        let older = known.insert(record.record_id, version);
        assert!(older.is_none_or(|older| older <= version), "a change never goes back");
    }
    let now = all(&store, &vault, 1000).await;
    let now: BTreeMap<RecordId, i64> =
        now.into_iter().map(|entry| (entry.record_id, entry.version.get())).collect();
    assert_eq!(known, now);
}
