//! The decision about one operation, depending on the state of its record.

use base64_simd::STANDARD;
use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestServer, backends, operation, push_of};

use Want::{AlreadyApplied, Conflict, Unknown, Written};

backends!(
    an_unknown_record_is_inserted_as_version_1,
    an_unknown_record_with_an_epoch_is_a_conflict,
    a_write_on_the_current_version_is_applied,
    a_write_that_is_already_applied_is_a_retry,
    anything_else_is_a_conflict,
);

const VERSION_MAX: u64 = 9_007_199_254_740_991;

/// A record's content: its ciphertext, and whether it is deleted.
type Content = (&'static [u8], bool);

const A: Content = (b"a", false);
const B: Content = (b"b", false);
const C: Content = (b"c", false);
const TOMBSTONE: Content = (b"", true);
const FULL_TOMBSTONE: Content = (b"a", true);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// 200 with that version, which the record has now.
    Written(u64),
    /// 200 with that version, and nothing is written.
    AlreadyApplied(u64),
    /// 409 with the record as it is.
    Conflict,
    /// 409 with an unknown record.
    Unknown,
}

struct Table {
    server: TestServer,
    rows: u32,
}

impl Table {
    async fn start(backend: Backend) -> Self {
        Self { server: TestServer::start(backend).await, rows: 0 }
    }

    /// Writes `history` to a record, version by version, and then pushes `content` on `base`, once
    /// without an epoch and once with one.
    async fn check(
        &mut self,
        history: &[Content],
        base: Option<u64>,
        content: Content,
        want: Want,
    ) {
        self.check_with(history, base, content, false, want).await;
        self.check_with(history, base, content, true, want).await;
    }

    async fn check_with(
        &mut self,
        history: &[Content],
        base: Option<u64>,
        content: Content,
        with_epoch: bool,
        want: Want,
    ) {
        self.rows += 1;
        let row = format!("history {history:?}, base {base:?}, {content:?}, epoch {with_epoch}");
        let user = format!("user-{}", self.rows);
        self.write(&user, history).await;
        let before = self.server.pull(&user, "").await.json();
        let mut body = push_of([raw("r", base, content)]);
        if with_epoch {
            body["epoch"] = before["epoch"].clone();
        }
        let answer = self.server.push(&user, &body).await;
        let after = self.server.pull(&user, "").await.json();
        let was = find(&before).cloned().unwrap_or_default();
        match want {
            Written(version) | AlreadyApplied(version) => {
                let results = json!([{ "recordId": "r", "version": version }]);
                let expected = if want == AlreadyApplied(version) {
                    json!({ "success": true, "results": results })
                } else {
                    let (before, head) = (&before["head"], &after["head"]);
                    json!({ "success": true, "results": results, "headBefore": before, "head": head })
                };
                assert_eq!((answer.status, answer.json()), (200, expected), "{row}");
                let is = find(&after).expect("the record");
                assert_eq!(is["version"], version, "{row}");
                assert_eq!(is["ciphertext"], STANDARD.encode_to_string(content.0), "{row}");
                assert_eq!(is["deleted"], content.1, "{row}");
                assert_eq!(before == after, want == AlreadyApplied(version), "{row}");
            }
            Conflict => {
                let expected = json!([{
                    "recordId": "r",
                    "currentVersion": was["version"],
                    "ciphertext": was["ciphertext"],
                    "deleted": was["deleted"],
                    "updated_at": was["updated_at"],
                }]);
                assert_eq!((answer.status, &answer.json()["conflicts"]), (409, &expected), "{row}");
            }
            Unknown => {
                let expected = json!([{
                    "recordId": "r",
                    "currentVersion": 0,
                    "ciphertext": "",
                    "deleted": true,
                    "updated_at": null,
                }]);
                assert_eq!((answer.status, &answer.json()["conflicts"]), (409, &expected), "{row}");
            }
        }
        if matches!(want, Conflict | Unknown) {
            assert_eq!(before, after, "a conflict writes nothing: {row}");
        }
    }

    /// Writes `history`. Each push contains another record, so that the push under test is not a retry
    /// of one of them: `retries` tests those.
    async fn write(&self, user: &str, history: &[Content]) {
        let other = self.server.push(user, &push_of([operation("other", None, b"o")])).await;
        assert_eq!(other.status, 200);
        for (base, content) in (0..).zip(history) {
            let base = Some(base).filter(|base| *base > 0);
            let other = operation(&format!("other-{base:?}"), None, b"o");
            let answer = self.server.push(user, &push_of([raw("r", base, *content), other])).await;
            assert_eq!(answer.status, 200, "{history:?} {answer:?}");
        }
    }
}

fn raw(record_id: &str, base: Option<u64>, (ciphertext, deleted): Content) -> Value {
    let mut operation = operation(record_id, base, ciphertext);
    operation["deleted"] = json!(deleted);
    operation
}

fn find(page: &Value) -> Option<&Value> {
    page["records"].as_array()?.iter().find(|record| record["recordId"] == "r")
}

async fn an_unknown_record_is_inserted_as_version_1(backend: Backend) {
    let mut table = Table::start(backend).await;
    table.check(&[], None, A, Written(1)).await;
    table.check(&[], None, TOMBSTONE, Written(1)).await;
    table.check(&[], None, FULL_TOMBSTONE, Written(1)).await;
    for base in [0, 1, 7, VERSION_MAX] {
        table.check_with(&[], Some(base), A, false, Written(1)).await;
        table.check_with(&[], Some(base), TOMBSTONE, false, Written(1)).await;
    }
}

async fn an_unknown_record_with_an_epoch_is_a_conflict(backend: Backend) {
    let mut table = Table::start(backend).await;
    for base in [0, 1, 7, VERSION_MAX] {
        table.check_with(&[], Some(base), A, true, Unknown).await;
        table.check_with(&[], Some(base), TOMBSTONE, true, Unknown).await;
    }
}

async fn a_write_on_the_current_version_is_applied(backend: Backend) {
    let mut table = Table::start(backend).await;
    table.check(&[A], Some(1), B, Written(2)).await;
    table.check(&[A], Some(1), A, Written(2)).await;
    table.check(&[A, B], Some(2), A, Written(3)).await;
    table.check(&[A, B, A, B], Some(4), C, Written(5)).await;
    table.check(&[A], Some(1), TOMBSTONE, Written(2)).await;
    table.check(&[A], Some(1), FULL_TOMBSTONE, Written(2)).await;
    table.check(&[A, TOMBSTONE], Some(2), B, Written(3)).await;
    table.check(&[TOMBSTONE], Some(1), TOMBSTONE, Written(2)).await;
}

async fn a_write_that_is_already_applied_is_a_retry(backend: Backend) {
    let mut table = Table::start(backend).await;
    table.check(&[A], None, A, AlreadyApplied(1)).await;
    table.check(&[A], Some(0), A, AlreadyApplied(1)).await;
    table.check(&[A, B], Some(1), B, AlreadyApplied(2)).await;
    table.check(&[A, A], Some(1), A, AlreadyApplied(2)).await;
    table.check(&[A, B, TOMBSTONE], Some(2), TOMBSTONE, AlreadyApplied(3)).await;
    table.check(&[TOMBSTONE], None, TOMBSTONE, AlreadyApplied(1)).await;
    table.check(&[A, FULL_TOMBSTONE], Some(1), FULL_TOMBSTONE, AlreadyApplied(2)).await;
}

async fn anything_else_is_a_conflict(backend: Backend) {
    let mut table = Table::start(backend).await;
    // A create of an existing record.
    table.check(&[A], None, B, Conflict).await;
    table.check(&[A], Some(0), B, Conflict).await;
    table.check(&[A, B], None, B, Conflict).await;
    table.check(&[TOMBSTONE], None, A, Conflict).await;
    table.check(&[A, TOMBSTONE], None, A, Conflict).await;
    // An edit of an older version.
    table.check(&[A, B], None, A, Conflict).await;
    table.check(&[A, B], Some(1), A, Conflict).await;
    table.check(&[A, B], Some(1), TOMBSTONE, Conflict).await;
    table.check(&[A, B, C], Some(1), B, Conflict).await;
    table.check(&[A, TOMBSTONE], Some(1), B, Conflict).await;
    // An edit of a version that does not exist yet.
    table.check(&[A], Some(2), B, Conflict).await;
    table.check(&[A], Some(VERSION_MAX), A, Conflict).await;
    // The same ciphertext, but one is deleted and the other is not.
    table.check(&[A], None, FULL_TOMBSTONE, Conflict).await;
    table.check(&[FULL_TOMBSTONE], None, A, Conflict).await;
    table.check(&[A, B], Some(1), (b"b", true), Conflict).await;
}
