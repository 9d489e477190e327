//! What a Clerk session token must say, and how to tell it from the other tokens that the same key
//! signs.
//!
//! Not here: the signature. [`ClerkRules::judge_header`] is asked before it, the rest after it.

use serde_json::Value;
use vaultsync_protocol::Timestamp;

use super::claims::{Accepted, Claims, audience_fits, subject, times};
use super::reason::Reason;

/// `cat` of a session token, and the one that Clerk says to ignore (`jwtCategories.ts`).
const CATEGORIES: [&str; 2] = ["cl_B7d4PD111AAA", "cl_I7d4PD111III"];

/// The rules of one Clerk instance.
#[derive(Debug)]
pub(super) struct ClerkRules {
    /// The origins whose tokens are taken; empty takes all.
    pub(super) authorized_parties: Vec<String>,
    /// Whether a token without `azp` is taken nevertheless. One with an empty `azp` is not.
    pub(super) allow_missing_azp: bool,
    /// What this API is called; empty does not look at `aud`.
    pub(super) audience: Vec<String>,
    /// Whether somebody who acts as a user may do so here.
    pub(super) allow_impersonation: bool,
}

impl ClerkRules {
    /// `typ` and `cat`. JWT templates and machine tokens come from the same key, and one of them
    /// would outlive the session it was made in.
    pub(super) fn judge_header(header: &Claims) -> Result<(), Reason> {
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

    pub(super) fn judge(
        &self,
        claims: &Claims,
        now: Timestamp,
        skew_millis: i64,
    ) -> Result<Accepted, Reason> {
        let subject = subject(claims)?;
        if subject.starts_with("mch_") {
            return Err(Reason::TokenTypeMismatch);
        }
        if !self.audience.is_empty() && audience_fits(claims, &self.audience)? == Some(false) {
            return Err(Reason::TokenInvalidAudience);
        }
        self.judge_authorized_party(claims)?;
        let expires_at = times(claims, now, skew_millis)?;
        judge_session(claims)?;
        // JSON's null says that nobody acts; whatever else is there says that somebody does.
        let acted = claims.get("act").is_some_and(|act| !act.is_null());
        if acted && !self.allow_impersonation {
            return Err(Reason::ImpersonationNotAllowed);
        }
        Ok(Accepted { subject: subject.into(), expires_at })
    }

    fn judge_authorized_party(&self, claims: &Claims) -> Result<(), Reason> {
        if self.authorized_parties.is_empty() {
            return Ok(());
        }
        match claims.get("azp") {
            None if self.allow_missing_azp => Ok(()),
            // Entries are never empty, so an empty `azp` is not among them.
            Some(Value::String(azp)) if self.authorized_parties.contains(azp) => Ok(()),
            _ => Err(Reason::TokenInvalidAuthorizedParties),
        }
    }
}

/// `sid` and `sts`. Where there is no `cat`, only a missing `sid` tells a JWT template's token from
/// a session's.
fn judge_session(claims: &Claims) -> Result<(), Reason> {
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
