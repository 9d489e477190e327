//! Deployments, one file each: what operators put in front of nodes, below them and around them.
//!
//! Every deployment passes the same checks (`checks/`) and bears a load, whose history is then checked. A
//! configuration file is the one in `deploy/`, with the addresses and paths of this machine.
//!
//! Not here: faults (`scenarios/`).

mod checks;
mod entry;
mod group_folder;
mod ipv6;
mod node_apps;
mod nodes;
mod pgbouncer;
mod proxies;
mod systemd_unit;
mod trial;

use anyhow::ensure;

use crate::Scenario;

/// Every deployment, in the order in which they are run.
pub const ALL: &[Scenario] = &[
    proxies::NGINX,
    proxies::CADDY,
    proxies::HAPROXY,
    node_apps::NEXT,
    node_apps::EXPRESS,
    pgbouncer::SCENARIO,
    ipv6::SCENARIO,
    group_folder::SCENARIO,
    systemd_unit::SCENARIO,
];

/// Replaces parts of a file of `deploy/`. Each must be in the file once: what is tested is the file as it is.
fn substitute(file: &str, parts: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut text = file.to_owned();
    for (from, to) in parts {
        let count = file.matches(from).count();
        ensure!(count == 1, "the file has {count} times `{from}`, and once is expected");
        text = text.replace(from, to);
    }
    Ok(text)
}
