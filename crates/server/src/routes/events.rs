//! `GET /api/sync/events`
//!
//! Not here: when an event is due (`crate::events`).

use std::{collections::BTreeSet, pin::Pin};

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::MethodRouter,
};
use futures_util::{
    Stream, StreamExt as _,
    future::{ready, try_join_all},
    stream,
};
use serde::Serialize;
use vaultsync_protocol::{EventsRequest, Timestamp, VaultName};
use vaultsync_store::Vault;

use crate::{
    app::App,
    error::{ApiError, Failure},
    events::{Events, HeadEvent, StreamEvent},
    extract::{Caller, Query},
};

/// Sends an event after each change of the vault, as server-sent events, until the client
/// disconnects.
///
/// An event means that there is something to pull. Its `head` is not a cursor. Events may be
/// repeated, skipped if a later one follows, or lost. The stream starts with a comment and the vault's
/// current head.
///
/// With `vaults`, the stream also follows the user's vaults of these names, and each event has a member `vault`.
///
/// "Try it out" on the API page shows no event: it waits for the end of a response, and a stream has
/// none. Use `curl -N -H 'Authorization: Bearer TOKEN' …/api/sync/events` instead.
#[utoipa::path(
    get,
    path = "/api/sync/events",
    tag = "sync",
    security(("bearer" = [])),
    params(
        ("vaults" = Option<String>, Query, description = "Names of further vaults to follow, with commas between them.", example = "notes,journal"),
    ),
    responses(
        (status = 200, description = "Events named `head`, and comments that keep the stream alive.", headers(("X-Accel-Buffering" = String, description = "Always no: a proxy must forward events at once."), ("Cache-Control" = String, description = "Always `no-store, no-transform`: a proxy must not compress the stream.")), content_type = "text/event-stream", body = String, example = json!("event: head\ndata: {\"head\":\"2024-01-15T10:30:00.000Z\",\"epoch\":\"8a0f6c3e-1d1b-4c55-9a1e-3f0e2b7c9d10\"}\n\n")),
        (status = 400, description = "`invalid_request`.", body = Failure),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn events(
    State(app): State<App>,
    Caller { vault, expires_at, .. }: Caller,
    Query(request): Query<EventsRequest>,
) -> Result<Response, ApiError> {
    if let Some(names) = request.vaults {
        return Ok(respond(of_several(app, vault, names, expires_at).await?));
    }
    let events = Events::open(app, vault, expires_at).await?;
    Ok(respond(stream::unfold(events, async |mut events| {
        let event = encode(events.next().await?, |head| head);
        Some((event, events))
    })))
}

/// The events of a vault and of its user's vaults with these names. They end when those of one vault do.
async fn of_several(
    app: App,
    vault: Vault,
    names: BTreeSet<VaultName>,
    expires_at: Timestamp,
) -> Result<impl Stream<Item = Result<Event, axum::Error>>, ApiError> {
    let others = names.into_iter().filter(|name| name.as_str() != vault.name());
    let others: Vec<_> = others.map(|name| vault.clone().named(name)).collect();
    if others.len() >= app.limits.waits_per_user_max {
        // Before any of them takes the place of an older stream.
        return Err(ApiError::TooManyWaits);
    }
    let vaults: Vec<_> = std::iter::once(vault).chain(others).collect();
    let name =
        |vault: &Vault| Some(vault.name()).filter(|name| !name.is_empty()).map(str::to_owned);
    let names: Vec<_> = vaults.iter().map(name).collect();
    let open = |vault| Events::open(app.clone(), vault, expires_at);
    let opened = try_join_all(vaults.into_iter().map(open)).await?;
    let streams = opened.into_iter().zip(names).enumerate();
    let events = stream::select_all(
        streams.map(|(index, (events, name))| one_of_several(events, name, index == 0)),
    );
    Ok(events.take_while(|event| ready(event.is_some())).filter_map(ready))
}

/// The events of a vault whose name each event has, and `None` at their end. Only one of the streams that are
/// sent together keeps the connection alive.
fn one_of_several(
    events: Events,
    vault: Option<String>,
    keeps_alive: bool,
) -> Pin<Box<impl Stream<Item = Option<Result<Event, axum::Error>>>>> {
    let events = stream::unfold(Some(events), move |events| {
        let vault = vault.clone();
        async move {
            let mut events = events?;
            loop {
                let event = match events.next().await {
                    None => return Some((None, None)),
                    Some(StreamEvent::KeepAlive) if !keeps_alive => continue,
                    Some(event) => encode(event, |head| NamedEvent { head, vault }),
                };
                return Some((Some(event), Some(events)));
            }
        }
    });
    Box::pin(events)
}

/// An event of a stream that follows several vaults.
#[derive(Serialize)]
struct NamedEvent {
    #[serde(flatten)]
    head: HeadEvent,
    /// Null for the default vault.
    vault: Option<String>,
}

fn encode<T: Serialize>(
    event: StreamEvent,
    data: impl FnOnce(HeadEvent) -> T,
) -> Result<Event, axum::Error> {
    match event {
        StreamEvent::Head(head) => Event::default().event("head").json_data(data(head)),
        StreamEvent::KeepAlive => Ok(Event::DEFAULT_KEEP_ALIVE),
    }
}

fn respond(events: impl Stream<Item = Result<Event, axum::Error>> + Send + 'static) -> Response {
    let headers = [
        // Replaces the default of `Sse`, which allows caches to store the stream. Middleware that
        // compresses, such as the one in Next.js, would hold events back until its buffer is full;
        // `no-transform` forbids that (RFC 9111, section 5.2.2.6). Other responses end, so they may
        // be compressed.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Sse::new(events)).into_response()
}

/// Refuses every other method, and `HEAD` too: it would open a stream, which takes a place, only to
/// send nothing.
pub(super) fn refuse_other_methods(methods: MethodRouter<App>) -> MethodRouter<App> {
    let refuse = || async { ([(header::ALLOW, "GET")], ApiError::MethodNotAllowed) };
    methods.head(refuse).fallback(refuse)
}
