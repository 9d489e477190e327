//! What a deployment goes through: the checks, a load, restarts of its nodes, and an outage of its database.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};
use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::{
    process::ServerProcess,
    workload::{Clients, WriterConfig},
};

use super::{
    checks::{self, LongChecks},
    entry::{Entry, Reply, send},
};
use crate::{
    Scale, ScenarioContext, ScenarioReport,
    verify::Database,
    workload::{LoadPlan, WRITES, Workload},
};

/// How long an outage of the database lasts. nginx leaves a node alone for 2 s that it takes for failed.
const OUTAGE: Duration = Duration::from_secs(6);

/// How long nodes and what is in front of them may take after an outage.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// Time between two restarts, for a proxy to notice that a node is back.
const BETWEEN_RESTARTS: Duration = Duration::from_secs(4);

/// A deployment on trial.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    context: &'a ScenarioContext,
    entry: Entry,
    workload: Workload,
    report: ScenarioReport,
}

impl<'a> Trial<'a> {
    /// A trial of the deployment that clients reach at a URL, in front of these nodes. Its users have tokens of
    /// the local issuer, whose key a node has created.
    pub(super) fn new(
        context: &'a ScenarioContext,
        url: String,
        servers: &[ServerProcess],
        program: String,
    ) -> anyhow::Result<Self> {
        let mut report = ScenarioReport::default();
        report.programs.extend((!program.is_empty()).then_some(program));
        let workload = context.workload(LoadPlan::default().users)?;
        Ok(Self { context, entry: Entry::new(context, url, servers), workload, report })
    }

    /// Says that what is in front of the nodes does not tell them the addresses of clients.
    pub(super) fn without_addresses(mut self) -> Self {
        self.entry.shows_addresses = false;
        self
    }

    /// Notes a broken promise if a condition does not hold.
    pub(super) fn expect(&mut self, holds: bool, message: impl FnOnce() -> String) {
        self.report.expect(holds, message);
    }

    /// Runs the checks, and then a load while the long checks run. A quick trial has no long checks.
    pub(super) async fn check(&mut self) -> anyhow::Result<()> {
        let is_full = self.context.scale == Scale::Full;
        let long = is_full.then(|| LongChecks::start(&self.entry));
        checks::run(&self.entry, &mut self.report).await;
        let clients = self.start_load()?;
        sleep(Duration::from_secs(self.context.pick(10, 1))).await;
        clients.finish().await?;
        if let Some(long) = long {
            long.finish(&mut self.report).await;
        }
        self.expect_all_served("under load");
        Ok(())
    }

    /// Stops the nodes and starts them again, one after another, under load. No request may fail.
    pub(super) async fn restart(&mut self, servers: &mut [ServerProcess]) -> anyhow::Result<()> {
        let clients = self.start_load()?;
        for number in 0..2 * servers.len() {
            sleep(BETWEEN_RESTARTS).await;
            let server = &mut servers[number % 2];
            let status = server.stop().await?;
            self.report.expect(status.success(), || format!("a node stopped with {status}"));
            server.start_again().await?;
            self.report.count("restarts", 1);
        }
        sleep(BETWEEN_RESTARTS).await;
        clients.finish().await?;
        self.expect_all_served("during restarts");
        Ok(())
    }

    /// Kills the nodes and starts them again, one after another, under load. Requests may fail, but only with
    /// responses that clients understand, and none may be told to have done nothing if it has.
    pub(super) async fn kill(&mut self, servers: &mut [ServerProcess]) -> anyhow::Result<()> {
        let before = self.workload.tally.totals().with_status(503);
        let clients = self.start_load()?;
        for number in 0..2 * servers.len() {
            let server = &mut servers[number % 2];
            sleep(BETWEEN_RESTARTS).await;
            server.kill()?;
            sleep(Duration::from_millis(500)).await;
            server.start_again().await?;
            self.report.count("kills", 1);
        }
        clients.finish().await?;
        let totals = self.workload.tally.totals();
        self.report.count("responses 503 after kills", totals.with_status(503) - before);
        let failed = totals.unreached + totals.unanswered;
        self.report.expect(failed == 0, || format!("requests got no response: {totals:?}"));
        Ok(())
    }

    /// Kills all nodes at once. Clients have to get errors that they understand.
    pub(super) async fn kill_all(&mut self, servers: &mut [ServerProcess]) -> anyhow::Result<()> {
        let device = self.entry.device("no nodes")?;
        for server in servers {
            server.kill()?;
        }
        for _ in 0..20 {
            self.expect_unavailable("without nodes", &device.pull("").await?);
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Stops the database for a while. Clients have to get errors that they understand, from a node or from a
    /// proxy, and to be served soon after.
    pub(super) async fn outage(&mut self, postgres: &PostgresServer) -> anyhow::Result<()> {
        let device = self.entry.device("outage")?;
        device.pull("").await?.json(200)?;
        // Both calls block until the database server has stopped or started.
        tokio::task::block_in_place(|| postgres.stop());
        let began = Instant::now();
        while began.elapsed() < OUTAGE {
            let pushed = device.push_text(r#"{"operations":[]}"#.to_owned()).await?;
            let pulled = device.pull("").await?;
            self.expect_unavailable("in an outage", &pushed);
            self.expect_unavailable("in an outage", &pulled);
            sleep(Duration::from_millis(100)).await;
        }
        tokio::task::block_in_place(|| postgres.start_again());
        let began = Instant::now();
        while send(device.request(reqwest::Method::GET, "/api/sync/pull")).await?.status != 200 {
            ensure!(began.elapsed() < RECOVERY_MAX, "no pull is served after the outage");
            sleep(Duration::from_millis(50)).await;
        }
        self.report.maximum("ms to resume", began.elapsed().as_millis().try_into()?);
        Ok(())
    }

    /// Checks the history of all clients.
    pub(super) fn finish(
        mut self,
        servers: &[ServerProcess],
        database: &Database,
    ) -> anyhow::Result<ScenarioReport> {
        for server in servers {
            self.report.expect_no_panic(server);
        }
        self.report.verify(&self.workload, database)?;
        Ok(self.report)
    }

    fn start_load(&mut self) -> anyhow::Result<Clients> {
        // Clients of the last load had the same names.
        self.workload.renew_tokens(&self.context.program, &self.context.data_dir(), &[])?;
        let writes = WriterConfig { pause: Duration::from_millis(20), ..WRITES };
        let plan = LoadPlan { writes, ..LoadPlan::default() };
        Ok(self.workload.start(&[self.entry.url.clone()].into(), &plan))
    }

    /// Expects the 503 of a node, or of a proxy in its place.
    fn expect_unavailable(&mut self, when: &str, reply: &Reply) {
        self.report.count("responses while nothing is available", 1);
        let has_code = reply.json(503).is_ok_and(|body| body["code"].is_string());
        let retry_after = reply.header("retry-after");
        self.report.expect(has_code && !retry_after.is_empty(), || {
            let body = String::from_utf8_lossy(&reply.body).into_owned();
            format!("{when}: {}, Retry-After {retry_after:?}, {body}", reply.status)
        });
    }

    /// Expects that every request of the load so far got a response of a node that served it.
    fn expect_all_served(&mut self, when: &str) {
        let totals = self.workload.tally.totals();
        let statuses = totals.statuses.iter().filter(|(status, _)| ![200, 409].contains(*status));
        let mut failed = totals.unreached + totals.unanswered;
        failed += statuses.map(|(_, count)| count).sum::<u64>();
        // A busy machine, on which the tests run this, may be taken for overload.
        failed -= self.context.pick(0, totals.with_status(503));
        self.report.expect(failed == 0, || format!("{when}, {failed} requests failed: {totals:?}"));
    }
}
