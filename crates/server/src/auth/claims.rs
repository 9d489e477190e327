//! The claims that every kind of token has: who, for whom, from when until when.
//!
//! Not here: what only Clerk says (`claims_clerk`), signatures, clocks. Everything here is judged
//! after the signature.

use std::sync::Arc;

use serde_json::{Map, Value};
use vaultsync_protocol::Timestamp;

use super::reason::Reason;

/// The longest subject, in characters: OIDC Core, section 2, `sub`.
pub(super) const SUBJECT_CHARS_MAX: usize = 255;

/// 9999-12-31T23:59:59Z. A later time is a mistake, and would not fit what times are kept in.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// What a token says when all of it holds.
pub(super) struct Accepted {
    pub(super) subject: Arc<str>,
    pub(super) expires_at: Timestamp,
}

/// Whether `subject` can name a user. Control characters are left out because a database may not
/// take them and a log should not.
pub(super) fn subject_is_valid(subject: &str) -> bool {
    !subject.is_empty()
        && subject.chars().count() <= SUBJECT_CHARS_MAX
        && !subject.chars().any(char::is_control)
}

/// `sub`: a non-empty string of at most 255 characters.
pub(super) fn subject(claims: &Claims) -> Result<&str, Reason> {
    match claims.get("sub") {
        Some(Value::String(subject)) if subject_is_valid(subject) => Ok(subject),
        _ => Err(Reason::TokenVerificationFailed),
    }
}

/// Whether `aud`, a string or a list of strings, has one of `ours`; `None` where there is no `aud`.
pub(super) fn audience_fits(claims: &Claims, ours: &[String]) -> Result<Option<bool>, Reason> {
    let is_ours = |name: &str| ours.iter().any(|one| one == name);
    match claims.get("aud") {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(is_ours(name))),
        Some(Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            let names = names.ok_or(Reason::TokenVerificationFailed)?;
            Ok(Some(names.into_iter().any(is_ours)))
        }
        Some(_) => Err(Reason::TokenVerificationFailed),
    }
}

/// `exp` (required), `nbf` and `iat` against `now`; the moment of `exp` where they hold.
pub(super) fn times(
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
    let latest_begin = millis(now.plus_millis(skew_millis));
    if nbf.is_some_and(|nbf| nbf > latest_begin) {
        return Err(Reason::TokenNotActiveYet);
    }
    if iat.is_some_and(|iat| iat > latest_begin) {
        return Err(Reason::TokenIatInTheFuture);
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded by SECONDS_MAX, so it fits")]
    Ok(Timestamp::from_millis(exp.floor() as i64))
}

/// A `NumericDate` (RFC 7519, section 2) in milliseconds: seconds since 1970, with a fraction or not.
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
