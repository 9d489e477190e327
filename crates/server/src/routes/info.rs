//! `GET /api/sync/info`

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{app::App, error::Failure, limits::LimitsInfo, response};

/// What this server supports besides push and pull, by name.
const FEATURES: &[&str] = &[
    "epoch",
    "erase",
    "events",
    "export",
    "guards",
    "head",
    "history",
    "manifest",
    "post-pull",
    "quotas",
    "records",
    "since",
    "stream",
    "usage",
    "vault-events",
    "vaults",
    "wait",
];

/// Identity, features and limits of this server.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    /// Always `vaultsync`.
    #[schema(example = "vaultsync")]
    name: &'static str,
    /// The server's version.
    #[schema(example = "0.2.0")]
    version: &'static str,
    /// The protocol versions that the server supports. A client must support one of them.
    #[schema(example = json!([1]))]
    protocols: [u32; 1],
    /// Features besides push and pull.
    #[schema(example = json!(FEATURES))]
    features: &'static [&'static str],
    /// Limits on requests, users and the server.
    limits: LimitsInfo,
}

/// Returns the server's version, features and limits.
///
/// It needs no sign-in. A client should check that it knows one of `protocols`.
#[utoipa::path(
    get,
    path = "/api/sync/info",
    tag = "sync",
    responses(
        (status = 200, description = "Version, features and limits.", body = Info),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 503, description = "`unavailable`: the server is overloaded.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn info(State(app): State<App>) -> Response {
    response::ok(&Info {
        name: "vaultsync",
        version: env!("CARGO_PKG_VERSION"),
        protocols: [1],
        features: FEATURES,
        limits: LimitsInfo::from(&app.limits.in_force()),
    })
}
