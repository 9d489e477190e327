//! Limits on users, addresses and requests, and that others are not affected by them.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use vaultsync_server::{Clock as _, Limits, SystemClock};
use vaultsync_testkit::{
    Answer, Backend, RawClient, Setup, TestServer, backends, operation, push_of, send,
};

backends!(
    a_user_above_the_rate_gets_a_429_and_other_users_are_served,
    a_push_above_the_rate_is_not_applied,
    an_address_above_its_rate_is_refused_before_sign_in,
    an_address_with_too_many_failed_sign_ins_gets_a_429_and_can_still_sign_in,
    a_forwarded_address_is_ignored_without_a_trusted_proxy,
    each_address_behind_a_trusted_proxy_has_its_own_rate,
    every_path_except_the_health_checks_is_charged_to_its_address,
    an_expired_token_gets_a_401_while_others_of_its_address_fail_to_sign_in,
    bytes_count_against_their_user_and_not_others,
    an_answer_that_is_not_read_counts_too,
    bytes_count_against_their_address,
    a_rate_of_zero_disables_every_rate,
    a_wait_above_the_limit_is_refused_and_other_users_can_wait,
    a_disconnected_client_no_longer_counts_as_waiting,
    bodies_above_the_memory_budget_are_refused_and_memory_is_freed,
    an_announced_body_reserves_no_memory_before_it_arrives,
    pages_above_the_memory_budget_are_shortened_or_refused_and_memory_is_freed,
    a_page_without_memory_for_its_first_record_is_refused,
    a_body_with_too_large_a_length_is_refused_before_it_arrives,
    a_body_of_exactly_the_limit_is_accepted,
    a_chunked_body_is_refused_once_it_exceeds_the_limit,
    a_ciphertext_may_reach_the_configured_length,
    a_page_ends_before_its_byte_limit_but_has_at_least_one_record,
    headers_above_the_configured_size_are_refused,
    endless_headers_are_refused_and_closed,
    broken_bodies_leak_no_memory,
    a_user_above_the_memory_share_is_refused_and_other_users_are_served,
    a_user_who_does_not_read_leaves_memory_for_others,
    an_ambiguous_request_ends_its_connection,
);

const MIB: usize = 1024 * 1024;

/// Longest time on a busy machine for anything that happens at once.
const SOON: Duration = Duration::from_secs(8);

/// A server without rates.
async fn server(backend: Backend, limits: Limits) -> TestServer {
    let limits = Limits { rate_limit: 0, ..limits };
    TestServer::start_with(Setup { limits, ..Setup::on(backend) }).await
}

/// A server with these rates.
async fn server_with_rates(
    backend: Backend,
    user: u32,
    address: u32,
    sign_in_failures: u32,
) -> TestServer {
    server_with_proxies(backend, &[], user, address, sign_in_failures).await
}

async fn server_with_proxies(
    backend: Backend,
    trusted_proxies: &[&'static str],
    user: u32,
    address: u32,
    sign_in_failures: u32,
) -> TestServer {
    let limits = Limits {
        rate_limit: user,
        rate_limit_address: address,
        rate_limit_sign_in_failures: sign_in_failures,
        ..Limits::default()
    };
    let trusted_proxies = trusted_proxies.to_vec();
    TestServer::start_with(Setup { limits, trusted_proxies, ..Setup::on(backend) }).await
}

/// A rate that no test reaches.
const HIGH: u32 = 100_000;

/// Repeats a request until it gets a 429, and returns that response. The responses before it must have
/// `status`. Their number must be a burst of 3, or slightly more on a slow machine.
async fn exhaust_rate(status: u16, request: impl Fn() -> reqwest::RequestBuilder) -> Answer {
    let began = tokio::time::Instant::now();
    for count in 0.. {
        let answer = send(request()).await;
        if answer.status == 429 {
            let seconds = began.elapsed().as_secs();
            assert!((3..=4 + seconds).contains(&count), "{count} in {seconds} s");
            return answer;
        }
        assert_eq!(answer.status, status, "{answer:?}");
    }
    unreachable!()
}

#[track_caller]
fn assert_rate_limited(answer: &Answer, policy: &str, burst: u32) {
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.json()["code"], "rate_limited");
    assert_eq!(answer.header("ratelimit-policy"), format!(r#""{policy}";q={burst};w=3"#));
    assert_eq!(answer.header("ratelimit"), format!(r#""{policy}";r=0;t=1"#));
    assert_eq!(answer.header("retry-after"), "1");
}

async fn a_user_above_the_rate_gets_a_429_and_other_users_are_served(backend: Backend) {
    let server = server_with_rates(backend, 1, HIGH, HIGH).await;
    let token = server.token("ada");
    let pull = || server.request(Method::GET, "/api/sync/pull").bearer_auth(&token);
    assert_rate_limited(&exhaust_rate(200, pull).await, "user", 3);
    assert_eq!(server.pull("bob", "").await.status, 200);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(send(pull()).await.status, 200, "a second later one request is allowed");
}

async fn a_push_above_the_rate_is_not_applied(backend: Backend) {
    let server = server_with_rates(backend, 1, HIGH, HIGH).await;
    let mut refused = None;
    for number in 0..20 {
        let record = format!("r{number}");
        if server.push("ada", &push_of([operation(&record, None, b"x")])).await.status == 429 {
            refused = Some(record);
            break;
        }
    }
    let refused = refused.expect("a push above the rate");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let page = server.pull("ada", "").await.text;
    assert!(page.contains("r0") && !page.contains(&refused), "{page}");
}

async fn an_address_above_its_rate_is_refused_before_sign_in(backend: Backend) {
    let server = server_with_rates(backend, HIGH, 1, HIGH).await;
    let pull = || server.request(Method::GET, "/api/sync/pull");
    assert_rate_limited(&exhaust_rate(401, pull).await, "address", 3);
    // A token makes no difference.
    assert_eq!(server.pull("ada", "").await.status, 429);
    assert_eq!(send(server.request(Method::GET, "/healthz")).await.status, 200);
}

async fn an_address_with_too_many_failed_sign_ins_gets_a_429_and_can_still_sign_in(
    backend: Backend,
) {
    let server = server_with_rates(backend, HIGH, HIGH, 1).await;
    let token = server.token("ada");
    let forged = format!("{}x", token.rsplit_once('.').expect("a token").0);
    let pull = || server.request(Method::GET, "/api/sync/pull").bearer_auth(&forged);
    assert_rate_limited(&exhaust_rate(401, pull).await, "sign-in", 3);
    assert_eq!(server.pull("ada", "").await.status, 200);
}

async fn a_forwarded_address_is_ignored_without_a_trusted_proxy(backend: Backend) {
    let server = server_with_rates(backend, HIGH, 1, HIGH).await;
    let number = std::sync::atomic::AtomicU32::new(1);
    let pull = || {
        let last = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        server
            .request(Method::GET, "/api/sync/pull")
            .header("x-forwarded-for", format!("192.0.2.{last}"))
    };
    assert_rate_limited(&exhaust_rate(401, pull).await, "address", 3);
}

async fn each_address_behind_a_trusted_proxy_has_its_own_rate(backend: Backend) {
    let server = server_with_proxies(backend, &["127.0.0.0/8"], HIGH, 1, HIGH).await;
    let pull = |forwarded: &'static str| {
        server.request(Method::GET, "/api/sync/pull").header("x-forwarded-for", forwarded)
    };
    let limited = exhaust_rate(401, || pull("192.0.2.1")).await;
    assert_rate_limited(&limited, "address", 3);
    assert_eq!(send(pull("192.0.2.2")).await.status, 401);
    // The client can forge what precedes the proxy's own entry.
    assert_eq!(send(pull("192.0.2.3, 192.0.2.1")).await.status, 429);
}

async fn every_path_except_the_health_checks_is_charged_to_its_address(backend: Backend) {
    for (path, status) in [("/openapi.json", 200), ("/docs/", 200), ("/nowhere", 404)] {
        let server = server_with_rates(backend, HIGH, 1, HIGH).await;
        let refused = exhaust_rate(status, || server.request(Method::GET, path)).await;
        assert_eq!(refused.json()["code"], "rate_limited", "{path}");
        for _ in 0..20 {
            for health in ["/healthz", "/readyz"] {
                let answer = send(server.request(Method::GET, health)).await;
                assert_eq!(answer.status, 200, "{health} after {path}");
            }
        }
    }
}

async fn an_expired_token_gets_a_401_while_others_of_its_address_fail_to_sign_in(backend: Backend) {
    let server = server_with_rates(backend, HIGH, HIGH, 1).await;
    let forged = format!("{}x", server.token("ada").rsplit_once('.').expect("a token").0);
    let pull = || server.request(Method::GET, "/api/sync/pull");
    exhaust_rate(401, || pull().bearer_auth(&forged)).await;
    let an_hour_ago = SystemClock::start().now().plus_millis(-3_600_000);
    let expired = server.key.mint("bob", an_hour_ago, Duration::from_secs(60)).expect("a token");
    for _ in 0..20 {
        let answer = send(pull().bearer_auth(&expired)).await;
        assert_eq!((answer.status, &answer.json()["code"]), (401, &"token_expired".into()));
        assert_eq!(send(pull()).await.status, 401, "no token");
    }
    assert_eq!(send(pull().bearer_auth(&forged)).await.status, 429);
}

/// A server with these rates of bytes, and no other rate that a test reaches.
async fn server_with_byte_rates(backend: Backend, user: usize, address: usize) -> TestServer {
    let limits = Limits {
        rate_limit: HIGH,
        rate_limit_address: HIGH,
        rate_limit_bytes: user,
        rate_limit_address_bytes: address,
        ..Limits::default()
    };
    TestServer::start_with(Setup { limits, ..Setup::on(backend) }).await
}

#[track_caller]
fn assert_byte_limited(answer: &Answer, policy: &str, burst: usize) {
    assert_eq!((answer.status, &answer.json()["code"]), (429, &"rate_limited".into()));
    let expected = format!(r#""{policy}";q={burst};qu="content-bytes";w=3"#);
    assert_eq!(answer.header("ratelimit-policy"), expected);
    let retry_after = answer.header("retry-after");
    assert_eq!(answer.header("ratelimit"), format!(r#""{policy}";r=0;t={retry_after}"#));
    assert!((1..=61).contains(&retry_after.parse().unwrap_or(0)), "{retry_after}");
}

async fn bytes_count_against_their_user_and_not_others(backend: Backend) {
    let server = server_with_byte_rates(backend, 10_000, 0).await;
    let push = push_of([operation("a", None, &vec![7; 100_000])]);
    assert_eq!(server.push("ada", &push).await.status, 200, "the bytes are known only afterwards");
    for _ in 0..3 {
        assert_byte_limited(&server.pull("ada", "").await, "user-bytes", 30_000);
        assert_byte_limited(&server.push("ada", &push).await, "user-bytes", 30_000);
    }
    assert_eq!(server.pull("bob", "").await.status, 200);
}

async fn an_answer_that_is_not_read_counts_too(backend: Backend) {
    let server = server_with_byte_rates(backend, MIB, 0).await;
    let push = push_of([operation("a", None, &vec![7; MIB - 1024])]);
    assert_eq!(server.push("ada", &push).await.status, 200);
    let token = server.token("ada");
    let mut limited = None;
    for _ in 0..50 {
        let mut client = RawClient::connect_narrow(&server).await;
        client.get("/api/sync/pull", Some(&token)).await;
        let beginning = client.read_some(12).await.expect("a page or a refusal");
        drop(client);
        if beginning.ends_with(b"429") {
            limited = Some(server.pull("ada", "").await);
            break;
        }
    }
    assert_byte_limited(&limited.expect("a refusal"), "user-bytes", 3 * MIB);
}

async fn bytes_count_against_their_address(backend: Backend) {
    let server = server_with_byte_rates(backend, 0, 10_000).await;
    let push = push_of([operation("a", None, &vec![7; 100_000])]);
    assert_eq!(server.push("ada", &push).await.status, 200);
    assert_byte_limited(&server.pull("bob", "").await, "address-bytes", 30_000);
    let health = send(server.request(Method::GET, "/readyz")).await;
    assert_eq!(health.status, 200);
}

async fn a_rate_of_zero_disables_every_rate(backend: Backend) {
    let server = server(
        backend,
        Limits { rate_limit_address: 1, rate_limit_sign_in_failures: 1, ..Limits::default() },
    )
    .await;
    for _ in 0..20 {
        assert_eq!(send(server.request(Method::GET, "/api/sync/pull")).await.status, 401);
        assert_eq!(server.pull("ada", "").await.status, 200);
    }
}

async fn waiting(server: &TestServer, user: &str) -> RawClient {
    let mut client = RawClient::connect(server).await;
    client.get("/api/sync/pull?wait=55", Some(&server.token(user))).await;
    client
}

/// Two waiting pulls of `ada`, and the refusal of a third one.
async fn two_waits_and_a_refusal(server: &TestServer) -> ([RawClient; 2], Answer) {
    let until = async {
        loop {
            let clients = [waiting(server, "ada").await, waiting(server, "ada").await];
            tokio::time::sleep(Duration::from_millis(200)).await;
            // On a slow machine this one may be served before the other two. Then try again.
            let third = server.pull("ada", "?wait=1").await;
            if third.status == 429 {
                break (clients, third);
            }
        }
    };
    tokio::time::timeout(SOON, until).await.expect("a third wait is refused")
}

async fn a_wait_above_the_limit_is_refused_and_other_users_can_wait(backend: Backend) {
    let server = server(backend, Limits { waits_per_user_max: 2, ..Limits::default() }).await;
    let (mut waiting, refused) = two_waits_and_a_refusal(&server).await;
    assert_eq!(refused.json()["code"], "rate_limited");
    assert_eq!(refused.header("retry-after"), "1");

    assert_eq!(server.pull("ada", "").await.status, 200, "a pull without a wait is allowed");
    assert_eq!(server.pull("bob", "?wait=1").await.status, 200);

    let pushed = server.push("ada", &push_of([operation("a", None, b"hello")])).await;
    assert_eq!(pushed.status, 200);
    for client in &mut waiting {
        let answer = client.answer().await;
        assert_eq!(answer.json()["records"][0]["recordId"], "a");
    }
    let head = server.pull("ada", "").await.json()["nextCursor"].clone();
    let cursor = head.as_str().expect("a cursor");
    let again = server.pull("ada", &format!("?wait=1&cursor={cursor}")).await;
    assert_eq!(again.status, 200, "{again:?}");
}

async fn a_disconnected_client_no_longer_counts_as_waiting(backend: Backend) {
    let server = server(backend, Limits { waits_per_user_max: 2, ..Limits::default() }).await;
    for _ in 0..3 {
        let (clients, _) = two_waits_and_a_refusal(&server).await;
        drop(clients);
        let free = async {
            while server.pull("ada", "?wait=1").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, free).await.expect("a wait is allowed");
    }
}

/// The head of a push, with `rest` as further headers.
fn push_head(server: &TestServer, rest: &str) -> String {
    let token = server.token("ada");
    format!(
        "POST /api/sync/push HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\
         {rest}\r\n\r\n"
    )
}

/// Pushes until it succeeds: memory is freed when the server notices that the sender is gone.
async fn push_succeeds(server: &TestServer, ciphertext: &[u8]) {
    let until = async {
        while server.push("eve", &push_of([operation("a", None, ciphertext)])).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, until).await.expect("memory for a push");
}

async fn bodies_above_the_memory_budget_are_refused_and_memory_is_freed(backend: Backend) {
    let server =
        server(backend, Limits { memory_bytes_max: 3 * MIB / 2, ..Limits::default() }).await;
    for _ in 0..3 {
        let mut senders = Vec::new();
        for _ in 0..2 {
            let mut client = RawClient::connect(&server).await;
            client.send(push_head(&server, "Content-Length: 1400000")).await;
            client.send(vec![b' '; 700_000]).await;
            senders.push(client);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = tokio::time::Instant::now();
        let refused = server.push("bob", &push_of([operation("a", None, &vec![7; MIB])])).await;
        assert_eq!((refused.status, &refused.json()["code"]), (503, &"unavailable".into()));
        assert_eq!(refused.header("retry-after"), "1");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        drop(senders);
        push_succeeds(&server, &vec![7; MIB]).await;
    }
}

async fn an_announced_body_reserves_no_memory_before_it_arrives(backend: Backend) {
    let server =
        server(backend, Limits { memory_bytes_max: 3 * MIB / 2, ..Limits::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = RawClient::connect(&server).await;
        client.send(push_head(&server, "Content-Length: 1400000")).await;
        clients.push(client);
    }
    push_succeeds(&server, &vec![7; MIB]).await;
}

async fn pages_above_the_memory_budget_are_shortened_or_refused_and_memory_is_freed(
    backend: Backend,
) {
    let limits =
        Limits { memory_bytes_max: 10 * MIB, page_bytes_max: 4 * MIB, ..Limits::default() };
    let server = server(backend, limits).await;
    for number in 0..4 {
        let push = push_of([operation(&format!("r{number}"), None, &vec![7; MIB - 1024])]);
        assert_eq!(server.push("ada", &push).await.status, 200);
    }
    let token = server.token("ada");
    let mut unread = Vec::new();
    for _ in 0..6 {
        let mut client = RawClient::connect_narrow(&server).await;
        client.get("/api/sync/pull", Some(&token)).await;
        // One after the other, so that the first page is complete and too long for socket buffers.
        assert!(client.read_some(12).await.is_some(), "a page or a refusal");
        unread.push(client);
    }
    let records = async || {
        let pulled = server.pull("ada", "").await;
        let page = pulled.json();
        let records = page["records"].as_array().map_or(0, Vec::len);
        match pulled.status {
            200 => assert_eq!(page["hasMore"] == true, records < 4, "{page}"),
            503 => assert_eq!(page["code"], "unavailable"),
            _ => panic!("{pulled:?}"),
        }
        records
    };
    assert!(records().await < 4, "the budget is used up");
    drop(unread);
    let until = async {
        while records().await != 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, until).await.expect("memory for a page");

    let mut pulls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let pull = server.request(Method::GET, "/api/sync/pull");
        pulls.spawn(send(pull.bearer_auth(&token)));
    }
    for pulled in pulls.join_all().await {
        match pulled.status {
            200 => {
                assert!(pulled.json()["records"].as_array().is_some_and(|page| !page.is_empty()));
            }
            503 => assert_eq!(pulled.header("retry-after"), "1"),
            _ => panic!("{pulled:?}"),
        }
    }
    assert_eq!(records().await, 4);
}

async fn a_page_without_memory_for_its_first_record_is_refused(backend: Backend) {
    let server = server(backend, Limits { memory_bytes_max: 10 * MIB, ..Limits::default() }).await;
    let push = push_of([operation("a", None, &vec![7; MIB - 1024])]);
    assert_eq!(server.push("ada", &push).await.status, 200);
    let refused = async {
        loop {
            // Besides this body, less memory is left than one record takes.
            let mut sender = RawClient::connect(&server).await;
            sender.send(push_head(&server, "Content-Length: 9000000")).await;
            sender.send(" ".repeat(8_500_000)).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            // On a slow machine the page may be read before the body arrives. Then try again.
            let pulled = server.pull("ada", "").await;
            if pulled.status != 200 {
                break pulled;
            }
        }
    };
    let refused = tokio::time::timeout(SOON, refused).await.expect("the budget is used up");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"unavailable".into()));
    assert_eq!(refused.header("retry-after"), "1");
}

async fn a_body_with_too_large_a_length_is_refused_before_it_arrives(backend: Backend) {
    let server = server(backend, Limits { body_bytes_max: 1000, ..Limits::default() }).await;
    let mut client = RawClient::connect(&server).await;
    client.send(push_head(&server, "Content-Length: 1001")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["code"]), (413, &"payload_too_large".into()));

    let mut client = RawClient::connect(&server).await;
    client.send(push_head(&server, "Content-Length: 9000000000000000000")).await;
    assert_eq!(client.answer().await.status, 413);
}

async fn a_body_of_exactly_the_limit_is_accepted(backend: Backend) {
    let server = server(backend, Limits { body_bytes_max: 1000, ..Limits::default() }).await;
    let body = format!("{:<1000}", push_of([]).to_string());
    for (body, status) in [(body.clone(), 200), (body + " ", 413)] {
        let request = server.request(Method::POST, "/api/sync/push");
        let answer = send(request.bearer_auth(server.token("ada")).body(body)).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

async fn a_chunked_body_is_refused_once_it_exceeds_the_limit(backend: Backend) {
    let server = server(backend, Limits { body_bytes_max: 1000, ..Limits::default() }).await;
    let mut client = RawClient::connect(&server).await;
    client.send(push_head(&server, "Transfer-Encoding: chunked")).await;
    let chunk = format!("64\r\n{}\r\n", " ".repeat(100));
    for _ in 0..11 {
        client.send(&chunk).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["code"]), (413, &"payload_too_large".into()));

    let mut client = RawClient::connect(&server).await;
    client.send(push_head(&server, "Transfer-Encoding: chunked")).await;
    client.send(chunk.repeat(9)).await;
    client.send("11\r\n{\"operations\":[]}\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
}

async fn a_ciphertext_may_reach_the_configured_length(backend: Backend) {
    let server = server(backend, Limits { ciphertext_bytes_max: 10, ..Limits::default() }).await;
    let pushed = server.push("ada", &push_of([operation("a", None, &[7; 10])])).await;
    assert_eq!(pushed.status, 200, "{pushed:?}");
    let refused = server.push("ada", &push_of([operation("b", None, &[7; 11])])).await;
    assert_eq!((refused.status, &refused.json()["code"]), (400, &"invalid_request".into()));
    assert_eq!(refused.json()["issues"][0]["path"], "operations[0].ciphertext");
}

async fn a_page_ends_before_its_byte_limit_but_has_at_least_one_record(backend: Backend) {
    let server = server(backend, Limits { page_bytes_max: 100, ..Limits::default() }).await;
    let sizes = [50, 50, 51, 200, 1];
    let operations = sizes
        .iter()
        .enumerate()
        .map(|(number, size)| operation(&number.to_string(), None, &vec![7; *size]));
    assert_eq!(server.push("ada", &push_of(operations)).await.status, 200);
    let mut cursor = String::new();
    for (records, more) in [
        (json!(["0", "1"]), true),
        (json!(["2"]), true),
        (json!(["3"]), true),
        (json!(["4"]), false),
    ] {
        let page = server.pull("ada", &format!("?cursor={cursor}")).await.json();
        let ids = page["records"].as_array().expect("records");
        let ids: Vec<_> = ids.iter().map(|record| record["recordId"].clone()).collect();
        assert_eq!((json!(ids), &page["hasMore"]), (records, &json!(more)));
        page["nextCursor"].as_str().expect("a cursor").clone_into(&mut cursor);
    }
}

async fn headers_above_the_configured_size_are_refused(backend: Backend) {
    let server = server(backend, Limits { header_bytes_max: 2000, ..Limits::default() }).await;
    let info = || server.request(Method::GET, "/api/sync/info");
    assert_eq!(send(info().header("x-long", "z".repeat(1500))).await.status, 200);
    let in_a_header = send(info().header("x-long", "z".repeat(2000))).await;
    let elsewhere = send(server.request(Method::GET, "/docs/").header("x-long", "z".repeat(2000)));
    assert_eq!(elsewhere.await.status, 431);
    let in_the_path = format!("/api/sync/info?{}", "z".repeat(2000));
    let in_the_path = send(server.request(Method::GET, &in_the_path)).await;
    for refused in [in_a_header, in_the_path] {
        assert_eq!((refused.status, &refused.json()["code"]), (431, &"headers_too_large".into()));
    }
}

async fn endless_headers_are_refused_and_closed(backend: Backend) {
    let server = server(backend, Limits::default()).await;
    let mut client = RawClient::connect(&server).await;
    client.send("GET /healthz HTTP/1.1\r\nHost: test\r\nX-Long: ").await;
    let began = tokio::time::Instant::now();
    while client.try_send([b'z'; 4096]).await.is_ok() {
        assert!(began.elapsed() < SOON, "still open");
    }
    assert_eq!(server.pull("ada", "").await.status, 200);
}

async fn a_user_above_the_memory_share_is_refused_and_other_users_are_served(backend: Backend) {
    let limits = Limits { memory_bytes_per_user_max: 3 * MIB / 2, ..Limits::default() };
    let server = server(backend, limits).await;
    let push = push_of([operation("a", None, &vec![7; MIB])]);
    for name in ["ada", "ben"] {
        assert_eq!(server.push(name, &push_of([operation("b", None, &[7])])).await.status, 200);
    }
    // Besides these bodies, less memory is left than one record takes.
    let mut senders = Vec::new();
    for _ in 0..2 {
        let mut client = RawClient::connect(&server).await;
        client.send(push_head(&server, "Content-Length: 1400000")).await;
        client.send(vec![b' '; 786_300]).await;
        senders.push(client);
    }
    let refused = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let pulled = server.pull("ada", "").await;
            if pulled.status != 200 {
                break [pulled, server.push("ada", &push).await];
            }
        }
    };
    for refused in tokio::time::timeout(SOON, refused).await.expect("the share is used up") {
        assert_eq!((refused.status, &refused.json()["code"]), (429, &"rate_limited".into()));
        assert_eq!(refused.header("retry-after"), "1");
    }
    assert_eq!(server.push("ben", &push).await.status, 200);
    assert_eq!(server.pull("ben", "").await.status, 200);
    drop(senders);
    let until = async {
        while server.push("ada", &push).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, until).await.expect("the share is freed");
}

async fn a_user_who_does_not_read_leaves_memory_for_others(backend: Backend) {
    let limits = Limits {
        memory_bytes_max: 20 * MIB,
        memory_bytes_per_user_max: 10 * MIB,
        page_bytes_max: 4 * MIB,
        ..Limits::default()
    };
    let server = server(backend, limits).await;
    for (name, number) in [("ada", 0), ("ada", 1), ("ada", 2), ("ada", 3), ("ben", 0), ("ben", 1)] {
        let push = push_of([operation(&format!("r{number}"), None, &vec![7; MIB - 1024])]);
        assert_eq!(server.push(name, &push).await.status, 200);
    }
    let mut unread = Vec::new();
    for _ in 0..20 {
        let mut client = RawClient::connect_narrow(&server).await;
        client.get("/api/sync/pull", Some(&server.token("ada"))).await;
        assert!(client.read_some(12).await.is_some(), "a page or a refusal");
        unread.push(client);
    }
    let last = server.pull("ada", "").await;
    let records = last.json()["records"].as_array().map_or(0, Vec::len);
    assert!(last.status == 429 || records < 4, "{last:?}");
    let whole = server.pull("ben", "").await.json();
    assert_eq!(whole["records"].as_array().map(Vec::len), Some(2));
}

async fn broken_bodies_leak_no_memory(backend: Backend) {
    let server =
        server(backend, Limits { memory_bytes_max: 3 * MIB / 2, ..Limits::default() }).await;
    for number in 0..30 {
        let mut client = RawClient::connect(&server).await;
        match number % 3 {
            0 => {
                client.send(push_head(&server, "Content-Length: 1400000")).await;
                client.send(vec![b' '; 700_000]).await;
            }
            1 => {
                client.send(push_head(&server, "Transfer-Encoding: chunked")).await;
                client.send(format!("64\r\n{}\r\nnonsense\r\n", " ".repeat(100))).await;
                client.closed().await;
            }
            _ => {
                client.send(push_head(&server, "Content-Length: 1400000")).await;
                client.send(vec![b' '; 700_000]).await;
                client.finish_sending().await;
                client.closed().await;
            }
        }
    }
    push_succeeds(&server, &vec![7; MIB]).await;
}

async fn an_ambiguous_request_ends_its_connection(backend: Backend) {
    let server = server(backend, Limits::default()).await;
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n";
    for (rest, body) in [
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"),
        ("Content-Length: 5\r\nContent-Length: 6", "hello"),
        ("Content-Length: +5", "hello"),
        ("Transfer-Encoding: gzip", "hello"),
        ("Transfer-Encoding: chunked", "zz\r\nhello\r\n"),
        ("Transfer-Encoding: chunked\r\n folded: too", "0\r\n\r\n"),
    ] {
        let mut client = RawClient::connect(&server).await;
        client.send(push_head(&server, rest) + body + smuggled).await;
        assert_eq!(client.answer().await.status, 400, "{rest}");
        assert!(client.try_answer().await.is_none(), "{rest}");
    }
}
