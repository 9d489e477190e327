//! Entry points to the parsers of untrusted input, for the targets in `fuzz/`.
//!
//! Not here: signatures. Nothing that this module returns authenticates anyone.

use std::fmt::Debug;

use http::HeaderMap;
use serde_json::{Map, Value};

use super::keys::KeySet;
use super::token::Token;
use super::{Reason, bearer};

/// Parsed token, not verified.
#[derive(Debug)]
pub struct ParsedToken<'a> {
    /// Text that the signature covers.
    pub signed: &'a str,
    /// The signature, base64url-encoded.
    pub signature: &'a str,
    /// Key id of the header, if it has one.
    pub kid: Option<String>,
    /// Members of the header.
    pub header: Map<String, Value>,
    /// Members of the claims.
    pub claims: Map<String, Value>,
}

/// Extracts the one bearer token from `headers`.
pub fn bearer(headers: &HeaderMap, token_bytes_max: usize) -> Result<&str, Reason> {
    bearer::token(headers, token_bytes_max).map_err(|error| error.reason())
}

/// Parses a token.
pub fn token(text: &str) -> Result<ParsedToken<'_>, Reason> {
    let token = Token::parse(text)?;
    let kid = token.kid()?.map(str::to_owned);
    let Token { signed, signature, header, claims } = token;
    Ok(ParsedToken { signed, signature, kid, header, claims })
}

/// Parses a JWK set; returns its usable keys and their number, or why it is not one.
pub fn jwks(body: &[u8]) -> Result<(impl PartialEq + Debug + use<>, usize), String> {
    let keys = KeySet::from_jwks(body).map_err(|(_, detail)| detail)?;
    let count = keys.len();
    Ok((keys, count))
}
