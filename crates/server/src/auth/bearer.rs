//! Extraction of the one bearer token from a request's headers.
//!
//! Not here: the contents of the token. Cookies and query parameters are never read.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::reason::Reason;

/// Returns the token of `Authorization: Bearer <token>`.
///
/// Rejects requests with more than one `Authorization` header, because a proxy in front of this
/// server may have checked the other one. Another scheme counts as no token (RFC 6750).
pub(super) fn token(headers: &HeaderMap, token_bytes_max: usize) -> Result<&str, Reason> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(Reason::SessionTokenMissing);
    };
    if values.next().is_some() {
        return Err(Reason::TokenInvalid);
    }
    let value = value.to_str().map_err(|_| Reason::TokenInvalid)?;
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Reason::SessionTokenMissing);
    }
    let token = rest.trim_start_matches(' ');
    if token.is_empty() || token.len() > token_bytes_max || token.contains([' ', '\t', ',']) {
        return Err(Reason::TokenInvalid);
    }
    Ok(token)
}
