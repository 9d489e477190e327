//! `GET /healthz` and `GET /readyz`

use axum::{extract::State, response::Response};
use serde::Serialize;
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
///
/// It checks nothing else and is always answered: restart a process that does not answer.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operation",
    responses((status = 200, description = "The process is alive.", body = Health)),
)]
pub(super) async fn healthz() -> Response {
    response::ok(&Health { status: "ok" })
}

/// Reports whether a push could be served now.
///
/// There are keys to verify tokens, the database responds, its disk has room, and pushes do not fail. A
/// busy server is ready. Send no requests to a server that is not ready.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    responses(
        (status = 200, description = "Requests can be served.", body = Health),
        (status = 503, description = "`unavailable`: requests cannot be served. See `reasons`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn readyz(State(app): State<App>) -> Result<Response, ApiError> {
    let reasons = app.readiness.reasons_against(&app).await;
    if reasons.is_empty() {
        Ok(response::ok(&Health { status: "ready" }))
    } else {
        Err(ApiError::NotReady(reasons))
    }
}
