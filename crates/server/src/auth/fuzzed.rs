//! A way in to the parsers that read what strangers write, for the targets in `fuzz/`.
//!
//! Not here: signatures. Nothing that comes out of this module says who anybody is.

use std::fmt::Debug;

use http::HeaderMap;
use serde_json::{Map, Value};

use super::keys::KeySet;
use super::token::Token;
use super::{Reason, bearer};

/// A token as it is written.
#[derive(Debug)]
pub struct Written<'a> {
    /// What a signature would be over.
    pub signed: &'a str,
    /// Still encoded.
    pub signature: &'a str,
    /// The header's key id.
    pub kid: String,
    /// The header's members.
    pub header: Map<String, Value>,
    /// The claims' members.
    pub claims: Map<String, Value>,
}

/// The text of the one bearer token in `headers`.
pub fn bearer(headers: &HeaderMap, token_bytes_max: usize) -> Result<&str, Reason> {
    bearer::token(headers, token_bytes_max)
}

/// A token's parts.
pub fn token(text: &str) -> Result<Written<'_>, Reason> {
    let token = Token::parse(text)?;
    let kid = token.kid()?.to_owned();
    let Token { signed, signature, header, claims } = token;
    Ok(Written { signed, signature, kid, header, claims })
}

/// The useful keys of a JWK set and how many they are; else what keeps it from being one.
pub fn jwks(body: &[u8]) -> Result<(impl PartialEq + Debug + use<>, usize), String> {
    let keys = KeySet::from_jwks(body).map_err(|(_, detail)| detail)?;
    let count = keys.len();
    Ok((keys, count))
}
