//! Rules for tokens of OIDC issuers and of this server's local issuer.
//!
//! Not here: Clerk's own rules. `sid`, `azp` and `cat` have no meaning here.

use serde_json::Value;
use vaultsync_protocol::Timestamp;

use super::claims::{Claims, VerifiedClaims, audience_matches, check_times, subject};
use super::reason::Reason;

/// Token rules of one OIDC issuer.
#[derive(Debug)]
pub(super) struct OidcRules {
    /// Accepted audiences; a token must name one of them. ID tokens name their client instead and
    /// must not give access to an API.
    pub(super) audience: Vec<String>,
}

impl OidcRules {
    /// Checks `typ`: absent, or one of the types of RFC 7519 and RFC 9068. Media types are
    /// case-insensitive.
    pub(super) fn check_header(header: &Claims) -> Result<(), Reason> {
        match header.get("typ") {
            None => Ok(()),
            Some(Value::String(typ))
                if ["JWT", "at+jwt", "application/at+jwt"]
                    .iter()
                    .any(|accepted| typ.eq_ignore_ascii_case(accepted)) =>
            {
                Ok(())
            }
            Some(_) => Err(Reason::TokenInvalid),
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
        match audience_matches(claims, &self.audience)? {
            Some(true) => {}
            Some(false) => return Err(Reason::TokenInvalidAudience),
            None => return Err(Reason::TokenVerificationFailed),
        }
        let expires_at = check_times(claims, now, skew_millis)?;
        Ok(VerifiedClaims { subject: subject.into(), expires_at })
    }
}
