//! PostgreSQL only: failures of a database and of the connections to it, batches, query plans.

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other test programs need the rest")]
mod support;
#[path = "../support/upgrade.rs"]
mod upgrade;

mod citus;
mod commits;
mod contention;
mod dsl;
mod head_reads;
mod locked_tables;
mod migrations;
mod nodes;
mod opening;
mod outages;
mod plans;
mod pooler;
mod proxy;
mod push_batches;
mod readiness;
mod replicas;
mod synchronous;
mod tls;
mod unlocked_writers;
mod upgrades;
