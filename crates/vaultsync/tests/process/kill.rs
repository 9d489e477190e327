//! `kill -9` under load: no acknowledged write is lost, and no push is stored in part.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestDatabase, backends};

use crate::support::{Server, token};

backends!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    kill_9_loses_no_acknowledged_write_and_splits_no_push,
);

const ROUNDS: u64 = 24;
const WRITERS: usize = 4;
const RECORDS_PER_WRITER: usize = 12;

/// Version and ciphertext of each record.
type State = BTreeMap<String, (u64, String)>;

/// One device. It alone writes its records, so it knows their expected state.
#[derive(Default)]
struct Writer {
    acknowledged: State,
    /// The unanswered push, if any: its body, and the state that it would produce.
    in_flight: Option<(Value, State)>,
}

/// The next push of a writer: some of its records, each based on its last acknowledged version.
fn next_push(writer: &Writer, number: usize, rng: &mut StdRng) -> (Value, State) {
    let mut written = State::new();
    let mut operations = Vec::new();
    for record in 0..RECORDS_PER_WRITER {
        if !rng.random_bool(0.5) && record != 0 {
            continue;
        }
        let id = format!("{number}-{record}");
        let base = writer.acknowledged.get(&id).map(|(version, _)| *version);
        let bytes: Vec<u8> = (0..rng.random_range(1..2000)).map(|_| rng.random()).collect();
        let ciphertext = base64_simd::STANDARD.encode_to_string(&bytes);
        operations.push(json!({
            "recordId": id, "baseVersion": base, "ciphertext": ciphertext, "deleted": false,
        }));
        written.insert(id, (base.unwrap_or(0) + 1, ciphertext));
    }
    (json!({ "operations": operations }), written)
}

/// A client whose timeout is longer than any response takes.
fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(60)).build().expect("a client")
}

/// Pushes until the server is killed.
async fn write(url: String, token: String, number: usize, writer: Arc<Mutex<Writer>>, seed: u64) {
    let client = client();
    let mut rng = StdRng::seed_from_u64(seed);
    loop {
        let (body, written) = {
            let mut writer = writer.lock().unwrap();
            let next = match writer.in_flight.take() {
                // An unanswered push is retried unchanged.
                Some(retry) => retry,
                None => next_push(&writer, number, &mut rng),
            };
            writer.in_flight = Some(next.clone());
            next
        };
        let request = client.post(format!("{url}/api/sync/push")).bearer_auth(&token).json(&body);
        let Ok(response) = request.send().await else { return };
        let status = response.status();
        let Ok(answer) = response.json::<Value>().await else { return };
        if status == 503 {
            // The disk is too slow at the moment: retry the same push.
            continue;
        }
        assert_eq!(status, 200, "{answer}");
        for result in answer["results"].as_array().unwrap() {
            let id = result["recordId"].as_str().unwrap();
            assert_eq!(result["version"].as_u64(), Some(written[id].0), "{id}");
        }
        let mut writer = writer.lock().unwrap();
        writer.acknowledged.extend(written);
        writer.in_flight = None;
    }
}

async fn pull_all(url: &str, token: &str) -> State {
    let client = client();
    let (mut state, mut cursor) = (State::new(), String::new());
    loop {
        let url = format!("{url}/api/sync/pull?cursor={cursor}");
        let page: Value =
            client.get(url).bearer_auth(token).send().await.unwrap().json().await.unwrap();
        for record in page["records"].as_array().unwrap() {
            let id = record["recordId"].as_str().unwrap().to_owned();
            let ciphertext = record["ciphertext"].as_str().unwrap().to_owned();
            state.insert(id, (record["version"].as_u64().unwrap(), ciphertext));
        }
        if let Some(next) = page["nextCursor"].as_str() {
            next.clone_into(&mut cursor);
        }
        if page["hasMore"] == false {
            return state;
        }
    }
}

/// The server's records of a writer are those that it acknowledged, with or without the whole of the
/// push that was in flight.
fn check(writer: &Writer, number: usize, served: &State) {
    let mine = format!("{number}-");
    let served: State = served
        .iter()
        .filter(|(id, _)| id.starts_with(&mine))
        .map(|(id, record)| (id.clone(), record.clone()))
        .collect();
    let mut with_in_flight = writer.acknowledged.clone();
    if let Some((_, written)) = &writer.in_flight {
        with_in_flight.extend(written.clone());
    }
    let versions =
        |state: &State| state.iter().map(|(id, record)| (id.clone(), record.0)).collect::<Vec<_>>();
    assert!(
        served == writer.acknowledged || served == with_in_flight,
        "served {:?}\nacknowledged {:?}\nwith the push in flight {:?}",
        versions(&served),
        versions(&writer.acknowledged),
        versions(&with_in_flight),
    );
}

async fn kill_9_loses_no_acknowledged_write_and_splits_no_push(backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    let database = TestDatabase::new(backend);
    let writers: Vec<Arc<Mutex<Writer>>> = (0..WRITERS).map(|_| Arc::default()).collect();
    let flags = ["--rate-limit", "0", "--log", "warn"];
    let mut rng = StdRng::seed_from_u64(9);
    let mut token_of_user = String::new();
    for round in 0..ROUNDS {
        let mut server = Server::start_on(&database, folder.path(), &flags);
        if token_of_user.is_empty() {
            token_of_user = token(folder.path(), "ada");
        }
        let pulled = pull_all(&server.url, &token_of_user).await;
        for (number, writer) in writers.iter().enumerate() {
            check(&writer.lock().unwrap(), number, &pulled);
        }
        let writing: Vec<_> = writers
            .iter()
            .enumerate()
            .map(|(number, writer)| {
                let seed = round * 1000 + number as u64;
                let (url, token) = (server.url.clone(), token_of_user.clone());
                tokio::spawn(write(url, token, number, Arc::clone(writer), seed))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.random_range(40..250))).await;
        server.signal("KILL");
        server.wait();
        for writing in writing {
            writing.await.expect("no push of a writer fails");
        }
    }
    let server = Server::start_on(&database, folder.path(), &flags);
    let pulled = pull_all(&server.url, &token_of_user).await;
    let mut acknowledged = 0;
    for (number, writer) in writers.iter().enumerate() {
        let writer = writer.lock().unwrap();
        check(&writer, number, &pulled);
        acknowledged += writer.acknowledged.values().map(|(version, _)| version).sum::<u64>();
    }
    assert!(acknowledged > ROUNDS, "too little load: {acknowledged} versions acknowledged");
    println!("{ROUNDS} kills, {acknowledged} versions acknowledged, none lost");
}
