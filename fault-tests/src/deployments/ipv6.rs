//! A server that listens on an IPv6 address, and one that listens on all addresses of both kinds.

use std::net::Ipv6Addr;

use anyhow::ensure;
use vaultsync_testkit::{operation, process::ServerProcess, push_of};

use super::{
    entry::Entry,
    nodes::{TRUSTED, configure},
    trial::Trial,
};
use crate::{Scenario, ScenarioContext, ScenarioReport};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "ipv6",
    shows: "a server on [::1], and one on [::] that clients reach by IPv4 too",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let database = context.sqlite();
    let mut config = configure(context.server(&database), TRUSTED);
    config.host = Ipv6Addr::LOCALHOST.into();
    let mut servers = [ServerProcess::start(config.clone()).await?];
    let mut trial = Trial::new(&context, servers[0].url(), &servers, String::new())?;
    trial.check().await?;
    // The database has one server at a time.
    servers[0].kill()?;

    config.host = Ipv6Addr::UNSPECIFIED.into();
    let server = ServerProcess::start(config).await?;
    let entry = Entry::new(&context, format!("http://[::1]:{}", server.port()), &[]);
    let by_ipv6 = entry.device("dual-stack")?;
    let by_ipv4 = by_ipv6.at(&format!("http://127.0.0.1:{}", server.port()));
    for (number, (writer, reader)) in
        [(&by_ipv6, &by_ipv4), (&by_ipv4, &by_ipv6)].into_iter().enumerate()
    {
        let push = push_of([operation(&format!("r{number}"), None, b"x")]);
        writer.push(&push).await?.json(200)?;
        let page = reader.pull("").await?.json(200)?;
        let records = page["records"].as_array().map(Vec::len);
        ensure!(records == Some(number + 1), "another page was expected: {page}");
    }
    trial.finish(&servers, &database)
}
