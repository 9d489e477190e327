//! Private PostgreSQL, PgBouncer and NATS servers and reverse proxies on free ports of this machine, for tests
//! and for the project's own commands. They stop when the process that started them ends, even if it is killed, and
//! leave nothing behind.
//!
//! Every error panics with its reason: a test cannot continue without its server.
//!
//! Not here: requests to the servers; servers that already run on the machine.

pub mod programs;

#[cfg(unix)]
mod folder;
#[cfg(unix)]
mod nats;
#[cfg(unix)]
mod nginx;
#[cfg(unix)]
mod pgbouncer;
#[cfg(unix)]
mod port;
#[cfg(unix)]
mod postgres;
#[cfg(unix)]
mod process_guard;
#[cfg(unix)]
mod processes;
#[cfg(unix)]
mod reverse_proxy;

#[cfg(unix)]
pub use nats::NatsServer;
#[cfg(unix)]
pub use nginx::Nginx;
#[cfg(unix)]
pub use pgbouncer::PgBouncer;
#[cfg(unix)]
pub use port::free as free_port;
#[cfg(unix)]
pub use postgres::{PostgresServer, query, shared_postgres};
#[cfg(unix)]
pub use reverse_proxy::{ProxyProgram, ReverseProxy};
