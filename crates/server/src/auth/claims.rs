//! Claims that all kinds of tokens share: subject, audience and times.
//!
//! Everything here runs after the signature has been verified.
//!
//! Not here: Clerk's own claims (`claims_clerk`), signatures, clocks.

use std::sync::Arc;

use serde_json::{Map, Value};
use vaultsync_protocol::Timestamp;

use super::reason::Reason;

/// Maximum length of a subject, in characters (OIDC Core, section 2, `sub`).
pub(super) const SUBJECT_CHARS_MAX: usize = 255;

/// 9999-12-31T23:59:59Z. A later time is an error and would not fit into a [`Timestamp`].
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// Claims of a token.
pub(super) type Claims = Map<String, Value>;

/// Claims that passed all checks.
pub(super) struct VerifiedClaims {
    pub(super) subject: Arc<str>,
    pub(super) expires_at: Timestamp,
}

/// Whether `subject` can name a user. Control characters are rejected because a database may not
/// accept them and logs should not contain them.
pub(super) fn subject_is_valid(subject: &str) -> bool {
    !subject.is_empty()
        && subject.chars().count() <= SUBJECT_CHARS_MAX
        && !subject.chars().any(char::is_control)
}

/// Returns `sub`, a non-empty string of at most 255 characters.
pub(super) fn subject(claims: &Claims) -> Result<&str, Reason> {
    match claims.get("sub") {
        Some(Value::String(subject)) if subject_is_valid(subject) => Ok(subject),
        _ => Err(Reason::TokenVerificationFailed),
    }
}

/// Whether `aud`, a string or a list of strings, contains one of `accepted`; `None` if there is no
/// `aud`.
pub(super) fn audience_matches(
    claims: &Claims,
    accepted: &[String],
) -> Result<Option<bool>, Reason> {
    let is_accepted = |name: &str| accepted.iter().any(|audience| audience == name);
    match claims.get("aud") {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(is_accepted(name))),
        Some(Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            let names = names.ok_or(Reason::TokenVerificationFailed)?;
            Ok(Some(names.into_iter().any(is_accepted)))
        }
        Some(_) => Err(Reason::TokenVerificationFailed),
    }
}

/// Checks `exp` (required), `nbf` and `iat` against `now`; returns the time of `exp`.
pub(super) fn check_times(
    claims: &Claims,
    now: Timestamp,
    skew_millis: i64,
) -> Result<Timestamp, Reason> {
    let exp = numeric_date(claims, "exp")?.ok_or(Reason::TokenVerificationFailed)?;
    let nbf = numeric_date(claims, "nbf")?;
    let iat = numeric_date(claims, "iat")?;
    if exp <= millis(now.plus_millis(-skew_millis)) {
        return Err(Reason::TokenExpired);
    }
    let latest_start = millis(now.plus_millis(skew_millis));
    if nbf.is_some_and(|nbf| nbf > latest_start) {
        return Err(Reason::TokenNotActiveYet);
    }
    if iat.is_some_and(|iat| iat > latest_start) {
        return Err(Reason::TokenIatInTheFuture);
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded by SECONDS_MAX, so it fits")]
    Ok(Timestamp::from_millis(exp.floor() as i64))
}

/// Reads a `NumericDate` (RFC 7519, section 2: seconds since 1970, with or without a fraction) in
/// milliseconds.
fn numeric_date(claims: &Claims, name: &str) -> Result<Option<f64>, Reason> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    match value.as_f64() {
        Some(seconds) if seconds.abs() <= SECONDS_MAX => Ok(Some(seconds * 1000.0)),
        _ => Err(Reason::TokenVerificationFailed),
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to the year 287396")]
fn millis(time: Timestamp) -> f64 {
    time.as_millis() as f64
}
