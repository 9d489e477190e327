//! From the headers of a request to the text of its one bearer token.
//!
//! Not here: what is in the token. Cookies and query parameters are never looked at.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::reason::Reason;

/// The token of `Authorization: Bearer <token>`.
///
/// A second `Authorization` header makes the first one void: a proxy before this server might have
/// judged the other one. Another scheme counts as no token, as RFC 6750 has it.
pub(super) fn token(headers: &HeaderMap, token_bytes_max: usize) -> Result<&str, Reason> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(only) = all.next() else {
        return Err(Reason::SessionTokenMissing);
    };
    if all.next().is_some() {
        return Err(Reason::TokenInvalid);
    }
    let value = only.to_str().map_err(|_| Reason::TokenInvalid)?;
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
