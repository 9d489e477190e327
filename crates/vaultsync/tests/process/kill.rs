//! `kill -9` under load: nothing acknowledged is lost, and no push is half there.

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
    kill_9_loses_nothing_acknowledged_and_halves_no_push,
);

const ROUNDS: u64 = 24;
const WRITERS: usize = 4;
const RECORDS_PER_WRITER: usize = 12;

/// What a record holds: its version and ciphertext.
type State = BTreeMap<String, (u64, String)>;

/// One device: it writes records of its own, so it knows what they must hold.
#[derive(Default)]
struct Writer {
    acknowledged: State,
    /// The push that was sent last and not answered: the body, and what it would make.
    in_flight: Option<(Value, State)>,
}

/// The next push of a writer: some of its records, each on top of its last acknowledged version.
fn next_push(writer: &Writer, number: usize, rng: &mut StdRng) -> (Value, State) {
    let mut made = State::new();
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
        made.insert(id, (base.unwrap_or(0) + 1, ciphertext));
    }
    (json!({ "operations": operations }), made)
}

/// One that waits for no answer longer than any answer can take.
fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(60)).build().expect("a client")
}

/// Pushes until the server is gone.
async fn write(url: String, token: String, number: usize, writer: Arc<Mutex<Writer>>, seed: u64) {
    let client = client();
    let mut rng = StdRng::seed_from_u64(seed);
    loop {
        let (body, made) = {
            let mut writer = writer.lock().unwrap();
            let next = match writer.in_flight.take() {
                // What was not answered is sent again, unchanged.
                Some(again) => again,
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
            // A disk that is too slow at the moment: the same push again.
            continue;
        }
        assert_eq!(status, 200, "{answer}");
        for result in answer["results"].as_array().unwrap() {
            let id = result["recordId"].as_str().unwrap();
            assert_eq!(result["version"].as_u64(), Some(made[id].0), "{id}");
        }
        let mut writer = writer.lock().unwrap();
        writer.acknowledged.extend(made);
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
            let held = (record["version"].as_u64().unwrap(), record["ciphertext"].clone());
            let id = record["recordId"].as_str().unwrap().to_owned();
            state.insert(id, (held.0, held.1.as_str().unwrap().to_owned()));
        }
        if let Some(next) = page["nextCursor"].as_str() {
            next.clone_into(&mut cursor);
        }
        if page["hasMore"] == false {
            return state;
        }
    }
}

/// What the server holds of a writer's records is what it acknowledged, with or without the whole
/// of the push that was in flight.
fn check(writer: &Writer, number: usize, served: &State) {
    let mine = format!("{number}-");
    let served: State = served
        .iter()
        .filter(|(id, _)| id.starts_with(&mine))
        .map(|(id, held)| (id.clone(), held.clone()))
        .collect();
    let mut with_in_flight = writer.acknowledged.clone();
    if let Some((_, made)) = &writer.in_flight {
        with_in_flight.extend(made.clone());
    }
    let versions =
        |state: &State| state.iter().map(|(id, held)| (id.clone(), held.0)).collect::<Vec<_>>();
    assert!(
        served == writer.acknowledged || served == with_in_flight,
        "served {:?}\nacknowledged {:?}\nwith the push in flight {:?}",
        versions(&served),
        versions(&writer.acknowledged),
        versions(&with_in_flight),
    );
}

async fn kill_9_loses_nothing_acknowledged_and_halves_no_push(backend: Backend) {
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
            writing.await.expect("a writer is never refused");
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
    assert!(acknowledged > ROUNDS, "there was a load: {acknowledged} versions acknowledged");
    println!("{ROUNDS} kills, {acknowledged} versions acknowledged, none lost");
}
