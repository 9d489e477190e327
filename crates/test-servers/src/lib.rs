//! PostgreSQL, PgBouncer and NATS servers of one's own, on free ports of this machine, for tests
//! and for the project's own commands. They end with the process that started them, however that
//! ends, and leave nothing behind.
//!
//! Whatever goes wrong panics and says why: who asks for a server cannot go on without it.
//!
//! Not here: what is asked of the servers, and any server that was there before.

pub mod programs;

#[cfg(unix)]
mod bouncer;
#[cfg(unix)]
mod folder;
#[cfg(unix)]
mod nats;
#[cfg(unix)]
mod port;
#[cfg(unix)]
mod postgres;
#[cfg(unix)]
mod process_guard;
#[cfg(unix)]
mod processes;

#[cfg(unix)]
pub use bouncer::PgBouncer;
#[cfg(unix)]
pub use nats::NatsServer;
#[cfg(unix)]
pub use postgres::{PostgresServer, query, shared_postgres};
