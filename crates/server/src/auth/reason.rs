//! Why a request was turned away, and how much of it the caller may read.
//!
//! Not here: HTTP responses. Whoever answers asks a [`AuthError`] for its code and its header.

use std::fmt;
use std::time::Duration;

/// Why a request was turned away, as logs and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No bearer token came with the request.
    SessionTokenMissing,
    /// What came is not a token: its header, its form or its size is wrong.
    TokenInvalid,
    /// A token of the issuer that is for something else than calling this server.
    TokenTypeMismatch,
    /// Signed in a way that the issuer is not configured for.
    TokenInvalidAlgorithm,
    /// No key of the issuer has the token's key id and suits its algorithm.
    JwkKidMismatch,
    /// The issuer's keys could not be fetched.
    JwkRemoteFailedToLoad,
    /// What came in place of the issuer's keys is not a key set.
    JwkRemoteInvalid,
    /// The issuer's key set holds no key that could verify a token.
    JwkRemoteMissing,
    /// The signature is not the issuer's.
    TokenInvalidSignature,
    /// The token names no configured issuer.
    TokenInvalidIssuer,
    /// The token is meant for another audience.
    TokenInvalidAudience,
    /// A claim is missing, of a wrong type or out of bounds.
    TokenVerificationFailed,
    /// The token was made for an origin that is not among the authorized parties.
    TokenInvalidAuthorizedParties,
    /// The token's time is over.
    TokenExpired,
    /// The token's time has not begun.
    TokenNotActiveYet,
    /// The token was made in the future.
    TokenIatInTheFuture,
    /// The user has still something to do before the session counts as signed in.
    SessionPending,
    /// Somebody else acts as the user, and that is not allowed.
    ImpersonationNotAllowed,
    /// The user has been deleted: nothing of them may come back.
    AccountDeleted,
}

impl Reason {
    /// Every reason there is, so that a metric can name them all before the first one happens.
    pub const ALL: [Self; 19] = [
        Self::SessionTokenMissing,
        Self::TokenInvalid,
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

    /// The reason with hyphens, for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        self.names().0
    }

    /// The reason with underscores, as a caller reads it. Only [`AuthError::code`] knows whether the
    /// caller may.
    pub const fn code(self) -> &'static str {
        self.names().1
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::SessionTokenMissing => ("session-token-missing", "session_token_missing"),
            Self::TokenInvalid => ("token-invalid", "token_invalid"),
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

/// What a refusal means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 401: the caller is not known.
    Unauthorized {
        /// Whether the issuer signed the token. Only then may the caller read the reason: anybody
        /// else would learn from it how this server is configured.
        signature_verified: bool,
    },
    /// 403: the caller is known and may not.
    Forbidden,
    /// 503: nobody can be recognised now. A 401 here would make clients sign out.
    Unavailable {
        /// When to try again. At least a second.
        retry_after: Duration,
    },
}

/// A request that was turned away at sign-in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sign-in refused: {reason}")]
pub struct AuthError {
    reason: Reason,
    outcome: Outcome,
}

impl AuthError {
    /// The caller's account is deleted. For whoever finds that out after sign-in.
    pub const fn account_deleted() -> Self {
        Self::verified(Reason::AccountDeleted)
    }

    /// Turned away before the signature was known to be good.
    pub(super) const fn unverified(reason: Reason) -> Self {
        Self { reason, outcome: Outcome::Unauthorized { signature_verified: false } }
    }

    /// Turned away although the issuer did sign the token.
    pub(super) const fn verified(reason: Reason) -> Self {
        let outcome = match reason {
            Reason::ImpersonationNotAllowed => Outcome::Forbidden,
            _ => Outcome::Unauthorized { signature_verified: true },
        };
        Self { reason, outcome }
    }

    /// Turned away because there are no keys to judge with.
    pub(super) const fn unavailable(reason: Reason, retry_after: Duration) -> Self {
        Self { reason, outcome: Outcome::Unavailable { retry_after } }
    }

    /// Why, for logs and metrics.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// What it means for the request.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The `code` of the answer: the reason where the signature verified, and else only the kind of
    /// failure.
    pub const fn code(&self) -> &'static str {
        match self.outcome {
            Outcome::Unauthorized { signature_verified: true } => self.reason.code(),
            Outcome::Unauthorized { signature_verified: false } => "unauthorized",
            Outcome::Forbidden => "forbidden",
            Outcome::Unavailable { .. } => "unavailable",
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750, section 3), which a 401 must carry; none for 503.
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
    fn a_code_is_its_reason_with_underscores() {
        for reason in Reason::ALL {
            assert_eq!(reason.code(), reason.as_str().replace('-', "_"));
            assert_eq!(Reason::ALL.iter().filter(|r| r.code() == reason.code()).count(), 1);
        }
    }
}
