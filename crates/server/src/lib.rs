//! The HTTP server of Vaultsync: sign-in, limits, routes.
//!
//! A request passes `serve` and `connection` (bytes), `layers` and `observe` (every response),
//! `admission` (address rates, header size, overload), `extract` (sign-in, user rates, body), and then
//! one file of `routes`, which makes one call to the store. `response` and `error` encode the result.
//!
//! Not here: SQL (`vaultsync-store`), settings and their sources (`vaultsync`), any cryptography
//! that could decrypt a record.

mod accept;
mod address;
mod admin;
mod admission;
mod app;
pub mod auth;
mod byte_rate;
mod clock;
mod connection;
mod error;
mod events;
mod extract;
mod guarded_body;
mod json;
mod layers;
mod limits;
mod log_limit;
mod maintenance;
mod memory_budget;
mod observe;
mod offload;
mod openapi;
mod origins;
mod overload;
mod quoted;
mod rates;
mod read_meter;
mod readiness;
mod record_hash;
mod record_stream;
mod refusals;
mod request_body;
mod request_metrics;
mod response;
mod routes;
pub mod secret_file;
mod serve;
mod telemetry;

pub use admin::admin_router;
pub use app::{App, Parts};
pub use clock::{Clock, SystemClock};
pub use limits::{LIMITS, Limit, Limits, Unit};
pub use refusals::refusals_max;
pub use routes::{openapi, router};
pub use serve::{ADMIN_CONNECTIONS_MAX, serve, serve_admin};
pub use telemetry::install_metrics;
