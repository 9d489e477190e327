//! `GET /api/sync/events`
//!
//! Not here: when there is something to tell (`crate::events`).

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;

use crate::{
    app::App,
    error::{ApiError, Failure},
    events::{Events, StreamEvent},
    extract::Caller,
};

/// Tells of each change of the vault, as server-sent events, for as long as the client listens.
///
/// An event says that there is something to pull. Its `head` is not a cursor. Events may be repeated,
/// left out where another one follows, or lost; the vault's present head is told at the start.
#[utoipa::path(
    get,
    path = "/api/sync/events",
    tag = "sync",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "Events called `head`, and comments to show that the stream is alive.", headers(("X-Accel-Buffering" = String, description = "Always no: a proxy must pass events on at once.")), content_type = "text/event-stream", body = String, example = json!("event: head\ndata: {\"head\":\"2024-01-15T10:30:00.000Z\"}\n\n")),
        (status = 401, description = "`unauthorized`, `token_expired`, …", body = Failure, headers(("WWW-Authenticate" = String, description = "As RFC 6750 has it."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = u64, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = u64, description = "Seconds."))),
    ),
)]
pub(crate) async fn events(
    State(app): State<App>,
    Caller { vault, expires_at }: Caller,
) -> Result<Response, ApiError> {
    let events = Events::open(app, vault, expires_at).await?;
    let events = stream::unfold(events, |mut events| async move {
        let event = match events.next().await? {
            StreamEvent::Head(told) => Event::default().event("head").json_data(told),
            StreamEvent::KeepAlive => Ok(Event::DEFAULT_KEEP_ALIVE),
        };
        Some((event, events))
    });
    let headers = [
        // Instead of what stands there for event streams in general, which lets them be kept.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Sse::new(events)).into_response())
}

/// Any other method. `HEAD` too: to open a stream and tell nothing of it would only take a place.
pub(crate) async fn no_stream() -> impl IntoResponse {
    ([(header::ALLOW, "GET")], ApiError::MethodNotAllowed)
}
