//! What is told to whom.

use futures_util::future::join_all;
use vaultsync_testkit::{Backend, Setup, TestServer, backends, operation, push_of};

use crate::{USER, apply, head, stream::Stream};

backends!(
    the_present_head_is_told_at_the_start,
    nothing_is_told_of_an_empty_vault_until_its_first_push,
    each_push_of_the_user_is_told_to_each_of_their_streams_and_nobody_elses,
    a_tombstone_is_told,
    a_push_that_writes_nothing_is_not_told,
    of_many_pushes_at_once_the_last_is_told_in_any_case,
    nothing_falls_between_the_present_head_and_the_first_hint,
);

async fn the_present_head_is_told_at_the_start(backend: Backend) {
    let server = TestServer::start(backend).await;
    let present = apply(&server, USER, [operation("a", None, b"1")]).await;
    for _ in 0..2 {
        assert_eq!(Stream::open(&server, USER).await.head().await, present);
    }
}

async fn nothing_is_told_of_an_empty_vault_until_its_first_push(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut stream = Stream::open(&server, USER).await;
    let first = apply(&server, USER, [operation("a", None, b"1")]).await;
    assert_eq!(stream.head().await, first);
}

async fn each_push_of_the_user_is_told_to_each_of_their_streams_and_nobody_elses(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, "bob", [operation("b", None, b"1")]).await;
    let mut streams = [Stream::open(&server, USER).await, Stream::open(&server, USER).await];
    for round in 0..10 {
        apply(&server, "bob", [operation(&format!("b{round}"), None, b"1")]).await;
        let names = [format!("{round}-a"), format!("{round}-b")];
        let names = names.each_ref().map(|name| operation(name, None, b"1"));
        let after = apply(&server, USER, names).await;
        for stream in &mut streams {
            assert_eq!(stream.head().await, after, "one event for each push");
        }
    }
}

async fn a_tombstone_is_told(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, USER, [operation("a", None, b"1")]).await;
    let mut stream = Stream::open(&server, USER).await;
    stream.head().await;
    let after = apply(&server, USER, [operation("a", Some(1), b"")]).await;
    assert_eq!(stream.head().await, after);
}

async fn a_push_that_writes_nothing_is_not_told(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, USER, [operation("a", None, b"1")]).await;
    let mut stream = Stream::open(&server, USER).await;
    let present = stream.head().await;
    // A retry, an empty push and a conflict.
    assert_eq!(apply(&server, USER, [operation("a", None, b"1")]).await, present);
    assert_eq!(apply(&server, USER, []).await, present);
    let refused = push_of([operation("new", None, b"2"), operation("a", None, b"2")]);
    assert_eq!(server.push(USER, &refused).await.status, 409);
    let after = apply(&server, USER, [operation("b", None, b"1")]).await;
    assert_eq!(stream.head().await, after, "the first event after the start");
}

async fn of_many_pushes_at_once_the_last_is_told_in_any_case(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut stream = Stream::open(&server, USER).await;
    for round in 0..5 {
        let mut pushes = Vec::new();
        for push in 0..40 {
            let body = push_of([operation(&format!("{round}-{push}"), None, b"1")]);
            let request = server.request(reqwest::Method::POST, "/api/sync/push").json(&body);
            let request = request.bearer_auth(server.token(USER));
            pushes.push(tokio::spawn(vaultsync_testkit::send(request)));
        }
        for push in pushes {
            assert_eq!(push.await.expect("no panic").status, 200);
        }
        let last = head(&server, USER).await;
        let mut told = stream.head().await;
        while told != last {
            let next = stream.head().await;
            assert!(next > told, "{next} after {told}");
            told = next;
        }
    }
}

async fn nothing_falls_between_the_present_head_and_the_first_hint(backend: Backend) {
    let mut setup = Setup::on(backend);
    setup.limits.waits_per_user_max = 1000;
    let server = TestServer::start_with(setup).await;
    let token = server.token(USER);
    for round in 0..50 {
        let name = format!("r{round}");
        let push = apply(&server, USER, [operation(&name, None, b"1")]);
        let opening = join_all((0..10).map(|_| Stream::open_with(&server, &token)));
        let (streams, last) = tokio::join!(opening, push);
        for mut stream in streams {
            while stream.head().await != last {}
        }
    }
}
