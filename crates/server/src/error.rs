//! Failures: status, code, message and headers of every response that reports one.
//!
//! Status codes are named in this file only. Success is always 200, which needs no name. A refused
//! push is an outcome and not a failure, but its status is declared here too ([`PUSH_REFUSED`]).
//!
//! # How to use this
//!
//! - A handler or extractor returns `Result<_, ApiError>`. Errors of the store, of the protocol and
//!   of the memory budget convert with `?`.
//! - The text in `Internal`, `Unavailable`, `Busy` and `OutcomeUnknown` is the cause: the log has it, the
//!   client does not get it.
//! - [`ApiError`] becomes a response without a body. `observe` adds the body, because only that
//!   layer knows the request's id.
//!
//! # How to add an error
//!
//! 1. Add a variant to [`ApiError`]; the compiler then asks for its status, code and message. The
//!    code is part of the protocol: use an existing one unless clients must react differently.
//! 2. Add it to [`ApiError::retry_after`] if the same request can succeed later.
//! 3. Add the code to [`CODES`].
//! 4. Describe the status and the code in `docs/PROTOCOL.md` and in the `responses` of each route
//!    that returns it.

use std::{
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use vaultsync_protocol::{BodyError, Issue};
use vaultsync_store::{Counters, QuotaExceeded, Quotas, StoreError};

use crate::{
    auth::{AuthError, Outcome},
    json,
    memory_budget::BudgetExceeded,
    openapi,
    rates::{Counted, RateLimited},
};

/// Status of a push of which nothing was written because of conflicts.
pub(crate) const PUSH_REFUSED: StatusCode = StatusCode::CONFLICT;

/// The codes of each status. The OpenAPI document lists them.
pub(crate) const CODES: &[(u16, &[&str])] = &[
    (400, &["invalid_json", "invalid_request"]),
    (
        401,
        &[
            "unauthorized",
            "token_expired",
            "token_not_active_yet",
            "token_iat_in_the_future",
            "token_invalid_audience",
            "token_invalid_authorized_parties",
            "token_type_mismatch",
            "token_verification_failed",
            "session_pending",
        ],
    ),
    (403, &["forbidden"]),
    (404, &["not_found"]),
    (405, &["method_not_allowed"]),
    (408, &["request_timeout"]),
    (410, &["epoch_changed", "cursor_ahead", "cursor_expired", "vault_erased"]),
    (413, &["payload_too_large"]),
    (415, &["unsupported_media_type"]),
    (429, &["rate_limited"]),
    (431, &["headers_too_large"]),
    (500, &["internal"]),
    (503, &["unavailable", "outcome_unknown"]),
    (507, &["too_many_vaults", "quota_exceeded"]),
];

/// `Retry-After` of errors that do not bring a time of their own.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The response to any failed request, except a push with conflicts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    /// A sentence for people. Its wording can change.
    #[schema(example = "The request is not valid. See issues.")]
    error: String,
    #[schema(schema_with = openapi::any_code, required = true)]
    code: &'static str,
    /// The request's id in the server's log.
    #[schema(example = "019c1f0e-6f2a-7cc3-98c4-dc0c0c07398f")]
    request_id: String,
    /// Page that documents the code, if the server is set to name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, example = "https://docs.example.com/protocol#error-invalid_request")]
    docs: Option<String>,
    /// Each problem of the request; only with `invalid_request`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    issues: Vec<Issue>,
    /// What the vault holds; only with `quota_exceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = QuotaUsage)]
    usage: Option<QuotaUsage>,
    /// What a vault may hold; only with `quota_exceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Quota)]
    quota: Option<Quota>,
    /// Indexes of the operations that would make the vault hold more; only with `quota_exceeded`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    operations: Vec<usize>,
    /// Why the server is not ready; only from `/readyz`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    reasons: Vec<String>,
}

/// What a vault holds, as far as quotas limit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct QuotaUsage {
    /// Records that are no tombstones.
    #[schema(value_type = usize, example = 1000)]
    records: i64,
    /// Records that are tombstones.
    #[schema(value_type = usize, example = 20)]
    tombstones: i64,
    /// Bytes of ciphertext, tombstones included.
    #[schema(value_type = usize, example = 1_048_576)]
    bytes: i64,
}

/// The quotas of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Quota {
    /// Records that are no tombstones; null if they are not limited.
    #[schema(required = true, value_type = Option<usize>, example = 1000)]
    records: Option<i64>,
    /// Bytes of ciphertext; null if they are not limited.
    #[schema(required = true, value_type = Option<usize>, example = 104_857_600)]
    bytes: Option<i64>,
}

/// A push that would make its vault hold more than its quotas.
#[derive(Debug)]
pub(crate) struct QuotaRefusal {
    usage: QuotaUsage,
    quota: Quota,
    operations: Vec<usize>,
}

impl QuotaUsage {
    pub(crate) const fn new(counters: Counters) -> Self {
        let Counters { live_records, record_rows, bytes } = counters;
        Self { records: live_records, tombstones: record_rows - live_records, bytes }
    }
}

impl Quota {
    pub(crate) const fn new(Quotas { records, bytes }: Quotas) -> Self {
        Self { records, bytes }
    }
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum ApiError {
    InvalidRequest(Vec<Issue>),
    InvalidJson(String),
    SignIn(AuthError),
    NotFound,
    MethodNotAllowed,
    /// A preflight of this web origin, which is not listed. It is in quotes.
    OriginNotListed(String),
    /// The same without any listed origin: a preflight is then a method that no path supports.
    CorsIsOff(String),
    RequestTimeout,
    EpochChanged,
    CursorAhead,
    CursorExpired,
    VaultErased,
    BodyTooLarge {
        bytes_max: usize,
    },
    HeadersTooLarge {
        bytes_max: usize,
    },
    UnsupportedMediaType(&'static str),
    RateLimited(RateLimited),
    TooManyWaits,
    TooMuchInFlight,
    Internal(String),
    Unavailable(String),
    /// Too many requests are before this one.
    Busy(String),
    NotReady(Vec<String>),
    OutcomeUnknown(String),
    TooManyVaults,
    QuotaExceeded(Box<QuotaRefusal>),
}

impl ApiError {
    /// The refusal of a push that exceeds these quotas.
    pub(crate) fn quota_exceeded(exceeded: QuotaExceeded, quotas: Quotas) -> Self {
        let QuotaExceeded { usage, operations } = exceeded;
        let (usage, quota) = (QuotaUsage::new(usage), Quota::new(quotas));
        Self::QuotaExceeded(Box::new(QuotaRefusal { usage, quota, operations }))
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest(_) | Self::InvalidJson(_) => StatusCode::BAD_REQUEST,
            Self::SignIn(error) => match error.outcome() {
                Outcome::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
                Outcome::Forbidden => StatusCode::FORBIDDEN,
                Outcome::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::OriginNotListed(_) => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed | Self::CorsIsOff(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::EpochChanged | Self::CursorAhead | Self::CursorExpired | Self::VaultErased => {
                StatusCode::GONE
            }
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited(_) | Self::TooManyWaits | Self::TooMuchInFlight => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(_) | Self::Busy(_) | Self::NotReady(_) | Self::OutcomeUnknown(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::TooManyVaults | Self::QuotaExceeded(_) => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    /// Identifies the kind of failure for programs.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidJson(_) => "invalid_json",
            Self::SignIn(error) => error.code(),
            Self::NotFound => "not_found",
            Self::OriginNotListed(_) => "forbidden",
            Self::MethodNotAllowed | Self::CorsIsOff(_) => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::EpochChanged => "epoch_changed",
            Self::CursorAhead => "cursor_ahead",
            Self::CursorExpired => "cursor_expired",
            Self::VaultErased => "vault_erased",
            Self::BodyTooLarge { .. } => "payload_too_large",
            Self::HeadersTooLarge { .. } => "headers_too_large",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::RateLimited(_) | Self::TooManyWaits | Self::TooMuchInFlight => "rate_limited",
            Self::Internal(_) => "internal",
            Self::Unavailable(_) | Self::Busy(_) | Self::NotReady(_) => "unavailable",
            Self::OutcomeUnknown(_) => "outcome_unknown",
            Self::TooManyVaults => "too_many_vaults",
            Self::QuotaExceeded(_) => "quota_exceeded",
        }
    }

    /// The sentence that the client gets. It contains no cause.
    fn message(&self) -> String {
        let message = match self {
            Self::InvalidRequest(_) => "The request is not valid. See issues.",
            Self::InvalidJson(problem) => {
                return format!("The request body is not valid JSON: {problem}.");
            }
            Self::SignIn(error) => match error.outcome() {
                // Fixed by the protocol: a 401 never says more than its code does.
                Outcome::Unauthorized { .. } => "Unauthorized",
                Outcome::Forbidden => "This session is not allowed to use the vault.",
                Outcome::Unavailable { .. } => {
                    "The token cannot be verified at the moment. \
                     Retry after the time in Retry-After."
                }
            },
            Self::NotFound => "This path does not exist.",
            Self::MethodNotAllowed => {
                "This path does not support the request method. See the Allow header."
            }
            Self::RequestTimeout => {
                "The request body did not arrive in time. Send fewer operations at a time."
            }
            Self::OriginNotListed(origin) | Self::CorsIsOff(origin) => {
                return format!(
                    "Pages of the web origin {origin} may not call this server. \
                     To allow them, add the origin to its setting cors_origins \
                     (VAULTSYNC_CORS_ORIGINS)."
                );
            }
            Self::EpochChanged => {
                "The vault's history is not the one of this epoch. \
                 Discard cursor and epoch, then pull from the start."
            }
            Self::CursorAhead => {
                "The cursor is later than the vault's latest change. \
                 Discard cursor and epoch, then pull from the start."
            }
            Self::VaultErased => {
                "The vault of this epoch was erased, for ever. \
                 Ask the user before anything of it is pushed again."
            }
            Self::CursorExpired => {
                "Deleted records were removed that this client may not have seen. \
                 Compare with the manifest, or discard the cursor and pull from the start."
            }
            Self::BodyTooLarge { bytes_max } => {
                return format!(
                    "The request body is larger than {bytes_max} bytes. Send a smaller batch."
                );
            }
            Self::HeadersTooLarge { bytes_max } => {
                return format!(
                    "The request line and headers are larger than {bytes_max} bytes in total."
                );
            }
            Self::UnsupportedMediaType(message) => message,
            Self::RateLimited(RateLimited { counted: Counted::Bytes, .. }) => {
                "Too many bytes were sent and received. Retry after the time in Retry-After."
            }
            Self::RateLimited(_) => "Too many requests. Retry after the time in Retry-After.",
            Self::TooManyWaits => {
                "This user has too many waiting pulls and event streams open. \
                 Close one, or retry after the time in Retry-After."
            }
            Self::TooMuchInFlight => {
                "Requests and responses of this user that are in flight use too much memory. \
                 Retry after the time in Retry-After."
            }
            Self::Internal(_) => {
                "The server could not process the request. \
                 Its log has the cause under this requestId."
            }
            Self::Unavailable(_) | Self::Busy(_) => {
                "The server cannot process the request at the moment. \
                 Retry after the time in Retry-After."
            }
            Self::NotReady(_) => "The server is not ready. See reasons.",
            Self::OutcomeUnknown(_) => {
                "It is unknown whether the push was applied. Send the same body again."
            }
            Self::TooManyVaults => {
                "This user has as many named vaults as this server allows. \
                 Use one of them. See vaultsPerUserMax in GET /api/sync/info."
            }
            Self::QuotaExceeded(_) => {
                "The vault would hold more than its quota. Nothing is written. \
                 See operations; delete records first."
            }
        };
        message.to_owned()
    }

    /// The cause, for the log only; `None` if the response says everything.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::Internal(cause)
            | Self::Unavailable(cause)
            | Self::Busy(cause)
            | Self::OutcomeUnknown(cause) => Some(cause),
            Self::SignIn(error) => Some(error.reason().as_str()),
            _ => None,
        }
    }

    /// What was expected and what came, for the log only.
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Self::SignIn(error) => error.detail(),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited(limited) => Some(limited.retry_after),
            Self::SignIn(error) => match error.outcome() {
                Outcome::Unavailable { retry_after } => Some(retry_after),
                _ => None,
            },
            Self::TooManyWaits
            | Self::TooMuchInFlight
            | Self::Unavailable(_)
            | Self::Busy(_)
            | Self::NotReady(_)
            | Self::OutcomeUnknown(_) => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// Spreads the clients that have to start over, of which there may be many at once, over a time. The id of the
    /// request is random enough, or the client's choice.
    pub(crate) fn spread_retries(
        &self,
        response: &mut Response,
        request_id: &str,
        spread: Duration,
    ) {
        if self.status() == StatusCode::GONE && !spread.is_zero() {
            let mut hasher = DefaultHasher::new();
            hasher.write(request_id.as_bytes());
            let seconds = 1 + hasher.finish() % spread.as_secs().max(1);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
    }

    /// Sets the response's body, once the request's id is known.
    pub(crate) fn write_body(
        &self,
        response: &mut Response,
        request_id: &str,
        docs_url: Option<&str>,
    ) {
        let exceeded = match self {
            Self::QuotaExceeded(refusal) => Some(refusal),
            _ => None,
        };
        let failure = Failure {
            usage: exceeded.map(|refusal| refusal.usage),
            quota: exceeded.map(|refusal| refusal.quota),
            operations: exceeded.map(|refusal| refusal.operations.clone()).unwrap_or_default(),
            error: self.message(),
            code: self.code(),
            request_id: request_id.to_owned(),
            docs: docs_url.map(|url| format!("{url}#error-{}", self.code())),
            issues: if let Self::InvalidRequest(issues) = self { issues.clone() } else { vec![] },
            reasons: if let Self::NotReady(reasons) = self { reasons.clone() } else { vec![] },
        };
        *response.body_mut() = Body::from(json::encode(&failure));
    }
}

/// Status and headers. The error itself travels in the extensions to [`ApiError::write_body`].
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, json::CONTENT_TYPE);
        let mut insert = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        if let Some(retry_after) = self.retry_after() {
            insert(header::RETRY_AFTER, retry_after.as_secs().max(1).to_string());
        }
        if let Self::RateLimited(RateLimited { policy, counted, burst, retry_after }) = &self {
            let reset = retry_after.as_secs();
            let name = HeaderName::from_static;
            let unit = match counted {
                Counted::Requests => "",
                Counted::Bytes => r#";qu="content-bytes""#,
            };
            // draft-ietf-httpapi-ratelimit-headers-11
            insert(name("ratelimit-policy"), format!(r#""{policy}";q={burst}{unit};w=3"#));
            insert(name("ratelimit"), format!(r#""{policy}";r=0;t={reset}"#));
        }
        if let Self::SignIn(error) = &self
            && let Some(challenge) = error.www_authenticate()
        {
            insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Json(problem) => Self::InvalidJson(problem),
            BodyError::Invalid(issues) => Self::InvalidRequest(issues),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) => Self::Unavailable(cause),
            StoreError::Busy(cause) => Self::Busy(cause),
            StoreError::OutcomeUnknown(cause) => Self::OutcomeUnknown(cause),
            StoreError::Internal(cause) => Self::Internal(cause),
        }
    }
}

impl From<BudgetExceeded> for ApiError {
    fn from(exceeded: BudgetExceeded) -> Self {
        match exceeded {
            BudgetExceeded::Server => {
                Self::Unavailable("the memory budget for bodies is used up".to_owned())
            }
            BudgetExceeded::User => Self::TooMuchInFlight,
            BudgetExceeded::SlowBodies => Self::RequestTimeout,
        }
    }
}
