//! PostgreSQL only: what a store makes of a database, and of a line to it, that fails.

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other programs need the rest")]
mod support;

mod around;
mod callers;
mod commits;
mod dsl;
mod head_reads;
mod nodes;
mod opening;
mod outages;
mod plans;
mod pooler;
mod proxy;
mod push_batches;
mod replicas;
mod tls;
