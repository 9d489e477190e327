//! Isolation of users: no user sees anything of another one, whatever they send.
//!
//! Not here: which user a token belongs to (`sign_in`).

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;
use vaultsync_protocol::Cursor;
use vaultsync_server::{
    Clock as _, SystemClock,
    auth::{Issuer, OidcOptions},
};
use vaultsync_testkit::{
    Answer, Backend, Setup, TestServer, backends,
    forge::{Algorithm, SigningKey},
    jwks_server::JwksServer,
    operation, push_of, send,
};

backends!(
    equal_record_ids_of_two_users_are_different_records,
    a_user_without_pushes_sees_nothing,
    a_conflict_shows_the_users_own_record,
    a_record_of_another_user_is_unknown,
    a_push_of_another_user_is_not_a_retry,
    a_cursor_of_another_user_is_only_a_time,
    a_page_ends_with_the_users_own_records,
    each_user_has_a_head_and_an_epoch,
    a_push_does_not_wake_other_users,
    waits_are_limited_separately_for_each_user,
    a_pull_by_post_returns_the_users_own_records,
    records_by_id_are_the_users_own,
    manifest_and_usage_are_of_the_users_own_vault,
    streams_and_exports_have_the_users_own_records,
    the_history_is_that_of_the_users_own_vault,
    similar_subjects_are_different_users,
    one_subject_at_two_issuers_is_two_users,
    one_vault_does_not_advance_the_clock_of_another,
);

const ADA: &str = "ada";
const BOB: &str = "bob";

async fn page(server: &TestServer, user: &str, query: &str) -> Value {
    let answer = server.pull(user, query).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn push(
    server: &TestServer,
    user: &str,
    operations: impl IntoIterator<Item = Value>,
) -> Value {
    let answer = server.push(user, &push_of(operations)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Id, version and ciphertext of each record of a page.
fn contents(page: &Value) -> Vec<(&str, u64, &str)> {
    let mut contents = Vec::new();
    for record in page["records"].as_array().expect("records") {
        let record_id = record["recordId"].as_str().expect("an id");
        let version = record["version"].as_u64().expect("a version");
        contents.push((record_id, version, record["ciphertext"].as_str().expect("a ciphertext")));
    }
    contents
}

/// A server with two users whose records have the same ids.
async fn two_vaults(backend: Backend) -> TestServer {
    let server = TestServer::start(backend).await;
    push(&server, ADA, ["x", "y"].map(|name| operation(name, None, b"ada"))).await;
    push(&server, BOB, ["y", "x"].map(|name| operation(name, None, b"bob"))).await;
    push(&server, BOB, [operation("x", Some(1), b"bob 2")]).await;
    server
}

async fn equal_record_ids_of_two_users_are_different_records(backend: Backend) {
    let server = two_vaults(backend).await;
    let (ada, bob) = (page(&server, ADA, "").await, page(&server, BOB, "").await);
    assert_eq!(contents(&ada), [("x", 1, "YWRh"), ("y", 1, "YWRh")]);
    assert_eq!(contents(&bob), [("y", 1, "Ym9i"), ("x", 2, "Ym9iIDI=")]);
    push(&server, ADA, [operation("x", Some(1), b"")]).await;
    assert_eq!(page(&server, BOB, "").await, bob, "her delete does not affect his record");
}

async fn a_user_without_pushes_sees_nothing(backend: Backend) {
    let server = two_vaults(backend).await;
    assert_eq!(
        page(&server, "carol", "").await,
        json!({ "records": [], "nextCursor": null, "hasMore": false, "epoch": null, "head": null })
    );
}

async fn a_conflict_shows_the_users_own_record(backend: Backend) {
    let server = two_vaults(backend).await;
    let own = page(&server, ADA, "").await["records"][0].clone();
    // His record has version 2: if the two were one record, this would overwrite hers.
    for base in [None, Some(2), Some(3)] {
        let answer = server.push(ADA, &push_of([operation("x", base, b"new")])).await;
        assert_eq!(answer.status, 409, "{answer:?}");
        let expected = json!([{
            "recordId": "x",
            "currentVersion": 1,
            "ciphertext": "YWRh",
            "deleted": false,
            "updated_at": own["updated_at"],
        }]);
        assert_eq!(answer.json()["conflicts"], expected);
    }
}

async fn a_record_of_another_user_is_unknown(backend: Backend) {
    let server = two_vaults(backend).await;
    push(&server, BOB, [operation("his", None, b"bob"), operation("his too", None, b"bob")]).await;
    push(&server, BOB, [operation("his", Some(1), b"bob 2")]).await;
    let epoch = page(&server, ADA, "").await["epoch"].clone();
    let mut body = push_of([operation("his", Some(2), b"ada")]);
    body["epoch"] = epoch;
    let answer = server.push(ADA, &body).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(
        answer.json()["conflicts"],
        json!([{
            "recordId": "his",
            "currentVersion": 0,
            "ciphertext": "",
            "deleted": true,
            "updated_at": null,
        }])
    );
    let inserted = push(&server, ADA, [operation("his", Some(2), b"ada")]).await;
    assert_eq!(inserted["results"][0]["version"], 1);
    let his = page(&server, BOB, "").await;
    assert!(contents(&his).contains(&("his", 2, "Ym9iIDI=")), "{his}");
}

async fn a_push_of_another_user_is_not_a_retry(backend: Backend) {
    let server = TestServer::start(backend).await;
    let batch = || [operation("x", Some(5), b"same"), operation("y", None, b"same")];
    let first = push(&server, ADA, batch()).await;
    // If her receipt or record were found, this would write nothing.
    let second = push(&server, BOB, batch()).await;
    assert_eq!(first["results"], second["results"]);
    assert_eq!((&first["headBefore"], &second["headBefore"]), (&Value::Null, &Value::Null));
    assert_eq!(
        contents(&page(&server, BOB, "").await),
        [("x", 1, "c2FtZQ=="), ("y", 1, "c2FtZQ==")]
    );
    push(&server, ADA, [operation("x", Some(1), b"ada 2")]).await;
    push(&server, BOB, [operation("x", Some(1), b"bob 2")]).await;
    assert_eq!(push(&server, ADA, batch()).await["results"], first["results"]);
    assert_eq!(push(&server, BOB, batch()).await["results"], second["results"]);
    let ada = page(&server, ADA, "").await;
    assert!(contents(&ada).contains(&("x", 2, "YWRhIDI=")), "{ada}");
}

async fn a_cursor_of_another_user_is_only_a_time(backend: Backend) {
    let server = two_vaults(backend).await;
    let bob = page(&server, BOB, "").await;
    for record in bob["records"].as_array().expect("records") {
        let cursor = record["updated_at"].as_str().expect("a time");
        let seen = page(&server, ADA, &format!("?cursor={cursor}")).await;
        assert!(contents(&seen).iter().all(|(_, _, ciphertext)| *ciphertext == "YWRh"), "{seen}");
    }
    let start = page(&server, ADA, "?cursor=2000-01-01T00:00:00Z").await;
    assert_eq!(contents(&start).len(), 2);
}

async fn a_page_ends_with_the_users_own_records(backend: Backend) {
    let server = two_vaults(backend).await;
    let first = page(&server, ADA, "?limit=2").await;
    assert_eq!(first["hasMore"], false, "his later records are not hers");
    assert_eq!(first["head"], first["nextCursor"]);
    let cursor = first["nextCursor"].as_str().expect("a cursor");
    let rest = page(&server, ADA, &format!("?cursor={cursor}")).await;
    assert_eq!((&rest["records"], &rest["nextCursor"]), (&json!([]), &Value::Null));
}

async fn each_user_has_a_head_and_an_epoch(backend: Backend) {
    let server = two_vaults(backend).await;
    let (ada, bob) = (page(&server, ADA, "").await, page(&server, BOB, "").await);
    assert_ne!(ada["epoch"], bob["epoch"]);
    push(&server, BOB, [operation("z", None, b"bob")]).await;
    assert_eq!(page(&server, ADA, "").await, ada, "her head has not changed");
    let his = bob["epoch"].as_str().expect("an epoch");
    let gone = server.pull(ADA, &format!("?epoch={his}")).await;
    assert_eq!((gone.status, &gone.json()["code"]), (410, &json!("epoch_changed")));
    let mut body = push_of([operation("n", None, b"ada")]);
    body["epoch"] = bob["epoch"].clone();
    let gone = server.push(ADA, &body).await;
    assert_eq!((gone.status, &gone.json()["code"]), (410, &json!("epoch_changed")));
    // His head is later than hers, so it is ahead of her vault although the server returned it.
    let head = page(&server, BOB, "").await["head"].clone();
    let (epoch, head) = (ada["epoch"].as_str().expect("an epoch"), head.as_str().expect("a head"));
    let ahead = server.pull(ADA, &format!("?epoch={epoch}&cursor={head}")).await;
    assert_eq!((ahead.status, &ahead.json()["code"]), (410, &json!("cursor_ahead")));
}

async fn a_push_does_not_wake_other_users(backend: Backend) {
    let server = two_vaults(backend).await;
    let before = page(&server, ADA, "").await;
    let cursor = before["head"].as_str().expect("a head");
    let started = Instant::now();
    let waiting = page(&server, ADA, &format!("?wait=1&cursor={cursor}")).await;
    let pushing = async {
        for n in 0..20 {
            push(&server, BOB, [operation(&n.to_string(), None, b"bob")]).await;
        }
    };
    let again = format!("?wait=1&cursor={cursor}");
    let (meanwhile, ()) = tokio::join!(page(&server, ADA, &again), pushing);
    assert!(started.elapsed() >= Duration::from_secs(2), "each wait lasted to its end");
    assert_eq!(meanwhile, waiting);
    assert_eq!((&meanwhile["records"], &meanwhile["head"]), (&json!([]), &before["head"]));
}

async fn waits_are_limited_separately_for_each_user(backend: Backend) {
    let mut setup = Setup::on(backend);
    setup.limits.waits_per_user_max = 1;
    let server = TestServer::start_with(setup).await;
    let (ada, bob) = tokio::join!(server.pull(ADA, "?wait=1"), server.pull(BOB, "?wait=1"));
    assert_eq!((ada.status, bob.status), (200, 200));
}

async fn a_pull_by_post_returns_the_users_own_records(backend: Backend) {
    let server = two_vaults(backend).await;
    for (user, vault) in
        [(ADA, "pull"), (BOB, "pull"), (ADA, "vaults/notes/pull"), ("carol", "pull")]
    {
        let request = server.request(reqwest::Method::POST, &format!("/api/sync/{vault}"));
        let answer = send(request.bearer_auth(server.token(user)).body("{}")).await;
        let expected = match (user, vault) {
            (_, "pull") => page(&server, user, "").await,
            _ => page(&server, "dora", "").await,
        };
        assert_eq!((answer.status, answer.json()), (200, expected), "{user} {vault}");
    }
}

async fn records_by_id_are_the_users_own(backend: Backend) {
    let server = two_vaults(backend).await;
    push(&server, BOB, [operation("his", None, b"bob")]).await;
    let read = async |user: &str, vault: &str| {
        let request = server.request(reqwest::Method::POST, &format!("/api/sync/{vault}records"));
        let body = r#"{"recordIds":["x","his"]}"#;
        let answer = send(request.bearer_auth(server.token(user)).body(body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let hers = read(ADA, "").await;
    assert_eq!((contents(&hers), &hers["missing"]), (vec![("x", 1, "YWRh")], &json!(["his"])));
    assert_eq!(hers["head"], page(&server, ADA, "").await["head"]);
    for (user, vault) in [(ADA, "vaults/notes/"), (BOB, "vaults/notes/"), ("carol", "")] {
        let nothing = read(user, vault).await;
        assert_eq!(nothing["missing"], json!(["x", "his"]), "{user} {vault}");
        assert_eq!((&nothing["epoch"], &nothing["head"]), (&Value::Null, &Value::Null));
    }
}

async fn manifest_and_usage_are_of_the_users_own_vault(backend: Backend) {
    let server = two_vaults(backend).await;
    push(&server, BOB, [operation("his", None, b"bob")]).await;
    let get = async |user: &str, path: &str| {
        let request = server.request(reqwest::Method::GET, &format!("/api/sync/{path}"));
        let answer = send(request.bearer_auth(server.token(user))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let manifest = get(ADA, "manifest").await;
    let entries = manifest["entries"].as_array().expect("entries").iter();
    let listed: Vec<_> = entries.map(|entry| (&entry["recordId"], &entry["version"])).collect();
    assert_eq!(listed, [(&json!("x"), &json!(1)), (&json!("y"), &json!(1))]);
    let own = page(&server, ADA, "").await;
    assert_eq!((&manifest["head"], &manifest["epoch"]), (&own["head"], &own["epoch"]));
    let after = get(ADA, "manifest?after=h").await;
    assert_eq!(after["entries"].as_array().map(Vec::len), Some(2), "his record is not hers");
    let usage = get(ADA, "usage").await;
    assert_eq!((&usage["records"], &usage["bytes"]), (&json!(2), &json!(6)));
    assert_eq!(get(BOB, "usage").await["records"], 3);
    for (user, vault) in [(ADA, "vaults/notes/"), (BOB, "vaults/notes/"), ("carol", "")] {
        let manifest = get(user, &format!("{vault}manifest")).await;
        assert_eq!((&manifest["entries"], &manifest["head"]), (&json!([]), &Value::Null));
        let usage = get(user, &format!("{vault}usage")).await;
        assert_eq!((&usage["records"], &usage["epoch"]), (&json!(0), &Value::Null));
    }
}

async fn streams_and_exports_have_the_users_own_records(backend: Backend) {
    let server = two_vaults(backend).await;
    let own_and_named =
        [(ADA, ""), (BOB, ""), ("carol", ""), (ADA, "vaults/notes/"), (BOB, "vaults/notes/")];
    for (user, vault) in own_and_named {
        let owner = if vault.is_empty() { user } else { "dora" };
        let own = page(&server, owner, "").await;
        for route in ["pull", "export"] {
            let path = format!("/api/sync/{vault}{route}");
            let request = server.request(reqwest::Method::GET, &path);
            let request = request.header("accept", "application/x-ndjson");
            let answer = send(request.bearer_auth(server.token(user))).await;
            let mut lines: Vec<Value> =
                answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            lines.pop();
            let first = lines.remove(0);
            for line in &mut lines {
                line.as_object_mut().expect("an object").remove("digest");
            }
            assert_eq!(json!(lines), own["records"], "{user} {path}");
            assert_eq!((&first["head"], &first["epoch"]), (&own["head"], &own["epoch"]));
        }
    }
}

async fn the_history_is_that_of_the_users_own_vault(backend: Backend) {
    let mut setup = Setup::on(backend);
    setup.limits.history_min_age_seconds = Duration::ZERO;
    let server = TestServer::start_with(setup).await;
    push(&server, ADA, [operation("x", None, b"ada"), operation("hers", None, b"ada")]).await;
    push(&server, BOB, [operation("x", None, b"bob")]).await;
    let at = page(&server, ADA, "").await["head"].as_str().expect("a head").to_owned();
    push(&server, ADA, [operation("x", Some(1), b"ada 2"), operation("hers", Some(1), b"")]).await;
    push(&server, BOB, [operation("x", Some(1), b"")]).await;
    let get = async |user: &str, vault: &str, query: &str| {
        let path = format!("/api/sync/{vault}history?{query}");
        let request = server.request(reqwest::Method::GET, &path);
        let answer = send(request.bearer_auth(server.token(user))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    for (user, ciphertext) in [(ADA, "YWRh"), (BOB, "Ym9i")] {
        let own = get(user, "", "recordId=x&version=1").await;
        assert_eq!(own["record"]["ciphertext"], ciphertext);
        let listed = get(user, "", "recordId=x").await;
        assert_eq!(listed["versions"].as_array().map(Vec::len), Some(1));
        assert_eq!(listed["head"], page(&server, user, "").await["head"]);
    }
    let states = get(ADA, "", &format!("at={at}")).await;
    assert_eq!(states["entries"].as_array().map(Vec::len), Some(2));
    let states = get(BOB, "", "at=2000-01-01T00:00:00Z").await;
    let listed: Vec<_> =
        states["entries"].as_array().expect("entries").iter().map(|one| &one["recordId"]).collect();
    assert_eq!(listed, [&json!("x")], "her records are not his");
    for (user, vault, id) in [
        (BOB, "", "hers"),
        (ADA, "vaults/notes/", "x"),
        (BOB, "vaults/notes/", "x"),
        ("carol", "", "x"),
    ] {
        let listed = get(user, vault, &format!("recordId={id}")).await;
        assert_eq!(listed["versions"], json!([]), "{user} {vault}");
        for version in [1, 2] {
            let found = get(user, vault, &format!("recordId={id}&version={version}")).await;
            assert_eq!(found["record"], Value::Null, "{user} {vault}");
        }
        if id == "x" {
            let states = get(user, vault, "at=2000-01-01T00:00:00Z").await;
            assert_eq!((&states["entries"], &states["head"]), (&json!([]), &Value::Null));
        }
    }
}

async fn similar_subjects_are_different_users(backend: Backend) {
    let server = TestServer::start(backend).await;
    let users = ["ada", "Ada", "ada ", " ada", "adа", "ada\u{200b}", "ad", "adaa", "a\u{308}", "ä"];
    for user in users {
        let token = server.key.mint(user, SystemClock::start().now(), Duration::from_secs(60));
        let Ok(token) = token else { continue };
        let push = push_of([operation("x", None, user.as_bytes())]);
        let request = server.request(reqwest::Method::POST, "/api/sync/push").json(&push);
        let answer = send(request.bearer_auth(&token)).await;
        assert_eq!(answer.status, 200, "{user:?} {answer:?}");
        let request = server.request(reqwest::Method::GET, "/api/sync/pull");
        let own = send(request.bearer_auth(&token)).await.json();
        let expected = base64_simd::STANDARD.encode_to_string(user);
        assert_eq!(contents(&own), [("x", 1, expected.as_str())], "{user:?}");
    }
}

/// An issuer besides the local one.
struct OtherIssuer {
    server: JwksServer,
    key: SigningKey,
}

impl OtherIssuer {
    async fn start() -> Self {
        let key = SigningKey::ed25519();
        let mut jwk = key.jwk("k");
        jwk["alg"] = json!("EdDSA");
        Self { server: JwksServer::start(&[jwk]).await, key }
    }

    fn issuer(&self) -> Issuer {
        Issuer::oidc(OidcOptions {
            issuer: self.server.issuer(),
            audience: vec!["vault".to_owned()],
            jwks_url: Some(self.server.jwks_url()),
            algorithms: vec!["EdDSA".to_owned()],
            ..OidcOptions::default()
        })
        .expect("valid options")
    }

    fn token(&self, subject: &str) -> String {
        let now = SystemClock::start().now().as_millis() / 1000;
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), json!(self.server.issuer()));
        claims.insert("sub".to_owned(), json!(subject));
        claims.insert("aud".to_owned(), json!("vault"));
        claims.insert("iat".to_owned(), json!(now));
        claims.insert("exp".to_owned(), json!(now + 600));
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": "k" });
        self.key.sign(Algorithm::EdDSA, &header, &Value::Object(claims))
    }
}

async fn one_subject_at_two_issuers_is_two_users(backend: Backend) {
    let other = OtherIssuer::start().await;
    let server =
        TestServer::start_with(Setup { issuers: vec![other.issuer()], ..Setup::on(backend) }).await;
    push(&server, ADA, [operation("x", None, b"local")]).await;
    let theirs = other.token(ADA);
    let pull = || server.request(reqwest::Method::GET, "/api/sync/pull").bearer_auth(&theirs);
    let empty: Answer = send(pull()).await;
    assert_eq!(empty.status, 200, "{empty:?}");
    assert_eq!(empty.json()["epoch"], Value::Null, "this vault is empty");
    let body = push_of([operation("x", None, b"other")]);
    let request = server.request(reqwest::Method::POST, "/api/sync/push").bearer_auth(&theirs);
    assert_eq!(send(request.json(&body)).await.status, 200);
    assert_eq!(contents(&send(pull()).await.json()), [("x", 1, "b3RoZXI=")]);
    assert_eq!(contents(&page(&server, ADA, "").await), [("x", 1, "bG9jYWw=")]);
}

async fn one_vault_does_not_advance_the_clock_of_another(backend: Backend) {
    let server = TestServer::start(backend).await;
    // Her vault's clock advances a millisecond for each record. His must not.
    for batch in 0..20 {
        let name = |n| format!("{batch}-{n}");
        push(&server, ADA, (0..100).map(|n| operation(&name(n), None, b"ada"))).await;
    }
    push(&server, BOB, [operation("x", None, b"bob")]).await;
    let head = page(&server, BOB, "").await["head"].clone();
    let head = Cursor::parse(head.as_str().expect("a head")).expect("a time").timestamp();
    let now = SystemClock::start().now();
    assert!(head <= now, "his head is not ahead of the wall clock: {head} {now}");
}
