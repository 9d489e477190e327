//! `GET /openapi.json`, and the page at `/docs/` that shows it without loading from other hosts.
//!
//! These routes are not in the document themselves.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use crate::{app::App, error::ApiError, json, response};

/// Content security policy of the page: it runs its own scripts and styles and connects to this
/// server only.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

pub(super) fn router(document: &OpenApi) -> Router<App> {
    // Encoded once: the route is public and may be called often.
    let document = json::encode(document);
    Router::new()
        .route("/openapi.json", get(async move || response::encoded(document.clone())))
        .route("/docs", get(redirect))
        .route("/docs/", get(index))
        .route("/docs/{*file}", get(file))
}

async fn redirect() -> Redirect {
    // Relative, like every URL of the page: a proxy may serve this server below a path of its own.
    Redirect::permanent("docs/")
}

async fn index() -> Result<Response, ApiError> {
    serve("")
}

async fn file(file: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    // A path that is not UTF-8 names no file.
    let Path(file) = file.map_err(|_| ApiError::NotFound)?;
    serve(&file)
}

fn serve(path: &str) -> Result<Response, ApiError> {
    static CONFIG: OnceLock<Arc<Config<'static>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        // By default Swagger UI sends every document to an online validator.
        Arc::new(Config::new(["../openapi.json"]).validator_url("none").use_base_layout())
    });
    let file = utoipa_swagger_ui::serve(path, Arc::clone(config))
        .map_err(|error| ApiError::Internal(error.to_string()))?
        .ok_or(ApiError::NotFound)?;
    let content_type = HeaderValue::from_str(&file.content_type)
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let headers =
        [(header::CONTENT_TYPE, content_type), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY)];
    Ok((headers, file.bytes.into_owned()).into_response())
}
