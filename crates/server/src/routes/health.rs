//! `GET /healthz` and `GET /readyz`

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    error::{ApiError, Failure},
    response,
};

/// That all is well.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok` from `/healthz`, `ready` from `/readyz`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Tells that the process is alive and answers.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operation",
    responses((status = 200, description = "It is.", body = Health)),
)]
pub(crate) async fn healthz() -> Response {
    response::ok(&Health { status: "ok" })
}

/// Tells whether requests can be served: the database answers, and callers can be recognised.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    responses(
        (status = 200, description = "They can.", body = Health),
        (status = 503, description = "They cannot: see `reasons`.", body = Failure, headers(("Retry-After" = u64, description = "Seconds."))),
    ),
)]
pub(crate) async fn readyz(State(app): State<App>) -> Result<Response, ApiError> {
    let checks = async { tokio::join!(app.store.check(), app.authenticator.ready()) };
    let mut reasons = match tokio::time::timeout(app.limits.handler_timeout, checks).await {
        Ok((Ok(()), keys)) => keys.err().unwrap_or_default(),
        Ok((Err(error), keys)) => {
            // What the database says may name files and hosts, and this path is public.
            tracing::error!(%error, "the database is not ready");
            let mut reasons = keys.err().unwrap_or_default();
            reasons.push("the database cannot be had".to_owned());
            reasons
        }
        Err(_) => vec!["the database or an issuer did not answer in time".to_owned()],
    };
    if app.stop.is_cancelled() {
        reasons.push("the server is stopping".to_owned());
    }
    if reasons.is_empty() {
        Ok(response::ok(&Health { status: "ready" }))
    } else {
        Err(ApiError::NotReady(reasons))
    }
}
