//! The plain design in Node, on a database of its own on the shared server.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use vaultsync_test_servers::query;

use super::{Bench, Child, HttpTarget, http::SignedBy};
use crate::workloads::PULLED_RECORDS;

/// Starts it; `None` where its packages are not installed.
pub(crate) fn start(bench: &Bench) -> anyhow::Result<Option<HttpTarget>> {
    let Some(folder) = &bench.node_baseline else {
        return Ok(None);
    };
    let postgres = bench.postgres();
    postgres.create_database("node_baseline", None);
    let url = postgres.url("node_baseline");
    let mut command = Command::new("node");
    command.arg("server.mjs").current_dir(folder).env("DATABASE_URL", &url);
    command.env("NODE_ENV", "production");
    let mut child = Child::start(&mut command, Stdio::piped())?;
    let mut port = String::new();
    BufReader::new(child.output()?).read_line(&mut port)?;
    let host = format!("127.0.0.1:{}", port.trim());
    let database = Some(bench.postgres_process()?);
    let mut target = HttpTarget::new("node-baseline", &host, child, database, SignedBy::Server)?;
    target.fill = Some(Box::new(move |user| {
        fill(&url, user);
        Ok(())
    }));
    Ok(Some(target))
}

/// By hand, a millisecond each: where many records share one, this design's pull never ends.
fn fill(url: &str, user: &str) {
    query(
        url,
        &format!(
            "insert into sync_records (user_id, record_id, ciphertext, version, deleted, updated_at)
             select '{user}', 'record-' || lpad(n::text, 12, '0'),
               decode(repeat(md5(n::text), 64), 'hex'), 1, false,
               timestamptz '2026-01-01T00:00:00Z' + n * interval '1 ms'
             from generate_series(0, {PULLED_RECORDS} - 1) n"
        ),
    );
    // It is not to be slow because nobody has counted its rows yet.
    query(url, "vacuum (analyze) sync_records");
}
