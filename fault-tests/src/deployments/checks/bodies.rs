//! Bodies: large ones, compressed ones, and those that wait for `100 Continue`.

use std::{
    collections::HashMap,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use vaultsync_testkit::{operation, push_of};

use crate::{
    deployments::entry::{Device, Entry, send},
    http,
};

/// More than the JSON of an operation has besides its ciphertext.
const OPERATION_BYTES: usize = 100;

/// A batch as close to the limit of a body as its records allow, and back.
pub(super) async fn large_batch(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("large batch")?;
    let [body_max, ciphertext_max] =
        limits(&device, ["bodyBytesMax", "ciphertextBytesMax"]).await?;
    let mut random = StdRng::seed_from_u64(2);
    let (mut operations, mut room) = (Vec::new(), body_max - OPERATION_BYTES);
    while room > 2 * OPERATION_BYTES {
        let bytes = ciphertext_max.min((room - OPERATION_BYTES) / 4 * 3);
        let mut ciphertext = vec![0; bytes];
        random.fill_bytes(&mut ciphertext);
        operations.push(operation(&format!("record-{}", operations.len()), None, &ciphertext));
        room -= bytes.div_ceil(3) * 4 + OPERATION_BYTES;
    }
    let sent: HashMap<_, _> =
        operations.iter().map(|one| (one["recordId"].clone(), one["ciphertext"].clone())).collect();
    let body = push_of(operations).to_string();
    ensure!(body_max - body.len() < 4000, "the body has only {} bytes", body.len());
    let reply = device.push_text(body).await?.json(200)?;
    ensure!(reply["results"].as_array().map(Vec::len) == Some(sent.len()), "{reply}");
    let pulled = pull_all(&device).await?;
    ensure!(pulled == sent, "{} of {} records come back", pulled.len(), sent.len());
    Ok(())
}

async fn pull_all(device: &Device) -> anyhow::Result<HashMap<Value, Value>> {
    let (mut all, mut cursor) = (HashMap::new(), String::new());
    loop {
        let page = device.pull(&format!("?cursor={cursor}")).await?.json(200)?;
        for record in page["records"].as_array().context("no records")? {
            all.insert(record["recordId"].clone(), record["ciphertext"].clone());
        }
        page["nextCursor"].as_str().unwrap_or_default().clone_into(&mut cursor);
        if page["hasMore"] != true {
            return Ok(all);
        }
    }
}

async fn limits<const N: usize>(device: &Device, names: [&str; N]) -> anyhow::Result<[usize; N]> {
    let info = send(device.anonymous(Method::GET, "/api/sync/info")).await?.json(200)?;
    let mut limits = [0; N];
    for (limit, name) in limits.iter_mut().zip(names) {
        let number = info["limits"][name].as_u64().with_context(|| format!("no {name}"))?;
        *limit = number.try_into()?;
    }
    Ok(limits)
}

/// The node refuses the body, with a response that says why.
pub(super) async fn too_large(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("too large")?;
    let [body_max] = limits(&device, ["bodyBytesMax"]).await?;
    let reply = device.push_text(" ".repeat(body_max + 1)).await?;
    reply.expect_error(413, "payload_too_large")?;
    Ok(())
}

/// The client is asked for the body before it sends any of it.
pub(super) async fn expect_continue(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("expect continue")?;
    let address = device.url.strip_prefix("http://").context("no address")?;
    let mut stream = TcpStream::connect(address).await?;
    let body = push_of([operation("r", None, &[7; 10_000])]).to_string();
    let headers = format!(
        "content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let head = http::head("POST", "/api/sync/push", &device.token) + &headers;
    stream.write_all(head.as_bytes()).await?;
    let mut interim = [0; 12];
    timeout(entry.soon, stream.read_exact(&mut interim)).await.context("no 100 Continue")??;
    let interim = String::from_utf8_lossy(&interim);
    ensure!(interim == "HTTP/1.1 100", "100 was expected, and not {interim}");
    stream.write_all(body.as_bytes()).await?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    let rest = String::from_utf8_lossy(&rest);
    ensure!(rest.contains("HTTP/1.1 200") && rest.contains("\"version\":1"), "{rest}");
    Ok(())
}

/// A page that a proxy may compress has the same content.
pub(super) async fn compressed_page(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("compression")?;
    let push = push_of((0..20).map(|number| operation(&format!("r{number}"), None, &[7; 1000])));
    device.push(&push).await?.json(200)?;
    let plain = device.pull("").await?;
    plain.json(200)?;
    let pull = device.request(Method::GET, "/api/sync/pull").header("accept-encoding", "gzip");
    let reply = send(pull).await?;
    let body = match reply.header("content-encoding") {
        "gzip" => gunzip(reply.body)?,
        "" => reply.body,
        other => anyhow::bail!("the encoding {other} was not asked for"),
    };
    ensure!(body == plain.body, "the page is changed on its way");
    Ok(())
}

fn gunzip(compressed: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new("gzip");
    command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut gzip = command.spawn().context("gzip cannot be run")?;
    let mut stdin = gzip.stdin.take().context("it is piped")?;
    // On a thread of its own, because gzip writes before it has read everything.
    let writing = std::thread::spawn(move || stdin.write_all(&compressed));
    let output = gzip.wait_with_output()?;
    writing.join().ok().context("the thread panicked")??;
    ensure!(output.status.success(), "the response is not in the format of gzip");
    Ok(output.stdout)
}
