//! How much one user, one address and one request may take, and that nobody else pays for it.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use vaultsync_server::Limits;
use vaultsync_testkit::{
    Answer, Backend, RawClient, Setup, TestServer, backends, operation, push_of, send,
};

backends!(
    a_user_over_their_rate_is_told_when_to_come_back_and_others_are_served,
    a_push_over_the_rate_is_not_applied,
    an_address_over_its_rate_is_turned_away_before_sign_in,
    an_address_that_fails_to_sign_in_too_often_is_told_to_wait_and_may_still_sign_in,
    without_a_trusted_proxy_a_forwarded_address_counts_for_nothing,
    behind_a_trusted_proxy_each_forwarded_address_has_a_rate_of_its_own,
    every_path_is_charged_to_its_address_but_the_health_check,
    a_rate_of_zero_turns_every_rate_off,
    one_wait_too_many_is_refused_at_once_and_others_may_wait,
    a_client_that_goes_away_no_longer_waits,
    bodies_that_do_not_fit_together_are_refused_and_all_memory_comes_back,
    an_announced_body_takes_no_memory_before_it_comes,
    pages_that_do_not_fit_together_are_shorter_or_refused_and_all_memory_comes_back,
    a_page_without_room_for_its_first_record_is_refused,
    a_body_that_says_it_is_too_long_is_refused_before_it_comes,
    a_body_of_just_the_length_allowed_is_taken,
    a_chunked_body_is_refused_once_it_is_too_long,
    a_ciphertext_may_be_as_long_as_the_setting_says,
    a_page_ends_before_it_passes_its_setting_but_never_before_its_first_record,
    headers_longer_than_the_setting_are_refused,
    headers_without_end_are_refused_and_closed,
    broken_bodies_leave_no_memory_behind,
    a_user_who_holds_their_share_is_refused_and_nobody_else,
    a_user_who_does_not_read_leaves_memory_to_others,
    a_request_that_could_be_read_in_two_ways_ends_its_connection,
);

const MIB: usize = 1024 * 1024;

/// The most that may pass until the server has done what it does at once, on a machine that is
/// busy.
const SOON: Duration = Duration::from_secs(8);

/// A server without rates.
async fn server(backend: Backend, limits: Limits) -> TestServer {
    let limits = Limits { rate_per_user: 0, ..limits };
    TestServer::start_with(Setup { limits, ..Setup::on(backend) }).await
}

/// A server with rates: those that are not set are out of any test's reach.
async fn server_with_rates(
    backend: Backend,
    user: u32,
    address: u32,
    sign_in_failures: u32,
) -> TestServer {
    server_behind(backend, &[], user, address, sign_in_failures).await
}

async fn server_behind(
    backend: Backend,
    trusted_proxies: &[&'static str],
    user: u32,
    address: u32,
    sign_in_failures: u32,
) -> TestServer {
    let limits = Limits {
        rate_per_user: user,
        rate_per_address: address,
        sign_in_failures_per_address: sign_in_failures,
        ..Limits::default()
    };
    let trusted_proxies = trusted_proxies.to_vec();
    TestServer::start_with(Setup { limits, trusted_proxies, ..Setup::on(backend) }).await
}

/// A rate that no test reaches.
const HIGH: u32 = 100_000;

/// Sends a request again and again until it is one too many; the answers before that must have
/// `status`, and there must be as many as a burst of 3 has, or a few more on a slow machine.
async fn use_up(status: u16, request: impl Fn() -> reqwest::RequestBuilder) -> Answer {
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

async fn a_user_over_their_rate_is_told_when_to_come_back_and_others_are_served(backend: Backend) {
    let server = server_with_rates(backend, 1, HIGH, HIGH).await;
    let token = server.token("ada");
    let pull = || server.request(Method::GET, "/api/sync/pull").bearer_auth(&token);
    assert_rate_limited(&use_up(200, pull).await, "user", 3);
    assert_eq!(server.pull("bob", "").await.status, 200);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(send(pull()).await.status, 200, "a second later there is room for one");
}

async fn a_push_over_the_rate_is_not_applied(backend: Backend) {
    let server = server_with_rates(backend, 1, HIGH, HIGH).await;
    let mut refused = None;
    for number in 0..20 {
        let record = format!("r{number}");
        if server.push("ada", &push_of([operation(&record, None, b"x")])).await.status == 429 {
            refused = Some(record);
            break;
        }
    }
    let refused = refused.expect("a push too many");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let page = server.pull("ada", "").await.text;
    assert!(page.contains("r0") && !page.contains(&refused), "{page}");
}

async fn an_address_over_its_rate_is_turned_away_before_sign_in(backend: Backend) {
    let server = server_with_rates(backend, HIGH, 1, HIGH).await;
    let pull = || server.request(Method::GET, "/api/sync/pull");
    assert_rate_limited(&use_up(401, pull).await, "address", 3);
    // A token changes nothing.
    assert_eq!(server.pull("ada", "").await.status, 429);
    assert_eq!(send(server.request(Method::GET, "/healthz")).await.status, 200);
}

async fn an_address_that_fails_to_sign_in_too_often_is_told_to_wait_and_may_still_sign_in(
    backend: Backend,
) {
    let server = server_with_rates(backend, HIGH, HIGH, 1).await;
    let token = server.token("ada");
    let forged = format!("{}x", token.rsplit_once('.').expect("a token").0);
    let pull = || server.request(Method::GET, "/api/sync/pull").bearer_auth(&forged);
    assert_rate_limited(&use_up(401, pull).await, "sign-in", 3);
    assert_eq!(server.pull("ada", "").await.status, 200);
}

async fn without_a_trusted_proxy_a_forwarded_address_counts_for_nothing(backend: Backend) {
    let server = server_with_rates(backend, HIGH, 1, HIGH).await;
    let number = std::sync::atomic::AtomicU32::new(1);
    let pull = || {
        let last = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        server
            .request(Method::GET, "/api/sync/pull")
            .header("x-forwarded-for", format!("192.0.2.{last}"))
    };
    assert_rate_limited(&use_up(401, pull).await, "address", 3);
}

async fn behind_a_trusted_proxy_each_forwarded_address_has_a_rate_of_its_own(backend: Backend) {
    let server = server_behind(backend, &["127.0.0.0/8"], HIGH, 1, HIGH).await;
    let pull = |forwarded: &'static str| {
        server.request(Method::GET, "/api/sync/pull").header("x-forwarded-for", forwarded)
    };
    let too_many = use_up(401, || pull("192.0.2.1")).await;
    assert_rate_limited(&too_many, "address", 3);
    assert_eq!(send(pull("192.0.2.2")).await.status, 401);
    // What stands before the proxy's own entry, the client has made up.
    assert_eq!(send(pull("192.0.2.3, 192.0.2.1")).await.status, 429);
}

async fn every_path_is_charged_to_its_address_but_the_health_check(backend: Backend) {
    for (path, status) in
        [("/readyz", 200), ("/openapi.json", 200), ("/docs/", 200), ("/nowhere", 404)]
    {
        let server = server_with_rates(backend, HIGH, 1, HIGH).await;
        let refused = use_up(status, || server.request(Method::GET, path)).await;
        assert_eq!(refused.json()["code"], "rate_limited", "{path}");
        for _ in 0..20 {
            let health = send(server.request(Method::GET, "/healthz")).await;
            assert_eq!(health.status, 200, "{path}");
        }
    }
}

async fn a_rate_of_zero_turns_every_rate_off(backend: Backend) {
    let server = server(
        backend,
        Limits { rate_per_address: 1, sign_in_failures_per_address: 1, ..Limits::default() },
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

/// Two pulls of `ada` that wait, and how a third one is answered.
async fn two_waits_and_a_refusal(server: &TestServer) -> ([RawClient; 2], Answer) {
    let until = async {
        loop {
            let clients = [waiting(server, "ada").await, waiting(server, "ada").await];
            tokio::time::sleep(Duration::from_millis(200)).await;
            // Where the machine was so slow that this one came before one of those two, again.
            let third = server.pull("ada", "?wait=1").await;
            if third.status == 429 {
                break (clients, third);
            }
        }
    };
    tokio::time::timeout(SOON, until).await.expect("a third wait is refused")
}

async fn one_wait_too_many_is_refused_at_once_and_others_may_wait(backend: Backend) {
    let server = server(backend, Limits { waits_per_user_max: 2, ..Limits::default() }).await;
    let (mut waiting, refused) = two_waits_and_a_refusal(&server).await;
    assert_eq!(refused.json()["code"], "rate_limited");
    assert_eq!(refused.header("retry-after"), "1");

    assert_eq!(server.pull("ada", "").await.status, 200, "not to wait is fine");
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

async fn a_client_that_goes_away_no_longer_waits(backend: Backend) {
    let server = server(backend, Limits { waits_per_user_max: 2, ..Limits::default() }).await;
    for _ in 0..3 {
        let (clients, _) = two_waits_and_a_refusal(&server).await;
        drop(clients);
        let free = async {
            while server.pull("ada", "?wait=1").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, free).await.expect("a place to wait");
    }
}

/// A push's head, with `rest` among its headers.
fn push_head(server: &TestServer, rest: &str) -> String {
    let token = server.token("ada");
    format!(
        "POST /api/sync/push HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\
         {rest}\r\n\r\n"
    )
}

/// Pushes until that works: memory comes back when the server notices that its holder is gone.
async fn push_succeeds(server: &TestServer, ciphertext: &[u8]) {
    let until = async {
        while server.push("eve", &push_of([operation("a", None, ciphertext)])).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, until).await.expect("there is memory for a push");
}

async fn bodies_that_do_not_fit_together_are_refused_and_all_memory_comes_back(backend: Backend) {
    let server =
        server(backend, Limits { memory_bytes_max: 3 * MIB / 2, ..Limits::default() }).await;
    for _ in 0..3 {
        let mut holders = Vec::new();
        for _ in 0..2 {
            let mut client = RawClient::connect(&server).await;
            client.send(push_head(&server, "Content-Length: 1400000")).await;
            client.send(vec![b' '; 700_000]).await;
            holders.push(client);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = tokio::time::Instant::now();
        let refused = server.push("bob", &push_of([operation("a", None, &vec![7; MIB])])).await;
        assert_eq!((refused.status, &refused.json()["code"]), (503, &"unavailable".into()));
        assert_eq!(refused.header("retry-after"), "1");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        drop(holders);
        push_succeeds(&server, &vec![7; MIB]).await;
    }
}

async fn an_announced_body_takes_no_memory_before_it_comes(backend: Backend) {
    let server =
        server(backend, Limits { memory_bytes_max: 3 * MIB / 2, ..Limits::default() }).await;
    let mut announced = Vec::new();
    for _ in 0..20 {
        let mut client = RawClient::connect(&server).await;
        client.send(push_head(&server, "Content-Length: 1400000")).await;
        announced.push(client);
    }
    push_succeeds(&server, &vec![7; MIB]).await;
}

async fn pages_that_do_not_fit_together_are_shorter_or_refused_and_all_memory_comes_back(
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
        // One after the other: the first page is whole then, and too long for the system to buffer.
        assert!(client.read_some(12).await.is_some(), "an answer, or a refusal");
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
    assert!(records().await < 4, "memory is short");
    drop(unread);
    let until = async {
        while records().await != 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, until).await.expect("there is memory for a page");

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

async fn a_page_without_room_for_its_first_record_is_refused(backend: Backend) {
    let server = server(backend, Limits { memory_bytes_max: 10 * MIB, ..Limits::default() }).await;
    let push = push_of([operation("a", None, &vec![7; MIB - 1024])]);
    assert_eq!(server.push("ada", &push).await.status, 200);
    let refused = async {
        loop {
            // What is left beside this body is less than one record takes.
            let mut holder = RawClient::connect(&server).await;
            holder.send(push_head(&server, "Content-Length: 9000000")).await;
            holder.send(" ".repeat(8_500_000)).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            // Where the machine was so slow that the page came before the body, again.
            let pulled = server.pull("ada", "").await;
            if pulled.status != 200 {
                break pulled;
            }
        }
    };
    let refused = tokio::time::timeout(SOON, refused).await.expect("the memory is taken");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"unavailable".into()));
    assert_eq!(refused.header("retry-after"), "1");
}

async fn a_body_that_says_it_is_too_long_is_refused_before_it_comes(backend: Backend) {
    let server = server(backend, Limits { body_bytes_max: 1000, ..Limits::default() }).await;
    let mut client = RawClient::connect(&server).await;
    client.send(push_head(&server, "Content-Length: 1001")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["code"]), (413, &"payload_too_large".into()));

    let mut client = RawClient::connect(&server).await;
    client.send(push_head(&server, "Content-Length: 9000000000000000000")).await;
    assert_eq!(client.answer().await.status, 413);
}

async fn a_body_of_just_the_length_allowed_is_taken(backend: Backend) {
    let server = server(backend, Limits { body_bytes_max: 1000, ..Limits::default() }).await;
    let body = format!("{:<1000}", push_of([]).to_string());
    for (body, status) in [(body.clone(), 200), (body + " ", 413)] {
        let request = server.request(Method::POST, "/api/sync/push");
        let answer = send(request.bearer_auth(server.token("ada")).body(body)).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

async fn a_chunked_body_is_refused_once_it_is_too_long(backend: Backend) {
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

async fn a_ciphertext_may_be_as_long_as_the_setting_says(backend: Backend) {
    let server = server(backend, Limits { ciphertext_bytes_max: 10, ..Limits::default() }).await;
    let pushed = server.push("ada", &push_of([operation("a", None, &[7; 10])])).await;
    assert_eq!(pushed.status, 200, "{pushed:?}");
    let refused = server.push("ada", &push_of([operation("b", None, &[7; 11])])).await;
    assert_eq!((refused.status, &refused.json()["code"]), (400, &"invalid_request".into()));
    assert_eq!(refused.json()["issues"][0]["path"], "operations[0].ciphertext");
}

async fn a_page_ends_before_it_passes_its_setting_but_never_before_its_first_record(
    backend: Backend,
) {
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

async fn headers_longer_than_the_setting_are_refused(backend: Backend) {
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

async fn headers_without_end_are_refused_and_closed(backend: Backend) {
    let server = server(backend, Limits::default()).await;
    let mut client = RawClient::connect(&server).await;
    client.send("GET /healthz HTTP/1.1\r\nHost: test\r\nX-Long: ").await;
    let began = tokio::time::Instant::now();
    while client.try_send([b'z'; 4096]).await.is_ok() {
        assert!(began.elapsed() < SOON, "still open");
    }
    assert_eq!(server.pull("ada", "").await.status, 200);
}

async fn a_user_who_holds_their_share_is_refused_and_nobody_else(backend: Backend) {
    let limits = Limits { memory_bytes_per_user_max: 3 * MIB / 2, ..Limits::default() };
    let server = server(backend, limits).await;
    let push = push_of([operation("a", None, &vec![7; MIB])]);
    for name in ["ada", "ben"] {
        assert_eq!(server.push(name, &push_of([operation("b", None, &[7])])).await.status, 200);
    }
    // What is left beside these bodies is less than one record takes.
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut client = RawClient::connect(&server).await;
        client.send(push_head(&server, "Content-Length: 1400000")).await;
        client.send(vec![b' '; 786_300]).await;
        holders.push(client);
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
    for refused in tokio::time::timeout(SOON, refused).await.expect("the share is taken") {
        assert_eq!((refused.status, &refused.json()["code"]), (429, &"rate_limited".into()));
        assert_eq!(refused.header("retry-after"), "1");
    }
    assert_eq!(server.push("ben", &push).await.status, 200);
    assert_eq!(server.pull("ben", "").await.status, 200);
    drop(holders);
    let until = async {
        while server.push("ada", &push).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, until).await.expect("the share comes back");
}

async fn a_user_who_does_not_read_leaves_memory_to_others(backend: Backend) {
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
        assert!(client.read_some(12).await.is_some(), "an answer, or a refusal");
        unread.push(client);
    }
    let last = server.pull("ada", "").await;
    let records = last.json()["records"].as_array().map_or(0, Vec::len);
    assert!(last.status == 429 || records < 4, "{last:?}");
    let whole = server.pull("ben", "").await.json();
    assert_eq!(whole["records"].as_array().map(Vec::len), Some(2));
}

async fn broken_bodies_leave_no_memory_behind(backend: Backend) {
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

async fn a_request_that_could_be_read_in_two_ways_ends_its_connection(backend: Backend) {
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
