//! One user makes the server work as hard as the default limits allow, in one way after another; another
//! user is served as fast as before.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::ensure;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep},
};
use vaultsync_testkit::{history::Outcome, process::ServerProcess};

use crate::{Scenario, ScenarioContext, ScenarioReport, http, workload::operation};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "noisy-neighbour",
    shows: "one user sends long queries, closes pages of 8 MiB unread, and provokes conflicts of 8 MiB",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// Connections on which the noisy user sends requests, one after the other on each.
const CONNECTIONS: usize = 8;

/// Requests of the noisy user on each of them per second: more than the rate of a user in total.
const PER_SECOND: u32 = 15;

/// Pause of the quiet user between two requests.
const PAUSE: Duration = Duration::from_millis(20);

const LATENCY_MAX: Duration = Duration::from_millis(100);

/// Records of the noisy user: a page of 8 MiB.
const RECORDS: usize = 8;
const RECORD_BYTES: usize = 1024 * 1024 - 1024;

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let mut config = context.server(&context.sqlite());
    // The default rates apply.
    config.flags.clear();
    let server = ServerProcess::start(config).await?;
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let workload = context.workload(2)?;
    let (noisy, quiet) = (workload.token(0), workload.token(1));
    let addresses = [server.url()].into();
    let mut owner = workload.client(0, "owner", &addresses, 0);
    for record in 0..RECORDS {
        let record = operation(&format!("large-{record}"), None, vec![b'.'; RECORD_BYTES]);
        let pushed = owner.push(&[record]).await;
        ensure!(matches!(pushed, Outcome::Acknowledged { .. }), "the vault is not filled");
    }
    let time = Duration::from_secs(context.pick(20, 3));
    let before = latencies(address, quiet, time / 2).await?;
    add(&mut report, "alone", before);
    for (name, request) in noises(noisy) {
        let mut running = start_noise(address, request);
        sleep(Duration::from_millis(500)).await;
        let during = latencies(address, quiet, time).await?;
        running.shutdown().await;
        add(&mut report, name, during);
        // The noisy user's burst is available again.
        sleep(Duration::from_secs(context.pick(5, 1))).await;
    }
    report.expect_no_panic(&server);
    Ok(report)
}

/// The requests that cost the server most.
fn noises(token: &str) -> [(&'static str, String); 3] {
    let parameters: Vec<_> = (0..4000).map(|number| format!("{number:x}=")).collect();
    let query = format!("/api/sync/pull?{}", parameters.join("&"));
    let operations: Vec<_> = (0..RECORDS)
        .map(|record| {
            format!(
                r#"{{"recordId":"large-{record}","baseVersion":7,"ciphertext":"AAAA","deleted":false}}"#
            )
        })
        .collect();
    let push = format!(r#"{{"operations":[{}]}}"#, operations.join(","));
    let length = format!("content-length: {}\r\n\r\n{push}", push.len());
    [
        ("by queries", http::head("GET", &query, token) + "\r\n"),
        ("by pages", http::head("GET", "/api/sync/pull", token) + "\r\n"),
        ("by conflicts", http::head("POST", "/api/sync/push", token) + &length),
    ]
}

fn start_noise(address: SocketAddr, request: String) -> JoinSet<()> {
    let request: Arc<str> = request.into();
    let mut noise = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let request = Arc::clone(&request);
        noise.spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / PER_SECOND);
            loop {
                ticks.tick().await;
                // Whatever the response is, the noise goes on.
                let _ = http::close_unread(address, &request).await;
            }
        });
    }
    noise
}

/// How long each request of a user takes, who reads its small vault.
async fn latencies(
    address: SocketAddr,
    token: &str,
    time: Duration,
) -> anyhow::Result<Vec<(u16, Duration)>> {
    let started = Instant::now();
    let mut latencies = Vec::new();
    while started.elapsed() < time {
        latencies.push(http::get(address, "/api/sync/pull?limit=10", token).await?);
        sleep(PAUSE).await;
    }
    Ok(latencies)
}

fn add(report: &mut ScenarioReport, name: &str, mut latencies: Vec<(u16, Duration)>) {
    let unserved = latencies.iter().filter(|(status, _)| *status != 200).count();
    report.expect(unserved == 0, || format!("{name}: {unserved} requests were not served"));
    latencies.sort_unstable_by_key(|(_, latency)| *latency);
    let p99 = latencies.get(latencies.len().saturating_sub(1) * 99 / 100);
    let p99 = p99.map_or(Duration::ZERO, |(_, latency)| *latency);
    let millis = u64::try_from(p99.as_millis()).unwrap_or(u64::MAX);
    report.count(&format!("ms at the 99th percentile, {name}"), millis);
    report.expect(p99 < LATENCY_MAX, || format!("{name}: the 99th percentile was {p99:?}"));
}
