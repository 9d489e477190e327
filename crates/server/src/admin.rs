//! The admin address: metrics, and nothing that belongs to users.

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};

use crate::{
    app::App,
    layers::{with_fallbacks, with_layers},
    telemetry,
};

/// The router of the admin address.
pub fn admin_router(app: App) -> Router {
    let routes = Router::new().route("/metrics", get(metrics));
    with_layers(with_fallbacks(routes), app)
}

/// `GET /metrics`, in the Prometheus text format.
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    telemetry::sample(app.memory.reserved_bytes());
    app.tasks().record_metrics();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}
