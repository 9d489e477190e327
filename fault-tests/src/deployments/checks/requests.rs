//! Requests and responses that a proxy might change.

use anyhow::{Context as _, ensure};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::json;
use vaultsync_testkit::{operation, push_of};

use crate::deployments::entry::{Entry, Reply, send};

pub(super) async fn info(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("info")?;
    let path = "/api/sync/info";
    let reply = send(device.anonymous(Method::GET, path)).await?;
    let direct = send(device.at(&entry.nodes[0]).anonymous(Method::GET, path)).await?;
    ensure!(reply.json(200)?["name"] == "vaultsync", "another server answers");
    ensure!(reply.body == direct.body, "the body is changed on its way");
    Ok(())
}

pub(super) async fn push_and_pull(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("push and pull")?;
    let push = push_of([operation("note-ü", None, b"one"), operation("b", None, b"two")]);
    let results = device.push(&push).await?.json(200)?;
    let expected = json!([{"recordId": "note-ü", "version": 1}, {"recordId": "b", "version": 1}]);
    ensure!(results["results"] == expected, "another result was expected: {results}");
    let page = device.pull("?limit=1").await?.json(200)?;
    ensure!(page["records"][0]["recordId"] == "note-ü", "another page was expected: {page}");
    let (cursor, epoch) = (page["nextCursor"].as_str(), page["epoch"].as_str());
    let (cursor, epoch) = (cursor.context("no cursor")?, epoch.context("no epoch")?);
    let rest = device.pull(&format!("?cursor={cursor}&epoch={epoch}")).await?.json(200)?;
    let ids: Vec<_> = rest["records"].as_array().into_iter().flatten().collect();
    ensure!(ids.len() == 1 && ids[0]["recordId"] == "b", "another page was expected: {rest}");
    let other = "00000000-0000-4000-8000-000000000000";
    device.pull(&format!("?epoch={other}")).await?.expect_error(410, "epoch_changed")?;
    Ok(())
}

pub(super) async fn conflict(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("conflict")?;
    let mut bytes = vec![0; 300_000];
    StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
    let first = operation("r", None, &bytes);
    device.push(&push_of([first.clone()])).await?.json(200)?;
    let push = push_of([operation("r", None, b"another")]);
    let reply = device.push(&push).await?;
    let conflict = &reply.json(409)?["conflicts"][0];
    ensure!(conflict["ciphertext"] == first["ciphertext"], "the ciphertext is changed");
    let direct = device.at(&entry.nodes[0]).push(&push).await?;
    ensure!(reply.body == direct.body, "the body is changed on its way");
    Ok(())
}

pub(super) async fn errors(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("errors")?;
    let pull = "/api/sync/pull";
    let unsigned = send(device.anonymous(Method::GET, pull)).await?;
    expect_id(&unsigned.expect_error(401, "unauthorized")?, &unsigned)?;
    let challenge = unsigned.header("www-authenticate");
    ensure!(challenge.starts_with("Bearer realm="), "another challenge: {challenge}");
    let wrong = send(device.anonymous(Method::GET, pull).bearer_auth("wrong")).await?;
    expect_id(&wrong.expect_error(401, "unauthorized")?, &wrong)?;
    let invalid = device.push(&json!({"operations": [{"recordId": ""}]})).await?;
    let body = invalid.expect_error(400, "invalid_request")?;
    ensure!(body["issues"].as_array().is_some_and(|issues| issues.len() > 2), "no issues: {body}");
    expect_id(&body, &invalid)?;
    device.push_text("{".to_owned()).await?.expect_error(400, "invalid_json")?;
    device.pull("?limit=1000").await?.expect_error(400, "invalid_request")?;
    let missing = send(device.request(Method::GET, "/api/sync/none")).await?;
    missing.expect_error(404, "not_found")?;
    let method = send(device.request(Method::DELETE, pull)).await?;
    method.expect_error(405, "method_not_allowed")?;
    ensure!(method.header("allow").contains("GET"), "`Allow` is {:?}", method.header("allow"));
    Ok(())
}

fn expect_id(body: &serde_json::Value, reply: &Reply) -> anyhow::Result<()> {
    let id = reply.header("x-request-id");
    ensure!(!id.is_empty() && body["requestId"] == id, "the id {id:?} is not that of {body}");
    Ok(())
}

pub(super) async fn request_ids(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("request ids")?;
    let own = "Check-1.a_b";
    let request = device.request(Method::GET, "/api/sync/pull");
    let named = send(request.header("x-request-id", own)).await?;
    ensure!(named.header("x-request-id") == own, "{:?}", named.header("x-request-id"));
    let first = device.pull("").await?;
    let second = device.pull("").await?;
    let ids = [first.header("x-request-id"), second.header("x-request-id")];
    ensure!(!ids[0].is_empty() && ids[0] != ids[1], "the ids are not those of a node: {ids:?}");
    Ok(())
}

pub(super) async fn encoded(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("encoded")?;
    let push = push_of([operation("r", None, b"x")]);
    device.push(&push).await?.json(200)?;
    // The offset has a `+`, which must arrive as one if it is encoded. A `+` that is not encoded means a space,
    // and the server accepts that too; anything else is no cursor.
    for (cursor, count) in [
        ("2024-01-15T11%3A30%3A00.000%2B01%3A00", 1),
        ("2024-01-15T11:30:00.000+01:00", 1),
        ("2024-01-15T11:30:00.000%2b01:00", 1),
        ("9998-01-15T11%3A30%3A00.000%2B01%3A00", 0),
    ] {
        // Other parameters are ignored, whatever they contain.
        let query = format!("?cursor={cursor}&other=%26cursor%3D%2F..%2F%C3%BC%20%00%25");
        let page = device.pull(&query).await?.json(200)?;
        let records = page["records"].as_array().map(Vec::len);
        ensure!(records == Some(count), "{cursor} gets {page}");
    }
    device.pull("?cursor=%252B").await?.expect_error(400, "invalid_request")?;
    // Paths are compared byte by byte, and none may be taken for another one.
    for path in ["/api%2Fsync/pull", "/api/sync/pull%20", "/api/sync/pul%6C/"] {
        let reply = send(device.request(Method::GET, path)).await?;
        ensure!(reply.status != 200, "{path} is taken for another path");
    }
    Ok(())
}

pub(super) async fn long_headers(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("long headers")?;
    let info = send(device.anonymous(Method::GET, "/api/sync/info")).await?.json(200)?;
    let max = info["limits"]["tokenBytesMax"].as_u64().context("no limit of tokens")?;
    // As long as the longest token, which the local issuer makes none of.
    let padding = "x".repeat(max.try_into()?);
    let pull = device.request(Method::GET, "/api/sync/pull").header("x-padding", padding);
    send(pull).await?.json(200)?;
    Ok(())
}
