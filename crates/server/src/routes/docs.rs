//! `GET /openapi.json`, and a page at `/docs` that shows it without any other host's help.

use std::sync::{Arc, OnceLock};

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

pub use crate::openapi::openapi;
use crate::{error::ApiError, response};

/// The page runs its own scripts and styles and talks to this server; nothing else.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// The OpenAPI document, put together once: anybody may ask for it, as often as they like.
pub(super) async fn document() -> Response {
    static DOCUMENT: OnceLock<OpenApi> = OnceLock::new();
    response::ok(DOCUMENT.get_or_init(openapi))
}

pub(super) async fn to_page() -> Redirect {
    Redirect::permanent("/docs/")
}

pub(super) async fn index() -> Result<Response, ApiError> {
    serve("")
}

pub(super) async fn file(file: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    // A path that is not UTF-8 names no file.
    let Path(file) = file.map_err(|_| ApiError::NotFound)?;
    serve(&file)
}

fn serve(path: &str) -> Result<Response, ApiError> {
    static CONFIG: OnceLock<Arc<Config<'static>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        // Swagger UI sends every document to an online validator unless told not to.
        Arc::new(Config::new(["/openapi.json"]).validator_url("none").use_base_layout())
    });
    let found = utoipa_swagger_ui::serve(path, Arc::clone(config))
        .map_err(|error| ApiError::Internal(error.to_string()))?
        .ok_or(ApiError::NotFound)?;
    let content_type = HeaderValue::from_str(&found.content_type)
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let headers =
        [(header::CONTENT_TYPE, content_type), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY)];
    Ok((headers, found.bytes.into_owned()).into_response())
}
