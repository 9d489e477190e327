//! Extraction of the one bearer token from a request's headers.
//!
//! Not here: the contents of the token. Cookies and query parameters are never read.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::reason::{AuthError, Reason};

/// Returns the token of `Authorization: Bearer <token>`.
///
/// Rejects requests with more than one `Authorization` header, because a proxy in front of this
/// server may have checked the other one. Another scheme counts as no token (RFC 6750).
pub(super) fn token(headers: &HeaderMap, token_bytes_max: usize) -> Result<&str, AuthError> {
    let missing = || AuthError::unverified(Reason::SessionTokenMissing);
    let invalid = || AuthError::unverified(Reason::TokenInvalid);
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(missing());
    };
    if values.next().is_some() {
        return Err(invalid());
    }
    let value = value.to_str().map_err(|_| invalid())?;
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    let token = rest.trim_start_matches(' ');
    if token.len() > token_bytes_max {
        let bytes = token.len();
        return Err(AuthError::unverified(Reason::TokenTooLong).with_detail(format!(
            "the token has {bytes} bytes, and token_bytes_max is {token_bytes_max}: \
             remove claims from the token, or raise the setting"
        )));
    }
    if token.is_empty() || token.contains([' ', '\t', ',']) {
        return Err(invalid());
    }
    Ok(token)
}
