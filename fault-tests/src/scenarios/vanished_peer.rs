//! A client opens all the event streams that its user may have, and vanishes without closing them: its
//! network drops what it sends, acknowledgements included. The user can wait again soon.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};
use vaultsync_testkit::process::ServerProcess;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    faults::network::{Link, Namespace},
    http,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "vanished-peer",
    shows: "a client with all event streams of its user vanishes without closing them",
    needs_root: true,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// Event streams of one user: `waits_per_user_max`.
const STREAMS: usize = 10;

/// Time until a stream of another client must be accepted: a keep-alive comes within 15 seconds, and may be
/// unacknowledged for 30.
const LOCKED_OUT_MAX: Duration = Duration::from_secs(55);

const INTERVAL: Duration = Duration::from_millis(500);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let namespace = Namespace::new("vsvanish")?;
    let link = Link::new(&namespace, 93)?;
    let mut config = context.server(&context.sqlite());
    config.host = link.host_address().into();
    let server = ServerProcess::start(config).await?;
    let address = SocketAddr::from((link.host_address(), server.port()));
    let workload = context.workload(1)?;
    let token = workload.token(0);
    let url = format!("{}/api/sync/events", server.url());
    for _ in 0..context.pick(3, 1) {
        let clients = (0..STREAMS)
            .map(|_| Stream::open(&namespace, &url, token))
            .collect::<anyhow::Result<Vec<_>>>()?;
        wait_until(|| is_refused(address, token)).await.context("the streams are not open")?;
        link.set_dropping(true)?;
        let vanished_at = Instant::now();
        while is_refused(address, token).await? {
            ensure!(vanished_at.elapsed() < 20 * LOCKED_OUT_MAX, "the user is locked out for good");
            sleep(INTERVAL).await;
        }
        let took = vanished_at.elapsed();
        report.count("times a client vanished", 1);
        report.maximum("s until its user could wait again at most", took.as_secs());
        report.expect(took < LOCKED_OUT_MAX, || format!("the user was locked out for {took:?}"));
        drop(clients);
        link.set_dropping(false)?;
    }
    report.expect_no_panic(&server);
    Ok(report)
}

/// A client in the namespace, which is killed when dropped.
struct Stream(Child);

impl Stream {
    fn open(namespace: &Namespace, url: &str, token: &str) -> anyhow::Result<Self> {
        let [enter, arguments @ ..] = &namespace.wrapper()[..] else {
            anyhow::bail!("no command enters the namespace");
        };
        let header = format!("authorization: Bearer {token}");
        let child = Command::new(enter)
            .args(arguments)
            .args(["curl", "--silent", "--no-buffer", "--header", &header, url])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Ok(Self(child.context("curl cannot be run")?))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Whether one more stream is refused. One that is accepted is closed at once.
async fn is_refused(address: SocketAddr, token: &str) -> anyhow::Result<bool> {
    let request = http::head("GET", "/api/sync/events", token) + "\r\n";
    let status = http::close_unread(address, &request).await?;
    ensure!([200, 429].contains(&status), "an event stream was answered {status}");
    Ok(status == 429)
}

async fn wait_until<F: Future<Output = anyhow::Result<bool>>>(
    condition: impl Fn() -> F,
) -> anyhow::Result<()> {
    let waiting = async {
        while !condition().await? {
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await?
}
