//! What is answered, and with which status. No other file names a status code.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;
use vaultsync_protocol::{Conflict, Issue, Page, PushError, Written};
use vaultsync_store::{Refused, StoreError};

use crate::{
    auth::{AuthError, Outcome},
    memory_budget::{BudgetExceeded, Reservation},
    rates::RateLimited,
};

/// The answer to a push that was applied.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PushApplied {
    /// Always true.
    #[schema(example = true)]
    success: bool,
    /// What each operation wrote, in their order.
    results: Vec<Written>,
}

/// The answer to a push of which nothing was written.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PushRefused {
    /// Always false.
    #[schema(example = false)]
    success: bool,
    /// The records that stood in the way, in the order of the operations.
    conflicts: Vec<Conflict>,
    /// Present, and true, where there are more conflicts than one answer holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    has_more: bool,
}

/// The answer to any request that failed, a push with conflicts apart.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    /// A sentence for a person.
    #[schema(example = "The request is not valid.")]
    error: String,
    /// What a program tells failures apart by.
    #[schema(example = "invalid_request")]
    code: &'static str,
    /// What the server's log calls this request.
    #[schema(example = "019c1f0e-6f2a-7cc3-98c4-dc0c0c07398f")]
    request_id: String,
    /// Each thing that is wrong, where that can be told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    issues: Vec<Issue>,
    /// Why the server is not ready; only from `/readyz`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    reasons: Vec<String>,
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum ApiError {
    InvalidRequest(Vec<Issue>),
    InvalidJson(String),
    SignIn(AuthError),
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    EpochChanged,
    CursorAhead,
    BodyTooLarge { bytes_max: usize },
    HeadersTooLarge { bytes_max: usize },
    UnsupportedMediaType(&'static str),
    RateLimited(RateLimited),
    TooManyWaits,
    TooMuchInFlight,
    Internal(String),
    Unavailable(String),
    NotReady(Vec<String>),
    OutcomeUnknown(String),
}

/// When to come back where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl ApiError {
    const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest(_) | Self::InvalidJson(_) => StatusCode::BAD_REQUEST,
            Self::SignIn(refusal) => match refusal.outcome() {
                Outcome::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
                Outcome::Forbidden => StatusCode::FORBIDDEN,
                Outcome::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::EpochChanged | Self::CursorAhead => StatusCode::GONE,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited(_) | Self::TooManyWaits | Self::TooMuchInFlight => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(_) | Self::NotReady(_) | Self::OutcomeUnknown(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// What a program tells failures apart by.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidJson(_) => "invalid_json",
            Self::SignIn(refusal) => refusal.code(),
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::EpochChanged => "epoch_changed",
            Self::CursorAhead => "cursor_ahead",
            Self::BodyTooLarge { .. } => "payload_too_large",
            Self::HeadersTooLarge { .. } => "headers_too_large",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::RateLimited(_) | Self::TooManyWaits | Self::TooMuchInFlight => "rate_limited",
            Self::Internal(_) => "internal",
            Self::Unavailable(_) | Self::NotReady(_) => "unavailable",
            Self::OutcomeUnknown(_) => "outcome_unknown",
        }
    }

    /// What a caller may read.
    fn message(&self) -> String {
        match self {
            Self::InvalidRequest(_) => "The request is not valid: see issues.".to_owned(),
            Self::InvalidJson(what) => format!("The body is not JSON: {what}."),
            Self::SignIn(refusal) => match refusal.outcome() {
                Outcome::Unauthorized { .. } => "Unauthorized".to_owned(),
                Outcome::Forbidden => "This session may not do that.".to_owned(),
                Outcome::Unavailable { .. } => {
                    "Sign-in cannot be checked at the moment. Try again soon.".to_owned()
                }
            },
            Self::NotFound => "There is nothing here.".to_owned(),
            Self::MethodNotAllowed => "This path does not take that method.".to_owned(),
            Self::RequestTimeout => "The body took too long to arrive.".to_owned(),
            Self::EpochChanged => {
                "The vault has another history than the one you know: pull from the start."
                    .to_owned()
            }
            Self::CursorAhead => {
                "The cursor is later than anything in the vault: pull from the start.".to_owned()
            }
            Self::BodyTooLarge { bytes_max } => {
                format!("The body is longer than {bytes_max} bytes.")
            }
            Self::HeadersTooLarge { bytes_max } => {
                format!("The request line and headers are longer than {bytes_max} bytes.")
            }
            Self::UnsupportedMediaType(what) => (*what).to_owned(),
            Self::RateLimited(_) => "Too many requests. Try again soon.".to_owned(),
            Self::TooManyWaits => {
                "Too many pulls and event streams of this user wait already.".to_owned()
            }
            Self::TooMuchInFlight => {
                "Bodies and answers of this user in flight take too much memory already.".to_owned()
            }
            Self::Internal(_) => "Something went wrong on the server.".to_owned(),
            Self::Unavailable(_) => "The server is busy. Try again soon.".to_owned(),
            Self::NotReady(_) => "The server is not ready: see reasons.".to_owned(),
            Self::OutcomeUnknown(_) => {
                "Whether the push was applied is not known. Send the same body again.".to_owned()
            }
        }
    }

    /// What only the log may read; `None` where the answer says it all.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::Internal(cause) | Self::Unavailable(cause) | Self::OutcomeUnknown(cause) => {
                Some(cause)
            }
            Self::SignIn(refusal) => Some(refusal.reason().as_str()),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited(too_many) => Some(too_many.retry_after),
            Self::SignIn(refusal) => match refusal.outcome() {
                Outcome::Unavailable { retry_after } => Some(retry_after),
                _ => None,
            },
            Self::TooManyWaits
            | Self::TooMuchInFlight
            | Self::Unavailable(_)
            | Self::NotReady(_)
            | Self::OutcomeUnknown(_) => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// Writes the answer's body, once it is known what the request is called.
    pub(crate) fn write(&self, response: &mut Response, request_id: &str) {
        let failure = Failure {
            error: self.message(),
            code: self.code(),
            request_id: request_id.to_owned(),
            issues: if let Self::InvalidRequest(issues) = self { issues.clone() } else { vec![] },
            reasons: if let Self::NotReady(reasons) = self { reasons.clone() } else { vec![] },
        };
        *response.body_mut() = Body::from(encode(&failure));
    }
}

/// Status and headers; the body waits for [`ApiError::write`], because only the outermost layer
/// knows the request's id.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        let mut put = |name: header::HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        if let Some(after) = self.retry_after() {
            put(header::RETRY_AFTER, after.as_secs().max(1).to_string());
        }
        if let Self::RateLimited(RateLimited { policy, burst, retry_after }) = &self {
            let reset = retry_after.as_secs();
            let name = header::HeaderName::from_static;
            // draft-ietf-httpapi-ratelimit-headers-11
            put(name("ratelimit-policy"), format!(r#""{policy}";q={burst};w=3"#));
            put(name("ratelimit"), format!(r#""{policy}";r=0;t={reset}"#));
        }
        if let Self::SignIn(refusal) = &self
            && let Some(challenge) = refusal.www_authenticate()
        {
            put(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Json(what) => Self::InvalidJson(what),
            PushError::Invalid(issues) => Self::InvalidRequest(issues),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) => Self::Unavailable(cause),
            StoreError::OutcomeUnknown(cause) => Self::OutcomeUnknown(cause),
            StoreError::Internal(cause) => Self::Internal(cause),
        }
    }
}

impl From<BudgetExceeded> for ApiError {
    fn from(lack: BudgetExceeded) -> Self {
        match lack {
            BudgetExceeded::Server => {
                Self::Unavailable("no memory is left for bodies and answers".to_owned())
            }
            BudgetExceeded::User => Self::TooMuchInFlight,
        }
    }
}

/// 200: all of a push is applied.
pub(crate) fn applied(results: Vec<Written>) -> Response {
    json(StatusCode::OK, &PushApplied { success: true, results }, None)
}

/// 409: nothing of a push is written.
pub(crate) fn refused(refused: Refused, memory: Reservation) -> Response {
    let Refused { conflicts, has_more } = refused;
    json(StatusCode::CONFLICT, &PushRefused { success: false, conflicts, has_more }, Some(memory))
}

/// 200: a page of changes.
pub(crate) fn page(page: &Page, memory: Reservation) -> Response {
    bytes(StatusCode::OK, page.to_json().into(), Some(memory))
}

/// 200: something small.
pub(crate) fn ok(answer: &impl Serialize) -> Response {
    json(StatusCode::OK, answer, None)
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn json(status: StatusCode, answer: &impl Serialize, memory: Option<Reservation>) -> Response {
    bytes(status, encode(answer), memory)
}

/// An answer that is JSON, which keeps of `memory`, where it was to be reserved, what it takes until
/// it is written or given up.
fn bytes(status: StatusCode, bytes: Bytes, mut memory: Option<Reservation>) -> Response {
    if let Some(memory) = &mut memory {
        memory.shrink(bytes.len());
    }
    // With the bytes and not with the body: hyper drops a body when it has its last bytes, long
    // before a slow client has them.
    let body = Body::from(Bytes::from_owner(Encoded { bytes, _memory: memory }));
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// An answer, and the memory it takes.
struct Encoded {
    bytes: Bytes,
    _memory: Option<Reservation>,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn encode(answer: &impl Serialize) -> Bytes {
    // The answers are plain structs with text keys: there is nothing in them that JSON cannot say.
    serde_json::to_vec(answer).map(Bytes::from).expect("an answer can be written as JSON")
}
