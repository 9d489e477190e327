//! Observability of one request: its id, its log line and its metrics.
//!
//! Tokens, ciphertexts, record ids and cursors never appear in any of them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tracing::Instrument as _;
use uuid::{ContextV7, Timestamp as UuidTimestamp, Uuid};

use crate::{app::App, error::ApiError};

/// The request's id, in requests, responses and the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Middleware that gives the request an id, completes failures with it, and logs and measures the
/// response.
pub(crate) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = app.clock.uptime();
    let id = request_id(&app, request.headers());
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    // The pattern and not the path: no label may contain text that a caller chose.
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!("request", id, method, route, vault = tracing::field::Empty);

    let (http_method, headers) = (request.method(), request.headers());
    // It logs, and a log line must not cost a response.
    let refused =
        catch_unwind(AssertUnwindSafe(|| app.origins.refuse(http_method, headers, started)));
    let refused = refused.unwrap_or_default();
    let (mut response, failure) = respond(request, next, refused).instrument(span.clone()).await;
    if let Some(failure) = &failure {
        failure.write_body(&mut response, &id, app.docs_url.as_deref());
        failure.spread_retries(&mut response, &id, app.limits.resync_spread_seconds);
    }
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let duration = app.clock.uptime().saturating_sub(started);
    app.request_metrics.record(route, method, response.status().as_u16(), duration);
    // The layer that handles panics is inside this one, and a log line must not cost a response.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _entered = span.enter();
        log(&response, failure.as_deref(), duration);
        if let Some(ApiError::Busy(cause)) = failure.as_deref()
            && let Some(requests) = app.busy_warnings.count(started + duration)
        {
            tracing::warn!(requests, cause, "requests are refused because the server is too busy");
        }
    }));
    response
}

/// The response, without the body of a failure, and that failure. `refused` is the error of a preflight
/// of an origin that is not listed.
async fn respond(
    request: Request,
    next: Next,
    refused: Option<ApiError>,
) -> (Response, Option<Arc<ApiError>>) {
    let mut response = match refused {
        None => next.run(request).await,
        // The CORS layer would accept the preflight, and only omit the origin.
        Some(error @ ApiError::OriginNotListed(_)) => error.into_response(),
        // Without CORS, `OPTIONS` is refused with the methods of the path. Only the reason is added.
        Some(error) => {
            let mut response = next.run(request).await;
            if response.extensions().get::<Arc<ApiError>>().is_some_and(is_wrong_method) {
                response.extensions_mut().insert(Arc::new(error));
            }
            response
        }
    };
    let failure = response.extensions_mut().remove::<Arc<ApiError>>();
    (response, failure)
}

fn is_wrong_method(error: &Arc<ApiError>) -> bool {
    matches!(**error, ApiError::MethodNotAllowed)
}

/// The client's own id if it is short and plain, else a new one.
fn request_id(app: &App, headers: &HeaderMap) -> String {
    const BYTES_MAX: usize = 64;
    let is_plain = |id: &&str| {
        (1..=BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(is_plain);
    sent.map_or_else(|| new_id(app).to_string(), str::to_owned)
}

fn new_id(app: &App) -> Uuid {
    let millis = u64::try_from(app.clock.now().as_millis()).unwrap_or(0);
    let nanos = u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(UuidTimestamp::from_unix(ContextV7::new(), millis / 1000, nanos))
}

fn log(response: &Response, failure: Option<&ApiError>, duration: Duration) {
    let status = response.status().as_u16();
    let code = failure.map_or("", ApiError::code);
    let cause = failure.and_then(ApiError::cause).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "no request takes that long")]
    let micros = duration.as_micros() as u64;
    let is_busy = matches!(failure, Some(ApiError::Busy(_)));
    // An error at each request that is shed would be one more load.
    if response.status().is_server_error() && !is_busy {
        tracing::error!(status, micros, code, cause, "request handled");
    } else if failure.is_some() {
        let detail = failure.and_then(ApiError::detail);
        tracing::info!(status, micros, code, cause, detail, "request handled");
    } else {
        tracing::info!(status, micros, "request handled");
    }
}

/// The method's name as a label. On the wire a method is free text of any length; labels and log
/// lines must not be.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
