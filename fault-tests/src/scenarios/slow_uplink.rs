//! Clients on a slow uplink push their records, however long that takes, and clients that are slower than
//! the least rate are given up.

use std::{net::SocketAddr, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use vaultsync_testkit::process::ServerProcess;

use crate::{Scenario, ScenarioContext, ScenarioReport, http};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow-uplink",
    shows: "pushes of 1 MiB arrive at 40 and 10 KiB/s, and others at 1 KiB/s are given up",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// Bytes per second of the clients that must be served, and of those that must not.
const SLOW: [usize; 2] = [40 * 1024, 10 * 1024];
const TOO_SLOW: usize = 1024;

/// Pieces per second in which a client sends.
const PIECES: usize = 10;

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let mut config = context.server(&context.sqlite());
    // A quick run measures shorter periods, and pushes less.
    let (period, bytes) = context.pick((30, 1024 * 1024), (3, 60 * 1024));
    config.flags.extend(["--body-seconds".to_owned(), period.to_string()]);
    let server = ServerProcess::start(config).await?;
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let workload = context.workload(SLOW.len() + 1)?;
    let mut pushes = JoinSet::new();
    for (user, rate) in [SLOW[0], SLOW[1], TOO_SLOW].into_iter().enumerate() {
        let token = workload.token(user).to_owned();
        pushes.spawn(async move {
            let started = Instant::now();
            let pause = Duration::from_secs(1) / u32::try_from(PIECES)?;
            let body = body(bytes);
            let status = http::push_slowly(address, &token, &body, rate / PIECES, pause).await;
            anyhow::Ok((rate, status?, started.elapsed()))
        });
    }
    while let Some(ended) = pushes.join_next().await {
        let (rate, status, took) = ended??;
        let kib = rate / 1024;
        report.count(&format!("s at {kib} KiB/s"), took.as_secs());
        let expected = if rate == TOO_SLOW { 408 } else { 200 };
        report.expect(status == expected, || {
            format!("a push at {kib} KiB/s was answered {status} after {took:?}")
        });
        if rate == TOO_SLOW {
            let most = Duration::from_secs(2 * period);
            report.expect(took < most, || format!("it was given up only after {took:?}"));
        }
    }
    report.expect_no_panic(&server);
    Ok(report)
}

/// A push of one record with that much ciphertext.
fn body(bytes: usize) -> Vec<u8> {
    // Each four characters are three bytes, which are all zero.
    let ciphertext = "AAAA".repeat(bytes / 3);
    let body = format!(
        r#"{{"operations":[{{"recordId":"r","baseVersion":null,"ciphertext":"{ciphertext}","deleted":false}}]}}"#
    );
    body.into_bytes()
}
