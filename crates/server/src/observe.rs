//! What an operator sees of a request: an id, one line in the log, and numbers.
//!
//! Never a token, a ciphertext, a record id or a cursor.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use metrics::{Counter, Histogram};
use tracing::Instrument as _;
use uuid::{ContextV7, Timestamp as UuidTimestamp, Uuid};

use crate::{app::App, response::ApiError};

/// What a request is called, in its answer and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id, lets it be answered, and tells of it.
pub(crate) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = app.clock.uptime();
    let id = request_id(&app, request.headers());
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    // The pattern, not the path: whatever a caller makes up must not become a label.
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!("request", id, method, route, vault = tracing::field::Empty);

    let mut response = next.run(request).instrument(span.clone()).await;
    let failure = response.extensions_mut().remove::<Arc<ApiError>>();
    if let Some(failure) = &failure {
        failure.write(&mut response, &id);
    }
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let took = app.clock.uptime().saturating_sub(started);
    let _entered = span.enter();
    log(&response, failure.as_deref(), took);
    app.request_metrics.count(route, method, response.status(), took);
    response
}

/// The client's own id where it is short and plain, else a new one.
fn request_id(app: &App, headers: &HeaderMap) -> String {
    const BYTES_MAX: usize = 64;
    let plain = |id: &&str| {
        (1..=BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let theirs = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    theirs.map_or_else(|| new_id(app).to_string(), str::to_owned)
}

fn new_id(app: &App) -> Uuid {
    let millis = u64::try_from(app.clock.now().as_millis()).unwrap_or(0);
    let nanos = u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(UuidTimestamp::from_unix(ContextV7::new(), millis / 1000, nanos))
}

fn log(response: &Response, failure: Option<&ApiError>, took: Duration) {
    let status = response.status().as_u16();
    let code = failure.map_or("", ApiError::code);
    let cause = failure.and_then(ApiError::cause).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "no request takes that long")]
    let micros = took.as_micros() as u64;
    if response.status().is_server_error() {
        tracing::error!(status, micros, code, cause, "answered");
    } else if failure.is_some() {
        tracing::info!(status, micros, code, cause, "answered");
    } else {
        tracing::info!(status, micros, "answered");
    }
}

/// A method is free text on the wire, of any length; a label, and a line in the log, is not.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// The numbers of each kind of answer. To find them by their labels again for every request took 4 % of
/// a pull that finds nothing.
#[derive(Default)]
pub(crate) struct RequestMetrics(RwLock<HashMap<String, OfRoute>>);

type OfRoute = HashMap<(&'static str, StatusCode), RouteMetrics>;

struct RouteMetrics {
    requests: Counter,
    seconds: Histogram,
}

impl RequestMetrics {
    fn count(&self, route: &str, method: &'static str, status: StatusCode, took: Duration) {
        let kind = (method, status);
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(tally) = known.get(route).and_then(|of_route| of_route.get(&kind)) {
                return tally.add(took);
            }
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let of_route = known.entry(route.to_owned()).or_default();
        of_route.entry(kind).or_insert_with(|| RouteMetrics::find(route, method, status)).add(took);
    }
}

impl RouteMetrics {
    fn find(route: &str, method: &'static str, status: StatusCode) -> Self {
        let route = route.to_owned();
        let status = status.as_u16().to_string();
        Self {
            requests: metrics::counter!(
                "vaultsync_http_requests_total",
                "route" => route.clone(), "method" => method, "status" => status
            ),
            seconds: metrics::histogram!(
                "vaultsync_http_request_seconds", "route" => route, "method" => method
            ),
        }
    }

    fn add(&self, took: Duration) {
        self.requests.increment(1);
        self.seconds.record(took.as_secs_f64());
    }
}
