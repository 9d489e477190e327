//! Typed extractors: who is calling, and what was sent.
//!
//! A handler that takes neither [`Caller`] nor [`ReadBody`] is public.

use std::net::IpAddr;

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::request::Parts,
};
use vaultsync_protocol::{
    BodyError, EraseAccount, EraseVault, EventsRequest, ExportRequest, HistoryRequest, Issue,
    Issues, ManifestRequest, Pull, Push, RecordsRequest, Timestamp, VaultName,
};
use vaultsync_store::Vault;

use crate::{
    Limits, accept::asks_for_lines, address::ClientAddress, admission::refuse_if_overloaded,
    app::App, auth::AuthError, error::ApiError, memory_budget::Reservation, offload, request_body,
};

/// A caller who is signed in and within the rates of the user.
pub(crate) struct Caller {
    /// The vault that the path names: the caller's default vault, or another one of the caller's.
    pub(crate) vault: Vault,
    /// The token's `exp`, for responses that outlast the check of the token.
    pub(crate) expires_at: Timestamp,
    /// The client's address, for responses that are charged while they are written.
    pub(crate) address: Option<IpAddr>,
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let principal = app
            .authenticator
            .authenticate(&parts.headers)
            .await
            .map_err(|error| sign_in_failed(app, parts, error))?;
        let vault = Vault::of(principal.issuer, principal.subject);
        app.rates.charge_user(vault.user()).map_err(ApiError::RateLimited)?;
        let vault = match vault_name(parts)? {
            Some(name) => vault.named(name),
            None => vault,
        };
        tracing::Span::current().record("vault", tracing::field::display(vault.id()));
        let address = parts.extensions.get().map(|ClientAddress(address)| *address);
        Ok(Self { vault, expires_at: principal.expires_at, address })
    }
}

/// The path parameter of routes in a named vault.
pub(crate) const VAULT_PARAMETER: &str = "vault";

/// What the path of every route in a named vault begins with.
pub(crate) const NAMED_VAULTS: &str = "/api/sync/vaults/";

/// The name of the vault in the path, if the route has one.
///
/// Taken from the path as it was sent. The router's parameter is percent-decoded, so that a vault would have
/// several paths, which a proxy may treat differently.
fn vault_name(parts: &Parts) -> Result<Option<VaultName>, ApiError> {
    let Some(rest) = parts.uri.path().strip_prefix(NAMED_VAULTS) else { return Ok(None) };
    let name = rest.split('/').next().unwrap_or_default();
    VaultName::new(name).map(Some).ok_or_else(|| {
        let mut issues = Issues::default();
        issues.add(VAULT_PARAMETER, VaultName::RULE);
        ApiError::InvalidRequest(issues.into_vec())
    })
}

/// Counts a failed sign-in, and charges the address for it if no key verified the token.
fn sign_in_failed(app: &App, parts: &Parts, error: AuthError) -> ApiError {
    metrics::counter!("vaultsync_sign_in_failures_total", "reason" => error.reason().as_str())
        .increment(1);
    if error.is_charged()
        && let Some(ClientAddress(address)) = parts.extensions.get()
        && let Err(limited) = app.rates.charge_sign_in_failure(*address)
    {
        return ApiError::RateLimited(limited);
    }
    ApiError::SignIn(error)
}

/// A request that is sent as a query.
pub(crate) struct Query<T>(pub(crate) T);

/// A request that is parsed from a query, without its `?`.
pub(crate) trait FromQuery: Sized {
    fn from_query(query: &str) -> Result<Self, Vec<Issue>>;
}

impl<T: FromQuery, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        T::from_query(query).map(Self).map_err(ApiError::InvalidRequest)
    }
}

macro_rules! from_query {
    ($($request:ident),+) => {$(
        impl FromQuery for $request {
            fn from_query(query: &str) -> Result<Self, Vec<Issue>> {
                Self::from_query(query)
            }
        }
    )+};
}

from_query!(
    ManifestRequest,
    HistoryRequest,
    ExportRequest,
    EventsRequest,
    EraseVault,
    EraseAccount
);

/// The query of a pull, and whether the client asks for a stream.
pub(crate) enum PullQuery {
    /// For one page.
    Page(Pull),
    /// For everything up to the vault's head.
    Stream(Pull),
}

impl<S: Sync> FromRequestParts<S> for PullQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let pull = if asks_for_lines(&parts.headers) {
            Pull::from_stream_query(query).map(Self::Stream)
        } else {
            Pull::from_query(query).map(Self::Page)
        };
        pull.map_err(ApiError::InvalidRequest)
    }
}

/// A request of a [`Caller`] that is sent as a body. The body is read only after sign-in.
pub(crate) struct ReadBody<T> {
    /// The caller's vault that the path names.
    pub(crate) vault: Vault,
    /// The request, which is valid.
    pub(crate) request: T,
    /// Guard of the memory that the body takes.
    pub(crate) memory: Reservation,
}

/// A request that is parsed from a body.
pub(crate) trait FromBody: Sized + Send + 'static {
    fn from_body(body: &[u8], limits: &Limits) -> Result<Self, BodyError>;
}

impl FromBody for Push {
    fn from_body(body: &[u8], limits: &Limits) -> Result<Self, BodyError> {
        Self::from_json(body, limits.ciphertext_bytes_max)
    }
}

impl FromBody for Pull {
    fn from_body(body: &[u8], _: &Limits) -> Result<Self, BodyError> {
        Self::from_json(body)
    }
}

impl FromBody for RecordsRequest {
    fn from_body(body: &[u8], _: &Limits) -> Result<Self, BodyError> {
        Self::from_json(body)
    }
}

impl<T: FromBody> FromRequest<App> for ReadBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let Caller { vault, address, .. } = Caller::from_request_parts(&mut parts, app).await?;
        request_body::check_media_type(&parts.headers)?;
        let mut memory = app.memory.reserve(vault.user());
        let body = request_body::read(&parts.headers, body, &app.limits, &mut memory).await?;
        let bytes = body.len();
        app.rates.debit_user(vault.user(), bytes);
        if let Some(address) = address {
            app.rates.debit_address(address, bytes);
        }
        // Overload may have begun while the body arrived, and most of the work is still to be done.
        refuse_if_overloaded(app)?;
        let limits = app.clone();
        let parse = move || (T::from_body(&body, &limits.limits), memory);
        let (request, memory) = offload::run(bytes, parse).await;
        Ok(Self { vault, request: request?, memory })
    }
}
