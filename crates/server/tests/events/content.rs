//! Content of streams: which heads are sent to which users.

use futures_util::future::join_all;
use serde_json::json;
use vaultsync_testkit::{Backend, Setup, TestServer, backends, operation, push_of};

use crate::{USER, apply, head, stream::Stream};

backends!(
    a_stream_starts_with_the_current_head,
    a_stream_of_an_empty_vault_is_silent_until_the_first_push,
    each_push_is_sent_to_all_streams_of_its_user_only,
    each_event_has_the_epoch,
    a_tombstone_is_an_event,
    a_push_that_writes_nothing_is_no_event,
    the_last_of_many_concurrent_pushes_is_always_sent,
    no_change_is_lost_while_a_stream_opens,
);

async fn a_stream_starts_with_the_current_head(backend: Backend) {
    let server = TestServer::start(backend).await;
    let current = apply(&server, USER, [operation("a", None, b"1")]).await;
    for _ in 0..2 {
        assert_eq!(Stream::open(&server, USER).await.head().await, current);
    }
}

async fn a_stream_of_an_empty_vault_is_silent_until_the_first_push(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut stream = Stream::open(&server, USER).await;
    let first = apply(&server, USER, [operation("a", None, b"1")]).await;
    assert_eq!(stream.head().await, first);
}

async fn each_push_is_sent_to_all_streams_of_its_user_only(backend: Backend) {
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

async fn each_event_has_the_epoch(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut first = Stream::open(&server, USER).await;
    apply(&server, USER, [operation("a", None, b"1")]).await;
    let epoch = server.pull(USER, "").await.json()["epoch"].clone();
    assert_eq!(first.event().await["epoch"], epoch, "the vault did not exist before");
    let mut second = Stream::open(&server, USER).await;
    assert_eq!(second.event().await["epoch"], epoch);
    let head = apply(&server, USER, [operation("b", None, b"1")]).await;
    for stream in [&mut first, &mut second] {
        assert_eq!(stream.event().await, json!({ "head": head, "epoch": epoch }));
    }
}

async fn a_tombstone_is_an_event(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, USER, [operation("a", None, b"1")]).await;
    let mut stream = Stream::open(&server, USER).await;
    stream.head().await;
    let after = apply(&server, USER, [operation("a", Some(1), b"")]).await;
    assert_eq!(stream.head().await, after);
}

async fn a_push_that_writes_nothing_is_no_event(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, USER, [operation("a", None, b"1")]).await;
    let mut stream = Stream::open(&server, USER).await;
    let current = stream.head().await;
    // A retry, an empty push and a conflict.
    assert_eq!(apply(&server, USER, [operation("a", None, b"1")]).await, current);
    assert_eq!(apply(&server, USER, []).await, current);
    let refused = push_of([operation("new", None, b"2"), operation("a", None, b"2")]);
    assert_eq!(server.push(USER, &refused).await.status, 409);
    let after = apply(&server, USER, [operation("b", None, b"1")]).await;
    assert_eq!(stream.head().await, after, "the next event after the start");
}

async fn the_last_of_many_concurrent_pushes_is_always_sent(backend: Backend) {
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
        let mut sent = stream.head().await;
        while sent != last {
            let next = stream.head().await;
            assert!(next > sent, "{next} after {sent}");
            sent = next;
        }
    }
}

async fn no_change_is_lost_while_a_stream_opens(backend: Backend) {
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
