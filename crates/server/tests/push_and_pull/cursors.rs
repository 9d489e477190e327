//! Cursors that a client may send.

use serde_json::Value;
use vaultsync_protocol::Timestamp;
use vaultsync_testkit::{Backend, TestServer, backends, operation};

use crate::{apply, ids, millis, page};

backends!(
    every_spelling_of_one_millisecond_is_the_same_cursor,
    digits_below_a_millisecond_skip_nothing,
    a_missing_or_empty_cursor_is_the_start,
    any_time_is_a_valid_cursor,
    a_parsed_and_reprinted_cursor_is_the_same,
);

/// A vault of `a`, `b` and `c`, one millisecond apart, and the time of `b`.
async fn vault_of_three(server: &TestServer) -> Value {
    apply(server, ["a", "b", "c"].map(|name| operation(name, None, b"1"))).await;
    page(server, "").await["records"][1]["updated_at"].clone()
}

/// The local time at an offset, without the offset.
fn at_offset(time: &Value, hours: i64, minutes: i64) -> String {
    let local = Timestamp::from_millis(millis(time) + (hours * 60 + minutes) * 60_000).to_string();
    local.trim_end_matches('Z').to_owned()
}

async fn every_spelling_of_one_millisecond_is_the_same_cursor(backend: Backend) {
    let server = TestServer::start(backend).await;
    let time = vault_of_three(&server).await;
    let text = time.as_str().expect("a time").to_owned();
    let local = text.trim_end_matches('Z');
    for cursor in [
        text.clone(),
        text.replace(':', "%3A"),
        text.to_lowercase(),
        format!("{local}+00:00"),
        format!("{local}%2B00:00"),
        format!("{local}%2b00:00"),
        format!("{local}%2000:00"),
        format!("{local}-00:00"),
        format!("{}+05:30", at_offset(&time, 5, 30)),
        format!("{}%2B05:30", at_offset(&time, 5, 30)),
        format!("{}-08:00", at_offset(&time, -8, 0)),
        format!("{}+23:59", at_offset(&time, 23, 59)),
        format!("{local}0Z"),
        format!("{local}000000Z"),
    ] {
        let after = page(&server, &format!("?cursor={cursor}")).await;
        assert_eq!(ids(&after), ["c"], "{cursor}");
    }
}

async fn digits_below_a_millisecond_skip_nothing(backend: Backend) {
    let server = TestServer::start(backend).await;
    let text = vault_of_three(&server).await;
    let local = text.as_str().expect("a time").trim_end_matches('Z').to_owned();
    // `c` is one millisecond later: a cursor that is rounded up would skip it.
    for digits in ["1", "5", "9", "999", "999999", "99999999999999999999"] {
        let after = page(&server, &format!("?cursor={local}{digits}Z")).await;
        assert_eq!(ids(&after), ["c"], "{digits}");
    }
}

async fn a_missing_or_empty_cursor_is_the_start(backend: Backend) {
    let server = TestServer::start(backend).await;
    vault_of_three(&server).await;
    for query in ["", "?", "?cursor=", "?cursor", "?limit=100&cursor=", "?cursor=&unknown=1"] {
        assert_eq!(ids(&page(&server, query).await), ["a", "b", "c"], "{query}");
    }
}

async fn any_time_is_a_valid_cursor(backend: Backend) {
    let server = TestServer::start(backend).await;
    vault_of_three(&server).await;
    for early in ["0000-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z", "2016-12-31T23:59:60Z"] {
        assert_eq!(ids(&page(&server, &format!("?cursor={early}")).await), ["a", "b", "c"]);
    }
    for late in ["9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-23:59"] {
        let after = page(&server, &format!("?cursor={late}")).await;
        assert_eq!((ids(&after), &after["nextCursor"]), (vec![], &Value::Null), "{late}");
    }
}

async fn a_parsed_and_reprinted_cursor_is_the_same(backend: Backend) {
    let server = TestServer::start(backend).await;
    // Enough records that some times end in zeros, which a careless formatter would omit.
    apply(&server, (0..100).map(|n| operation(&n.to_string(), None, b"1"))).await;
    let all = page(&server, "").await;
    let records = all["records"].as_array().expect("records");
    for (index, record) in records.iter().enumerate() {
        let time = &record["updated_at"];
        // `millis` fails the test unless formatting the time again gives the same text.
        let printed = Timestamp::from_millis(millis(time)).to_string();
        let text = printed.as_bytes();
        assert_eq!(text.len(), "2024-01-15T10:30:00.000Z".len());
        assert_eq!((text[10], text[19], text[23]), (b'T', b'.', b'Z'));
        let after = page(&server, &format!("?limit=1&cursor={printed}")).await;
        let next = records.get(index + 1).map(|next| next["recordId"].clone());
        assert_eq!(after["records"].get(0).map(|found| found["recordId"].clone()), next);
    }
}
