//! Paging through a vault.

use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestServer, backends, operation};

use crate::{apply, ids, millis, page, server_with_pages_of};

backends!(
    every_limit_visits_all_records_in_the_same_order,
    a_page_has_100_records_by_default,
    each_write_has_its_own_later_millisecond,
    a_rewritten_record_moves_to_the_end,
    a_page_ends_before_its_byte_limit_but_has_at_least_one_record,
    has_more_means_that_a_later_record_exists,
);

/// Pulls until there are no more records, and returns the pages.
async fn walk(server: &TestServer, limit: usize) -> Vec<Value> {
    let mut pages = vec![page(server, &format!("?limit={limit}")).await];
    while let Some(last) = pages.last()
        && last["hasMore"] == true
    {
        let cursor = last["nextCursor"].as_str().expect("a page with more has a cursor");
        let next = page(server, &format!("?limit={limit}&cursor={cursor}")).await;
        pages.push(next);
        assert!(pages.len() < 1000, "paging does not end");
    }
    pages
}

fn sizes(pages: &[Value]) -> Vec<usize> {
    pages.iter().map(|page| ids(page).len()).collect()
}

async fn every_limit_visits_all_records_in_the_same_order(backend: Backend) {
    const COUNT: usize = 130;
    let server = TestServer::start(backend).await;
    let names: Vec<String> = (0..COUNT).map(|n| format!("r{:03}", (n * 77) % COUNT)).collect();
    for batch in names.chunks(50) {
        apply(&server, batch.iter().map(|name| operation(name, None, b"x"))).await;
    }
    for limit in 1..=100 {
        let pages = walk(&server, limit).await;
        let seen: Vec<&str> = pages.iter().flat_map(ids).collect();
        assert_eq!(seen, names, "with pages of {limit}");
        let full = COUNT.div_ceil(limit);
        assert_eq!(pages.len(), full, "the fewest possible pages of {limit}");
        assert!(sizes(&pages)[..full - 1].iter().all(|size| *size == limit));
        for page in &pages {
            let last = page["records"].as_array().and_then(|records| records.last());
            assert_eq!(page["nextCursor"], last.expect("a record")["updated_at"]);
        }
    }
}

async fn a_page_has_100_records_by_default(backend: Backend) {
    let server = TestServer::start(backend).await;
    for half in 0..2 {
        let name = |n| format!("{half}-{n}");
        apply(&server, (0..51).map(|n| operation(&name(n), None, b"x"))).await;
    }
    let first = page(&server, "").await;
    assert_eq!((ids(&first).len(), &first["hasMore"]), (100, &json!(true)));
    assert_eq!(first, page(&server, "?limit=100").await);
}

async fn each_write_has_its_own_later_millisecond(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut names = Vec::new();
    for batch in 0..5 {
        let batch: Vec<String> =
            (0..20).map(|n| format!("{}", (n * 7 + batch * 31) % 97)).collect();
        let batch: Vec<String> = batch.into_iter().filter(|name| !names.contains(name)).collect();
        apply(&server, batch.iter().map(|name| operation(name, None, b"x"))).await;
        names.extend(batch);
    }
    let all = page(&server, "").await;
    assert_eq!(ids(&all), names, "in the order of pushes, and of operations in each");
    let times: Vec<i64> = all["records"]
        .as_array()
        .expect("records")
        .iter()
        .map(|record| millis(&record["updated_at"]))
        .collect();
    assert!(times.is_sorted_by(|earlier, later| earlier < later), "{times:?}");
}

async fn a_rewritten_record_moves_to_the_end(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, ["a", "b", "c"].map(|name| operation(name, None, b"1"))).await;
    let before = page(&server, "").await;
    let cursor = before["nextCursor"].as_str().expect("a cursor");
    apply(&server, [operation("b", Some(1), b"2")]).await;
    apply(&server, [operation("a", Some(1), b"")]).await;
    assert_eq!(ids(&page(&server, "").await), ["c", "b", "a"]);
    let changes = page(&server, &format!("?cursor={cursor}")).await;
    assert_eq!(ids(&changes), ["b", "a"]);
    assert_eq!(changes["records"][1]["deleted"], true, "a delete is a change too");
}

async fn a_page_ends_before_its_byte_limit_but_has_at_least_one_record(backend: Backend) {
    let server = server_with_pages_of(backend, 10).await;
    let lengths = [4, 6, 1, 10, 11, 30, 5, 5, 0, 0, 1, 9];
    let record =
        |(index, length): (usize, &usize)| operation(&index.to_string(), None, &vec![7; *length]);
    apply(&server, lengths.iter().enumerate().map(record)).await;
    let pages = walk(&server, 100).await;
    assert_eq!(sizes(&pages), [2, 1, 1, 1, 1, 4, 2]);
    let seen: Vec<&str> = pages.iter().flat_map(ids).collect();
    assert_eq!(seen, (0..lengths.len()).map(|n| n.to_string()).collect::<Vec<_>>());
    let by_count = walk(&server, 3).await;
    assert_eq!(sizes(&by_count), [2, 1, 1, 1, 1, 3, 3]);
}

async fn has_more_means_that_a_later_record_exists(backend: Backend) {
    let server = server_with_pages_of(backend, 10).await;
    apply(&server, ["a", "b", "c"].map(|name| operation(name, None, b"12345"))).await;
    for (limit, has_more) in [(1, true), (2, true), (3, true), (100, true)] {
        let first = page(&server, &format!("?limit={limit}")).await;
        assert_eq!(first["hasMore"], has_more, "pages of {limit}");
    }
    let first = page(&server, "?limit=2").await;
    let cursor = first["nextCursor"].as_str().expect("a cursor");
    for limit in [1, 2, 100] {
        let last = page(&server, &format!("?limit={limit}&cursor={cursor}")).await;
        assert_eq!((ids(&last), &last["hasMore"]), (vec!["c"], &json!(false)));
    }
}
