//! `GET /healthz` and `GET /readyz`

use axum::{extract::State, response::Response};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::{
    app::App,
    error::{ApiError, Failure},
    response,
};

/// The response of a healthy server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok` from `/healthz`, `ready` from `/readyz`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Reports that the process is alive.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operation",
    responses((status = 200, description = "The process is alive.", body = Health)),
)]
pub(super) async fn healthz() -> Response {
    response::ok(&Health { status: "ok" })
}

/// Reports whether requests can be served: the database responds, and there are keys to verify
/// tokens.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    responses(
        (status = 200, description = "Requests can be served.", body = Health),
        (status = 503, description = "Requests cannot be served. See `reasons`.", body = Failure, headers(("Retry-After" = u64, description = "Seconds."))),
    ),
)]
pub(super) async fn readyz(State(app): State<App>) -> Result<Response, ApiError> {
    let reasons = reasons_against(&app).await;
    if reasons.is_empty() {
        Ok(response::ok(&Health { status: "ready" }))
    } else {
        Err(ApiError::NotReady(reasons))
    }
}

/// Why requests cannot be served; empty if they can.
async fn reasons_against(app: &App) -> Vec<String> {
    let checks = async { tokio::join!(app.store.check(), app.authenticator.ready()) };
    let mut reasons = match timeout(app.limits.handler_seconds, checks).await {
        Ok((database, keys)) => {
            let mut reasons = keys.err().unwrap_or_default();
            if let Err(error) = database {
                // The error may name files and hosts, and this route is public.
                tracing::error!(%error, "the database is not ready");
                reasons.push("the database is not available".to_owned());
            }
            reasons
        }
        Err(_) => vec!["the database or an issuer did not respond in time".to_owned()],
    };
    if app.stop.is_cancelled() {
        reasons.push("the server is stopping".to_owned());
    }
    reasons
}
