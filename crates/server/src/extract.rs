//! What handlers work with: who is calling, and what they sent.
//!
//! A handler that has no [`Caller`] among its arguments is public.

use std::time::Duration;

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use vaultsync_protocol::{Pull, Push, Timestamp};
use vaultsync_store::{Vault, VaultId};

use crate::{
    address::{Peer, client_address},
    app::App,
    auth::{AuthError, Outcome},
    error::ApiError,
    memory_budget::Reservation,
};

/// Whoever is calling: signed in, and within their rate.
pub(crate) struct Caller {
    /// Theirs.
    pub(crate) vault: Vault,
    /// The token's `exp`, for what goes on after it has been checked.
    pub(crate) expires_at: Timestamp,
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let signed_in = app
            .authenticator
            .authenticate(&parts.headers)
            .await
            .map_err(|refusal| turn_away(app, parts, refusal))?;
        let vault = Vault::of(signed_in.issuer, signed_in.subject);
        tracing::Span::current().record("vault", tracing::field::display(vault.id()));
        app.rates.charge_user(vault.id()).map_err(ApiError::RateLimited)?;
        Ok(Self { vault, expires_at: signed_in.expires_at })
    }
}

/// Counts a failed sign-in, and charges the address with it.
fn turn_away(app: &App, parts: &Parts, refusal: AuthError) -> ApiError {
    metrics::counter!("vaultsync_sign_in_failures_total", "reason" => refusal.reason().as_str())
        .increment(1);
    let is_their_fault = !matches!(refusal.outcome(), Outcome::Unavailable { .. });
    let peer = parts.extensions.get::<Peer>().copied();
    if let (true, Some(peer)) = (is_their_fault, peer) {
        let address = client_address(peer, &parts.headers, &app.trusted_proxies);
        if let Err(too_many) = app.rates.charge_sign_in_failure(address) {
            return ApiError::RateLimited(too_many);
        }
    }
    ApiError::SignIn(refusal)
}

/// The query of a pull.
pub(crate) struct PullQuery(pub(crate) Pull);

impl FromRequestParts<App> for PullQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if app.overload.is_overloaded(app.clock.uptime()) {
            return Err(ApiError::Unavailable("the server is overloaded".to_owned()));
        }
        Pull::from_query(parts.uri.query().unwrap_or_default())
            .map(Self)
            .map_err(ApiError::InvalidRequest)
    }
}

/// Reads the body of a push, and the memory that it takes, which is to be held until the push is
/// answered.
pub(crate) async fn read_push(
    app: &App,
    user: VaultId,
    request: Request,
) -> Result<(Push, Reservation), ApiError> {
    refuse_other_media(request.headers())?;
    let deadline = body_timeout(request.headers(), app.limits.body_timeout);
    if app.overload.is_overloaded(app.clock.uptime()) {
        // However it ends, there is nothing more to tell.
        let _ = tokio::time::timeout(deadline, pass_over(request)).await;
        return Err(ApiError::Unavailable("the server is overloaded".to_owned()));
    }
    let mut memory = app.memory.reserve(user);
    let body = tokio::time::timeout(deadline, read(request, app, &mut memory))
        .await
        .map_err(|_| ApiError::RequestTimeout)??;
    // By now it may be, and most of what a push costs is yet to come.
    if app.overload.is_overloaded(app.clock.uptime()) {
        return Err(ApiError::Unavailable("the server is overloaded".to_owned()));
    }
    let push = Push::from_json(&body, app.limits.ciphertext_bytes_max)?;
    Ok((push, memory))
}

/// A browser's `fetch` calls a string `text/plain`, so that is taken for JSON too.
fn refuse_other_media(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(ApiError::UnsupportedMediaType("A body must not be compressed."));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if ["application/json", "text/plain"].iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    Err(ApiError::UnsupportedMediaType("A body must be application/json or text/plain."))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The usual time, or longer for a body that at 1 MiB/s takes longer.
fn body_timeout(headers: &HeaderMap, usual: Duration) -> Duration {
    const BYTES_PER_SECOND_MIN: u64 = 1024 * 1024;
    let seconds = content_length(headers).unwrap_or(0) / BYTES_PER_SECOND_MIN;
    usual.max(Duration::from_secs(seconds))
}

async fn read(request: Request, app: &App, memory: &mut Reservation) -> Result<BytesMut, ApiError> {
    let bytes_max = app.limits.body_bytes_max;
    let too_large = ApiError::BodyTooLarge { bytes_max };
    let announced = content_length(request.headers()).unwrap_or(0);
    let Ok(announced) = usize::try_from(announced) else { return Err(too_large) };
    if announced > bytes_max {
        return Err(too_large);
    }
    let mut body = request.into_body();
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // The connection broke, or what came on it is not HTTP: there is nobody to tell more.
        let frame = frame.map_err(|_| ApiError::InvalidJson("it ended early".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > bytes_max {
            return Err(too_large);
        }
        // MemoryBudget is taken as it fills, not as it is announced: announcing costs an attacker nothing.
        memory.grow(read.len() + data.len())?;
        if read.is_empty() && data.len() < announced {
            read.reserve(announced.min(FIRST_RESERVE_BYTES_MAX));
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}

/// Reads past a body, unless it is long. Otherwise its connection would have to end, and to take on
/// the next one costs more than that.
async fn pass_over(request: Request) {
    const BYTES_MAX: u64 = 64 * 1024;
    if content_length(request.headers()).is_some_and(|bytes| bytes <= BYTES_MAX) {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
    }
}

/// How much room is made at the first bytes of a body, at most.
const FIRST_RESERVE_BYTES_MAX: usize = 256 * 1024;

/// The hash of each record, for a log.
pub(crate) fn hashes<'a>(
    app: &App,
    vault: VaultId,
    records: impl Iterator<Item = &'a vaultsync_protocol::RecordId>,
) -> String {
    records.map(|record| app.record_hash.of(vault, record)).collect::<Vec<_>>().join(" ")
}
