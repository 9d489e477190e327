//! The compact form of a token: its three parts, its header and its claims, read but not believed.
//!
//! Not here: keys, signatures, what a claim must be.

use base64_simd::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::reason::Reason;
use super::strict_json;

/// The longest key id that is looked up. Clerk's are 31 characters long.
const KID_BYTES_MAX: usize = 256;

/// A token that is well formed.
pub(super) struct Token<'a> {
    /// What the signature is over: the first two parts and the dot between them.
    pub(super) signed: &'a str,
    /// The third part, still encoded.
    pub(super) signature: &'a str,
    /// The header's members. They choose among configured keys and rules, and never bring their
    /// own: nothing here is ever fetched.
    pub(super) header: Map<String, Value>,
    /// The claims' members.
    pub(super) claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Reads the three parts of `text`.
    pub(super) fn parse(text: &'a str) -> Result<Self, Reason> {
        // Clerk's opaque tokens name their kind at their beginning.
        if ["mt_", "m2m_", "oat_", "ak_"].iter().any(|prefix| text.starts_with(prefix)) {
            return Err(Reason::TokenTypeMismatch);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Reason::TokenInvalid)?;
        let (header, claims) = signed.split_once('.').ok_or(Reason::TokenInvalid)?;
        decode(signature)?;
        let header = members(header)?;
        // RFC 7515, section 4.1.11: what `crit` names must be understood, and none of it is here.
        // `b64` (RFC 7797) changes what is signed.
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Reason::TokenInvalid);
        }
        let token = Self { signed, signature, header, claims: members(claims)? };
        token.kid()?;
        Ok(token)
    }

    /// The id of the key that is said to have signed this: only ever compared, so any printable
    /// text will do.
    pub(super) fn kid(&self) -> Result<&str, Reason> {
        match self.header.get("kid") {
            Some(Value::String(kid))
                if (1..=KID_BYTES_MAX).contains(&kid.len())
                    && kid.bytes().all(|byte| (b' '..=b'~').contains(&byte)) =>
            {
                Ok(kid)
            }
            _ => Err(Reason::TokenInvalid),
        }
    }

    /// The issuer that the token names.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Reason> {
    // An empty part decodes to nothing, and `alg: none` comes with an empty signature.
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
    fn base64url_has_one_spelling() {
        for (part, good) in [
            ("QUJD", true),
            ("QQ", true),
            ("_-8", true),
            ("QQ==", false),
            // The last bits are not zero: a second spelling of "A".
            ("QR", false),
            ("Q", false),
            ("+/8", false),
            ("QU JD", false),
            ("QUJD\n", false),
            ("", false),
        ] {
            assert_eq!(decode(part).is_ok(), good, "{part:?}");
        }
    }
}
