//! Parsing of tokens in compact form into header, claims and signature. Verifies nothing.
//!
//! Not here: keys, signatures, rules for claims.

use base64_simd::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::reason::Reason;
use super::strict_json;

/// Maximum length of a key id. Clerk's have 31 characters.
const KID_BYTES_MAX: usize = 256;

/// Well-formed token, not verified.
pub(super) struct Token<'a> {
    /// Text that the signature covers: the first two parts and the dot between them.
    pub(super) signed: &'a str,
    /// The third part, base64url-encoded.
    pub(super) signature: &'a str,
    /// Members of the header. They select a configured key and rules; keys and URLs in the header
    /// are never used.
    pub(super) header: Map<String, Value>,
    /// Members of the claims.
    pub(super) claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Parses the three parts of `text`.
    pub(super) fn parse(text: &'a str) -> Result<Self, Reason> {
        // Prefixes of Clerk's opaque tokens.
        if ["mt_", "m2m_", "oat_", "ak_"].iter().any(|prefix| text.starts_with(prefix)) {
            return Err(Reason::TokenTypeMismatch);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Reason::TokenInvalid)?;
        let (header, claims) = signed.split_once('.').ok_or(Reason::TokenInvalid)?;
        decode(signature)?;
        let header = members(header)?;
        // RFC 7515, section 4.1.11: a token with `crit` must be rejected unless all extensions in
        // it are supported, and none are. `b64` (RFC 7797) changes the signed text.
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Reason::TokenInvalid);
        }
        let token = Self { signed, signature, header, claims: members(claims)? };
        token.kid()?;
        Ok(token)
    }

    /// Key id in the header, if it has one. It is only compared, so any printable text is valid.
    pub(super) fn kid(&self) -> Result<Option<&str>, Reason> {
        match self.header.get("kid") {
            None => Ok(None),
            Some(Value::String(kid))
                if (1..=KID_BYTES_MAX).contains(&kid.len())
                    && kid.bytes().all(|byte| (b' '..=b'~').contains(&byte)) =>
            {
                Ok(Some(kid))
            }
            _ => Err(Reason::TokenInvalid),
        }
    }

    /// Issuer that the token names.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Reason> {
    // `alg: none` has an empty signature, which would decode without error.
    if part.is_empty() {
        return Err(Reason::TokenInvalid);
    }
    URL_SAFE_NO_PAD.decode_to_vec(part).map_err(|_| Reason::TokenInvalid)
}

fn members(part: &str) -> Result<Map<String, Value>, Reason> {
    strict_json::object(&decode(part)?).map_err(|_| Reason::TokenInvalid)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn only_canonical_base64url_is_decoded() {
        for (part, valid) in [
            ("QUJD", true),
            ("QQ", true),
            ("_-8", true),
            ("QQ==", false),
            // The last bits are not zero: a non-canonical encoding of "A".
            ("QR", false),
            ("Q", false),
            ("+/8", false),
            ("QU JD", false),
            ("QUJD\n", false),
            ("", false),
        ] {
            assert_eq!(decode(part).is_ok(), valid, "{part:?}");
        }
    }
}
