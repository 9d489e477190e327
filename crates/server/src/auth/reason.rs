//! Authentication errors: their reasons, and how much of the reason the caller may read.
//!
//! Not here: HTTP responses, which are built from the code and the header of an [`AuthError`].

use std::fmt;
use std::time::Duration;

/// Reason of an authentication error, as logs and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request has no bearer token.
    SessionTokenMissing,
    /// Not a token: the `Authorization` header or the token's form is invalid.
    TokenInvalid,
    /// The token is longer than the server accepts.
    TokenTooLong,
    /// A token of the issuer for another purpose than calling this server.
    TokenTypeMismatch,
    /// The issuer is not configured for the token's signature algorithm.
    TokenInvalidAlgorithm,
    /// No key of the issuer matches the token's key id and algorithm.
    JwkKidMismatch,
    /// The issuer's keys cannot be fetched.
    JwkRemoteFailedToLoad,
    /// The issuer returned something other than a key set.
    JwkRemoteInvalid,
    /// The issuer's key set has no usable key.
    JwkRemoteMissing,
    /// The signature is not valid.
    TokenInvalidSignature,
    /// The token's issuer is not configured.
    TokenInvalidIssuer,
    /// The token is for another audience.
    TokenInvalidAudience,
    /// A claim is missing, of the wrong type or out of range.
    TokenVerificationFailed,
    /// The token was issued to an origin that is not an authorized party.
    TokenInvalidAuthorizedParties,
    /// The token has expired.
    TokenExpired,
    /// The token is not valid yet.
    TokenNotActiveYet,
    /// The token was issued in the future.
    TokenIatInTheFuture,
    /// The session is pending: the user has to complete a step before it is active.
    SessionPending,
    /// An actor impersonates the user, which is not allowed.
    ImpersonationNotAllowed,
    /// The user's account has been deleted, and its data must not reappear.
    AccountDeleted,
}

impl Reason {
    /// All reasons, so that a metric can register them before they occur.
    pub const ALL: [Self; 20] = [
        Self::SessionTokenMissing,
        Self::TokenInvalid,
        Self::TokenTooLong,
        Self::TokenTypeMismatch,
        Self::TokenInvalidAlgorithm,
        Self::JwkKidMismatch,
        Self::JwkRemoteFailedToLoad,
        Self::JwkRemoteInvalid,
        Self::JwkRemoteMissing,
        Self::TokenInvalidSignature,
        Self::TokenInvalidIssuer,
        Self::TokenInvalidAudience,
        Self::TokenVerificationFailed,
        Self::TokenInvalidAuthorizedParties,
        Self::TokenExpired,
        Self::TokenNotActiveYet,
        Self::TokenIatInTheFuture,
        Self::SessionPending,
        Self::ImpersonationNotAllowed,
        Self::AccountDeleted,
    ];

    /// Name with hyphens, for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        self.names().0
    }

    /// Name with underscores, for callers. [`AuthError::code`] decides whether the caller may read
    /// it.
    pub const fn code(self) -> &'static str {
        self.names().1
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::SessionTokenMissing => ("session-token-missing", "session_token_missing"),
            Self::TokenInvalid => ("token-invalid", "token_invalid"),
            Self::TokenTooLong => ("token-too-long", "token_too_long"),
            Self::TokenTypeMismatch => ("token-type-mismatch", "token_type_mismatch"),
            Self::TokenInvalidAlgorithm => ("token-invalid-algorithm", "token_invalid_algorithm"),
            Self::JwkKidMismatch => ("jwk-kid-mismatch", "jwk_kid_mismatch"),
            Self::JwkRemoteFailedToLoad => {
                ("jwk-remote-failed-to-load", "jwk_remote_failed_to_load")
            }
            Self::JwkRemoteInvalid => ("jwk-remote-invalid", "jwk_remote_invalid"),
            Self::JwkRemoteMissing => ("jwk-remote-missing", "jwk_remote_missing"),
            Self::TokenInvalidSignature => ("token-invalid-signature", "token_invalid_signature"),
            Self::TokenInvalidIssuer => ("token-invalid-issuer", "token_invalid_issuer"),
            Self::TokenInvalidAudience => ("token-invalid-audience", "token_invalid_audience"),
            Self::TokenVerificationFailed => {
                ("token-verification-failed", "token_verification_failed")
            }
            Self::TokenInvalidAuthorizedParties => {
                ("token-invalid-authorized-parties", "token_invalid_authorized_parties")
            }
            Self::TokenExpired => ("token-expired", "token_expired"),
            Self::TokenNotActiveYet => ("token-not-active-yet", "token_not_active_yet"),
            Self::TokenIatInTheFuture => ("token-iat-in-the-future", "token_iat_in_the_future"),
            Self::SessionPending => ("session-pending", "session_pending"),
            Self::ImpersonationNotAllowed => {
                ("impersonation-not-allowed", "impersonation_not_allowed")
            }
            Self::AccountDeleted => ("account-deleted", "account_deleted"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Effect of an authentication error on the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 401: the caller is not authenticated.
    Unauthorized {
        /// Whether the issuer signed the token. Only then may the caller read the reason, because
        /// it reveals how this server is configured.
        signature_verified: bool,
    },
    /// 403: the caller is authenticated, but not allowed to continue.
    Forbidden,
    /// 503: no caller can be authenticated at the moment. A 401 would make clients sign out.
    Unavailable {
        /// Delay before the next attempt, at least a second.
        retry_after: Duration,
    },
}

/// Failed authentication of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed: {reason}")]
pub struct AuthError {
    reason: Reason,
    outcome: Outcome,
    /// What was expected and what came.
    detail: Option<Box<str>>,
}

impl AuthError {
    /// The caller's account is deleted. For code that finds this out after authentication.
    pub const fn account_deleted() -> Self {
        Self::verified(Reason::AccountDeleted)
    }

    /// Failed before the signature was verified.
    pub(super) const fn unverified(reason: Reason) -> Self {
        let outcome = Outcome::Unauthorized { signature_verified: false };
        Self { reason, outcome, detail: None }
    }

    /// Failed after the signature was verified.
    pub(super) const fn verified(reason: Reason) -> Self {
        let outcome = match reason {
            Reason::ImpersonationNotAllowed => Outcome::Forbidden,
            _ => Outcome::Unauthorized { signature_verified: true },
        };
        Self { reason, outcome, detail: None }
    }

    /// Failed because there are no keys for verification.
    pub(super) const fn unavailable(reason: Reason, retry_after: Duration) -> Self {
        Self { reason, outcome: Outcome::Unavailable { retry_after }, detail: None }
    }

    /// Adds a sentence for the operator. It must not contain a token or a key.
    pub(super) fn with_detail(self, detail: String) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// What was expected and what came, for the log only.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Reason for logs and metrics.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Effect on the request.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether the failure counts against the address of the caller: a token was presented that no
    /// key of an issuer verifies. A verified token that has expired, or is not allowed, was really
    /// issued; a client that presents it must learn so, to get another one, whatever other clients
    /// behind the same address send.
    pub const fn is_charged(&self) -> bool {
        matches!(self.outcome, Outcome::Unauthorized { signature_verified: false })
            && !matches!(self.reason, Reason::SessionTokenMissing)
    }

    /// Member `code` of the response: the reason if the signature was verified, else only the kind
    /// of error.
    pub const fn code(&self) -> &'static str {
        match self.outcome {
            Outcome::Unauthorized { signature_verified: true } => self.reason.code(),
            Outcome::Unauthorized { signature_verified: false } => "unauthorized",
            Outcome::Forbidden => "forbidden",
            Outcome::Unavailable { .. } => "unavailable",
        }
    }

    /// Value of `WWW-Authenticate` (RFC 6750, section 3), which a 401 requires; none for a 503.
    pub fn www_authenticate(&self) -> Option<String> {
        const REALM: &str = r#"Bearer realm="sync""#;
        match self.outcome {
            Outcome::Unauthorized { .. } if self.reason == Reason::SessionTokenMissing => {
                Some(REALM.to_owned())
            }
            Outcome::Unauthorized { signature_verified: false } => {
                Some(format!(r#"{REALM}, error="invalid_token""#))
            }
            Outcome::Unauthorized { signature_verified: true } => Some(format!(
                r#"{REALM}, error="invalid_token", error_description="{}""#,
                self.reason
            )),
            Outcome::Forbidden => Some(format!(r#"{REALM}, error="insufficient_scope""#)),
            Outcome::Unavailable { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_that_no_key_verifies_is_charged() {
        for reason in Reason::ALL {
            assert!(!AuthError::verified(reason).is_charged(), "{reason}");
            assert!(!AuthError::unavailable(reason, Duration::from_secs(1)).is_charged());
            let is_missing = reason == Reason::SessionTokenMissing;
            assert_eq!(AuthError::unverified(reason).is_charged(), !is_missing, "{reason}");
        }
    }

    #[test]
    fn codes_are_unique_and_the_reason_with_underscores() {
        for reason in Reason::ALL {
            assert_eq!(reason.code(), reason.as_str().replace('-', "_"));
            assert_eq!(Reason::ALL.iter().filter(|r| r.code() == reason.code()).count(), 1);
        }
    }
}
