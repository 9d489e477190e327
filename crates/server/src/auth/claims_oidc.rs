//! What a token of an OIDC issuer, or of this server's own, must say.
//!
//! Not here: the rules that only Clerk has. There is no `sid`, `azp` or `cat` here.

use serde_json::Value;
use vaultsync_protocol::Timestamp;

use super::claims::{Accepted, Claims, audience_fits, subject, times};
use super::reason::Reason;

/// The rules of one OIDC issuer.
#[derive(Debug)]
pub(super) struct OidcRules {
    /// What this API is called; a token must name one of them. An ID token names its client
    /// instead, and is no key to an API.
    pub(super) audience: Vec<String>,
}

impl OidcRules {
    /// `typ`: absent, or one of the names that RFC 7519 and RFC 9068 give. Media types do not care
    /// about case.
    pub(super) fn judge_header(header: &Claims) -> Result<(), Reason> {
        match header.get("typ") {
            None => Ok(()),
            Some(Value::String(typ))
                if ["JWT", "at+jwt", "application/at+jwt"]
                    .iter()
                    .any(|known| typ.eq_ignore_ascii_case(known)) =>
            {
                Ok(())
            }
            Some(_) => Err(Reason::TokenInvalid),
        }
    }

    pub(super) fn judge(
        &self,
        claims: &Claims,
        now: Timestamp,
        skew_millis: i64,
    ) -> Result<Accepted, Reason> {
        let subject = subject(claims)?;
        match audience_fits(claims, &self.audience)? {
            Some(true) => {}
            Some(false) => return Err(Reason::TokenInvalidAudience),
            None => return Err(Reason::TokenVerificationFailed),
        }
        let expires_at = times(claims, now, skew_millis)?;
        Ok(Accepted { subject: subject.into(), expires_at })
    }
}
