//! Devices that follow while others write: they miss nothing.

use std::collections::BTreeMap;

use serde_json::Value;
use vaultsync_testkit::{Answer, Backend, TestServer, backends, operation, push_of};

use crate::{USER, page};

backends!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    a_follower_gets_everything_while_others_write,
);

/// The state of a device: each record's version and ciphertext.
type Device = BTreeMap<String, (u64, String)>;

/// Pulls pages from `cursor` and applies them, until there are no more.
async fn catch_up(server: &TestServer, copy: &mut Device, cursor: &mut String) {
    loop {
        let page = page(server, &format!("?limit=3&cursor={cursor}")).await;
        for record in page["records"].as_array().expect("records") {
            let text = |name: &str| record[name].as_str().expect(name).to_owned();
            let version = record["version"].as_u64().expect("a version");
            let previous = copy.insert(text("recordId"), (version, text("ciphertext")));
            assert!(previous.is_none_or(|(previous, _)| previous < version), "an older version");
        }
        if let Some(next) = page["nextCursor"].as_str() {
            next.clone_into(cursor);
        }
        if page["hasMore"] == false {
            return;
        }
    }
}

/// Pushes until the response is not a 503, which a busy disk may cause.
async fn push(server: &TestServer, body: &Value) -> Answer {
    loop {
        let answer = server.push(USER, body).await;
        if answer.status != 503 {
            return answer;
        }
    }
}

/// Writes batches of its own records, and edits of one shared record, until all are applied.
async fn write(server: &TestServer, device: usize) {
    for round in 0..10 {
        let own = |n: usize| operation(&format!("{device}-{round}-{n}"), None, &[7]);
        let answer = push(server, &push_of((0..4).map(own))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut base = None;
        loop {
            let content = format!("{device}-{round}");
            let edit = operation("shared", base, content.as_bytes());
            let answer = push(server, &push_of([edit])).await;
            match answer.status {
                200 => break,
                409 => base = answer.json()["conflicts"][0]["currentVersion"].as_u64(),
                _ => panic!("{answer:?}"),
            }
        }
    }
}

async fn a_follower_gets_everything_while_others_write(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (mut followed, mut cursor) = (Device::new(), String::new());
    {
        let mut writers = std::pin::pin!(async {
            tokio::join!(write(&server, 0), write(&server, 1), write(&server, 2));
        });
        let mut writing = true;
        while writing {
            tokio::select! {
                () = &mut writers => writing = false,
                () = catch_up(&server, &mut followed, &mut cursor) => {}
            }
        }
    }
    catch_up(&server, &mut followed, &mut cursor).await;
    let mut from_the_start = Device::new();
    catch_up(&server, &mut from_the_start, &mut String::new()).await;
    assert_eq!(followed, from_the_start);
    assert_eq!(followed.len(), 3 * 10 * 4 + 1);
    assert_eq!(followed["shared"].0, 30, "no edit of the shared record was lost");
    let last: Value = page(&server, &format!("?cursor={cursor}")).await;
    assert_eq!(last["head"], cursor);
}
