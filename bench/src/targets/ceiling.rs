//! The ceiling of HTTP and JSON: an axum server that parses and decodes a push, or encodes a page from
//! memory, and stores nothing.
//!
//! Not here: storage, authentication, limits.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    process::{Command, Stdio},
    sync::Arc,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, RawQuery, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64_simd::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, runtime::Builder};

use super::{Child, Environment, HttpTarget, http::TokenSource};
use crate::{record_ids::RecordIds, workloads::PULLED_RECORDS};

const PAGE_RECORDS: u64 = 100;

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow)]
    operations: Vec<Operation<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operation<'a> {
    record_id: &'a str,
    base_version: Option<u64>,
    ciphertext: &'a str,
    deleted: bool,
}

#[derive(Serialize)]
struct Applied<'a> {
    success: bool,
    results: Vec<Written<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    record_id: &'a str,
    version: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    records: Vec<Record>,
    next_cursor: Option<String>,
    has_more: bool,
}

#[derive(Serialize)]
struct Record {
    #[serde(rename = "recordId")]
    id: String,
    ciphertext: String,
    version: u64,
    deleted: bool,
    updated_at: &'static str,
}

/// The records of a page as a database would return them.
type Records = Arc<Vec<(String, Vec<u8>)>>;

/// Starts this program again, as the server.
pub(crate) fn start(environment: &Environment) -> anyhow::Result<HttpTarget> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["ceiling", environment.ids.name()]);
    let mut child = Child::start(&mut command, Stdio::piped())?;
    let mut host = String::new();
    BufReader::new(child.stdout()?).read_line(&mut host)?;
    HttpTarget::new("ceiling", host.trim(), child, None, TokenSource::None, environment.ids)
}

/// Serves until it is killed, and prints its address to standard output.
pub(crate) fn serve(ids: RecordIds) -> anyhow::Result<()> {
    let mut records = Vec::new();
    for number in 0..PAGE_RECORDS {
        let mut ciphertext = vec![0; 1024];
        getrandom::fill(&mut ciphertext)?;
        records.push((ids.id(number), ciphertext));
    }
    let router = Router::new()
        .route("/api/sync/push", post(push))
        .route("/api/sync/pull", get(pull))
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(records));
    Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
            // Without it, a response in two segments waits for an acknowledgement.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, router).await?;
        Ok(())
    })
}

async fn push(body: Bytes) -> Response {
    let Ok(push) = serde_json::from_slice::<Push<'_>>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut results = Vec::with_capacity(push.operations.len());
    for operation in push.operations {
        let decoded = STANDARD.decode_to_vec(operation.ciphertext);
        if operation.deleted || decoded.is_ok_and(|bytes| bytes.is_empty()) {
            return StatusCode::BAD_REQUEST.into_response();
        }
        let version = operation.base_version.unwrap_or_default() + 1;
        results.push(Written { record_id: operation.record_id, version });
    }
    json(&Applied { success: true, results })
}

/// Returns a page. A cursor is the number of records before it.
async fn pull(State(all): State<Records>, RawQuery(query): RawQuery) -> Response {
    let cursor = query.as_deref().and_then(|query| query.split_once("cursor="));
    let before = cursor.and_then(|(_, cursor)| cursor.parse::<u64>().ok()).unwrap_or_default();
    let records = if before < PULLED_RECORDS { &all[..] } else { &[] };
    let record = |(id, ciphertext): &'_ (String, Vec<u8>)| Record {
        id: id.clone(),
        ciphertext: STANDARD.encode_to_string(ciphertext),
        version: 1,
        deleted: false,
        updated_at: "2026-01-01T00:00:00.000Z",
    };
    let records: Vec<_> = records.iter().map(record).collect();
    let next = before + PAGE_RECORDS;
    let is_empty = records.is_empty();
    json(&Page {
        records,
        next_cursor: (!is_empty).then(|| next.to_string()),
        has_more: !is_empty && next < PULLED_RECORDS,
    })
}

fn json(value: &impl Serialize) -> Response {
    serde_json::to_vec(value).map_or_else(
        |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        |bytes| ([(CONTENT_TYPE, "application/json")], bytes).into_response(),
    )
}
