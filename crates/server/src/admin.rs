//! What the admin address serves: numbers, and nothing a user could reach.

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};

use crate::{answer::ApiError, app::App, observe, telemetry};

/// Everything the admin address serves.
pub fn admin_router(app: App) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(axum::middleware::from_fn_with_state(app.clone(), observe::observe))
        .with_state(app)
}

/// `GET /metrics`, in the Prometheus text format.
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    telemetry::measure(app.memory.bytes_taken());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}
