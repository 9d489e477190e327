//! Query parameters of pulls.

use reqwest::Method;
use vaultsync_testkit::{Backend, backends};

use crate::{Target, Want};

backends!(
    a_limit_is_a_whole_number_from_1_to_100,
    a_wait_is_a_whole_number_of_seconds_up_to_55,
    a_cursor_is_a_time_with_an_offset,
    a_since_is_a_time_with_an_offset,
    an_epoch_in_a_query_is_at_most_64_bytes,
    a_streamed_pull_has_neither_limit_nor_wait,
    a_manifest_continues_after_a_record_id,
    a_page_of_a_manifest_has_1_to_1000_entries,
    a_parameter_may_be_given_once,
    every_problem_of_a_query_is_reported_at_once,
);

async fn check_invalid<'a>(
    backend: Backend,
    rows: impl IntoIterator<Item = (String, &'a [&'a str])>,
) {
    check_invalid_at(backend, &["pull"], rows).await;
}

/// Sends each query to each of these routes.
pub(crate) async fn check_invalid_at<'a>(
    backend: Backend,
    routes: &[&str],
    rows: impl IntoIterator<Item = (String, &'a [&'a str])>,
) {
    let target = Target::start(backend).await;
    for (query, issues) in rows {
        for route in routes {
            let request = target.request(Method::GET, &format!("/api/sync/{route}?{query}"));
            let want = Want { status: 400, code: "invalid_request", issues };
            target.check(&query, request, want).await;
        }
    }
}

async fn a_streamed_pull_has_neither_limit_nor_wait(backend: Backend) {
    let target = Target::start(backend).await;
    let rows: [(&str, &[&str]); 10] = [
        ("limit=100", &["limit"]),
        ("limit=", &["limit"]),
        ("limit=0", &["limit"]),
        ("wait=0", &["wait"]),
        ("wait=5&limit=5", &["wait", "limit"]),
        ("limit=1&limit=1", &["limit", "limit"]),
        ("cursor=now", &["cursor"]),
        ("since=now", &["since"]),
        ("epoch=e&epoch=e", &["epoch"]),
        ("limit=5&cursor=&cursor=&since=0", &["limit", "cursor", "since"]),
    ];
    for (query, issues) in rows {
        for route in ["pull", "vaults/notes/pull"] {
            for accept in ["application/x-ndjson", "application/x-ndjson, application/json"] {
                let request = target.request(Method::GET, &format!("/api/sync/{route}?{query}"));
                let want = Want { status: 400, code: "invalid_request", issues };
                target.check(query, request.header("accept", accept), want).await;
            }
        }
    }
}

const MANIFESTS: [&str; 2] = ["manifest", "vaults/notes/manifest"];

async fn a_manifest_continues_after_a_record_id(backend: Backend) {
    let long = format!("after={}", "x".repeat(256));
    let longer = format!("after={}", "%C3%A9".repeat(128));
    let rows: [(&str, &[&str]); 10] = [
        ("after=%00", &["after"]),
        ("after=a%0Ab", &["after"]),
        ("after=%7F", &["after"]),
        ("after=%C2%80", &["after"]),
        (&long, &["after"]),
        (&longer, &["after"]),
        ("after=a&after=a", &["after"]),
        ("after=&after=", &["after"]),
        ("after=a&%61fter=b", &["after"]),
        ("limit=0&after=%00&epoch=&epoch=", &["limit", "after", "epoch"]),
    ];
    let rows = rows.map(|(query, issues)| (query.to_owned(), issues));
    check_invalid_at(backend, &MANIFESTS, rows).await;
}

async fn a_page_of_a_manifest_has_1_to_1000_entries(backend: Backend) {
    let limits = ["", "0", "1001", "10000", "-1", "+5", "5.0", "1e1", "ten", "%D9%A3", "null"];
    let rows = limits.map(|limit| (format!("limit={limit}"), &["limit"][..]));
    let long = (format!("epoch={}", "e".repeat(65)), &["epoch"][..]);
    let twice = ("limit=1&limit=1".to_owned(), &["limit"][..]);
    check_invalid_at(backend, &MANIFESTS, rows.into_iter().chain([long, twice])).await;
}

async fn a_limit_is_a_whole_number_from_1_to_100(backend: Backend) {
    let limits = [
        "",
        "0",
        "00",
        "101",
        "1000",
        "-1",
        "%2B5",
        "+5",
        "5.0",
        "5.",
        "1e1",
        "0x10",
        "ten",
        "5%20",
        "%205",
        "5,6",
        "null",
        "NaN",
        "%D9%A3",
        "99999999999999999999",
        "18446744073709551617",
    ];
    check_invalid(backend, limits.map(|limit| (format!("limit={limit}"), &["limit"][..]))).await;
}

async fn a_wait_is_a_whole_number_of_seconds_up_to_55(backend: Backend) {
    let waits = ["", "56", "3600", "-1", "1.5", "1s", "true", "99999999999999999999"];
    check_invalid(backend, waits.map(|wait| (format!("wait={wait}"), &["wait"][..]))).await;
}

async fn a_cursor_is_a_time_with_an_offset(backend: Backend) {
    let cursors = [
        "0",
        "now",
        "null",
        "undefined",
        "1705314600000",
        "2024-01-15",
        "2024-01-15T10:30:00",
        "2024-01-15T10:30Z",
        "2024-01-15%2010:30:00Z",
        "2024-01-15T10:30:00Z%20",
        "%202024-01-15T10:30:00Z",
        "2024-13-15T10:30:00Z",
        "2024-02-30T10:30:00Z",
        "2024-01-15T24:00:00Z",
        "2024-01-15T10:30:61Z",
        "2024-01-15T10:30:00,5Z",
        "2024-01-15T10:30:00.Z",
        "2024-01-15T10:30:00%2B0100",
        "2024-01-15T10:30:00%2B24:00",
        "2024-01-15T10:30:00+01:60",
        "2024-01-15T10:30:00++01:00",
        "2024-01-15T10:30:00Z%00",
        "%2B2024-01-15T10:30:00Z",
        "Mon,%2015%20Jan%202024%2010:30:00%20GMT",
        "'%20or%201=1%20--",
        "%FF",
        "%EF%BC%92024-01-15T10:30:00Z",
    ];
    check_invalid(backend, cursors.map(|cursor| (format!("cursor={cursor}"), &["cursor"][..])))
        .await;
}

async fn a_since_is_a_time_with_an_offset(backend: Backend) {
    let times = ["0", "now", "null", "2024-01-15", "2024-01-15T10:30:00", "2024-02-30T10:30:00Z"];
    check_invalid(backend, times.map(|time| (format!("since={time}"), &["since"][..]))).await;
}

async fn an_epoch_in_a_query_is_at_most_64_bytes(backend: Backend) {
    let epochs = ["e".repeat(65), "%C3%A9".repeat(33), "e".repeat(4000)];
    check_invalid(backend, epochs.map(|epoch| (format!("epoch={epoch}"), &["epoch"][..]))).await;
}

async fn a_parameter_may_be_given_once(backend: Backend) {
    let rows: [(&str, &[&str]); 7] = [
        ("limit=5&limit=5", &["limit"]),
        ("since=&since=", &["since"]),
        ("cursor=&cursor=", &["cursor"]),
        ("cursor=2024-01-15T10:30:00Z&curso%72=2024-01-15T10:30:00Z", &["cursor"]),
        ("wait=0&limit=5&wait=0", &["wait"]),
        ("epoch=&epoch=e", &["epoch"]),
        ("limit=5&limit=5&limit=5", &["limit", "limit"]),
    ];
    check_invalid(backend, rows.map(|(query, issues)| (query.to_owned(), issues))).await;
}

async fn every_problem_of_a_query_is_reported_at_once(backend: Backend) {
    let many = "limit=0&".repeat(30);
    let rows: [(&str, &[&str]); 3] = [
        ("limit=0&cursor=x&wait=56", &["limit", "cursor", "wait"]),
        ("wait=x&cursor=x&limit=x&limit=1", &["wait", "cursor", "limit", "limit"]),
        (&many, &["limit"; 20]),
    ];
    check_invalid(backend, rows.map(|(query, issues)| (query.to_owned(), issues))).await;
}
