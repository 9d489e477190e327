//! The baseline in Node, on its own database of the shared PostgreSQL server.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use vaultsync_test_servers::query;

use super::{Child, Environment, HttpTarget, http::TokenSource};
use crate::{record_ids::RecordIds, workloads::PULLED_RECORDS};

/// Starts it; `None` if its packages are not installed.
pub(crate) fn start(environment: &Environment) -> anyhow::Result<Option<HttpTarget>> {
    let Some(folder) = &environment.node_baseline else {
        return Ok(None);
    };
    let postgres = environment.postgres();
    postgres.create_database("node_baseline", None);
    let url = postgres.url("node_baseline");
    let mut command = Command::new("node");
    command.arg("server.mjs").current_dir(folder).env("DATABASE_URL", &url);
    command.env("NODE_ENV", "production");
    let mut child = Child::start(&mut command, Stdio::piped())?;
    let mut port = String::new();
    BufReader::new(child.stdout()?).read_line(&mut port)?;
    let host = format!("127.0.0.1:{}", port.trim());
    let database = Some(environment.postgres_process()?);
    let (tokens, ids) = (TokenSource::Server, environment.ids);
    let mut target = HttpTarget::new("node-baseline", &host, child, database, tokens, ids)?;
    target.fill = Some(Box::new(move |user| {
        fill(&url, user, ids);
        Ok(())
    }));
    Ok(Some(target))
}

/// Fills a vault by SQL, with a millisecond for each record: if many records share one, the pull of this
/// design never ends.
fn fill(url: &str, user: &str, ids: RecordIds) {
    // As the database makes them: only the order of the ids matters here.
    let id = match ids {
        RecordIds::Random => "gen_random_uuid()::text",
        RecordIds::Sequential => "'record-' || lpad(n::text, 12, '0')",
    };
    query(
        url,
        &format!(
            "insert into sync_records (user_id, record_id, ciphertext, version, deleted, updated_at)
             select '{user}', {id},
               decode(repeat(md5(n::text), 64), 'hex'), 1, false,
               timestamptz '2026-01-01T00:00:00Z' + n * interval '1 ms'
             from generate_series(0, {PULLED_RECORDS} - 1) n"
        ),
    );
    // Without statistics, the planner would choose a slow plan.
    query(url, "vacuum (analyze) sync_records");
}
