//! Rules for Clerk session tokens, which distinguish them from other tokens signed by the same key.
//!
//! [`ClerkRules::check_header`] runs before the signature is verified, the other rules after it.
//!
//! Not here: the signature.

use serde_json::Value;
use vaultsync_protocol::Timestamp;

use super::claims::{Claims, VerifiedClaims, audience_matches, check_times, subject};
use super::reason::Reason;

/// Accepted values of `cat`: session tokens, and the category that Clerk's `jwtCategories.ts` says
/// to ignore.
const CATEGORIES: [&str; 2] = ["cl_B7d4PD111AAA", "cl_I7d4PD111III"];

/// Token rules of one Clerk instance.
#[derive(Debug)]
pub(super) struct ClerkRules {
    /// Origins whose tokens are accepted; all origins if empty.
    pub(super) authorized_parties: Vec<String>,
    /// Whether tokens without `azp` are accepted even so. Tokens with an empty `azp` never are.
    pub(super) allow_missing_azp: bool,
    /// Accepted audiences; `aud` is not checked if empty.
    pub(super) audience: Vec<String>,
    /// Whether tokens of an actor who impersonates a user are accepted.
    pub(super) allow_impersonation: bool,
}

impl ClerkRules {
    /// Checks `typ` and `cat`. Tokens from JWT templates and machine tokens are signed by the same
    /// key, and the former can outlive the session that created them.
    pub(super) fn check_header(header: &Claims) -> Result<(), Reason> {
        match header.get("typ") {
            None => {}
            Some(Value::String(typ)) if typ == "JWT" => {}
            Some(Value::String(typ)) if typ == "at+jwt" || typ == "application/at+jwt" => {
                return Err(Reason::TokenTypeMismatch);
            }
            Some(_) => return Err(Reason::TokenInvalid),
        }
        match header.get("cat") {
            None => Ok(()),
            Some(Value::String(cat)) if CATEGORIES.contains(&cat.as_str()) => Ok(()),
            Some(_) => Err(Reason::TokenTypeMismatch),
        }
    }

    /// Checks the claims of a token whose signature has been verified.
    pub(super) fn check_claims(
        &self,
        claims: &Claims,
        now: Timestamp,
        skew_millis: i64,
    ) -> Result<VerifiedClaims, Reason> {
        let subject = subject(claims)?;
        if subject.starts_with("mch_") {
            return Err(Reason::TokenTypeMismatch);
        }
        if !self.audience.is_empty() && audience_matches(claims, &self.audience)? == Some(false) {
            return Err(Reason::TokenInvalidAudience);
        }
        self.check_authorized_party(claims)?;
        let expires_at = check_times(claims, now, skew_millis)?;
        check_session(claims)?;
        // A null `act` means no impersonation; any other value means impersonation.
        let is_impersonated = claims.get("act").is_some_and(|act| !act.is_null());
        if is_impersonated && !self.allow_impersonation {
            return Err(Reason::ImpersonationNotAllowed);
        }
        Ok(VerifiedClaims { subject: subject.into(), expires_at })
    }

    fn check_authorized_party(&self, claims: &Claims) -> Result<(), Reason> {
        if self.authorized_parties.is_empty() {
            return Ok(());
        }
        match claims.get("azp") {
            None if self.allow_missing_azp => Ok(()),
            // Entries are never empty, so an empty `azp` does not match.
            Some(Value::String(azp)) if self.authorized_parties.contains(azp) => Ok(()),
            _ => Err(Reason::TokenInvalidAuthorizedParties),
        }
    }
}

/// Checks `sid` and `sts`. Without a `cat`, only a missing `sid` distinguishes a JWT template's
/// token from a session token.
fn check_session(claims: &Claims) -> Result<(), Reason> {
    match claims.get("sid") {
        None => return Err(Reason::TokenTypeMismatch),
        Some(Value::String(sid)) if !sid.is_empty() => {}
        Some(_) => return Err(Reason::TokenVerificationFailed),
    }
    match claims.get("sts") {
        Some(Value::String(sts)) if sts == "pending" => Err(Reason::SessionPending),
        None | Some(Value::String(_)) => Ok(()),
        Some(_) => Err(Reason::TokenVerificationFailed),
    }
}
