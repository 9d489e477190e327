//! Parsing of public RSA keys in the settings.
//!
//! Not here: other kinds of keys. `local` parses its own key.

use base64_simd::STANDARD_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;

use super::keys::{Key, install_provider};

/// Parses the keys in `text`: consecutive PEM blocks, on several lines or on one, with any line
/// ends or literal `\n` instead; or a single key in base64 without PEM header and footer.
///
/// The error says what is wrong and never contains the text.
pub(super) fn rsa_keys(text: &str) -> Result<Vec<Key>, &'static str> {
    let text = text.replace("\\r", "\r").replace("\\n", "\n");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty: set a public RSA key in PEM");
    }
    if !rest.contains("-----") {
        return Ok(vec![rsa_key("PUBLIC KEY", rest)?]);
    }
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let malformed = "it has text outside of a PEM block or a block without an END line";
        let (label, after) = rest
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.split_once("-----"))
            .ok_or(malformed)?;
        let end = format!("-----END {label}-----");
        let (body, after) = after.split_once(&end).ok_or(malformed)?;
        keys.push(rsa_key(label, body)?);
        rest = after.trim_start();
    }
    Ok(keys)
}

fn rsa_key(label: &str, body: &str) -> Result<Key, &'static str> {
    if label.ends_with("PRIVATE KEY") {
        return Err("it is a private key: set the public key instead");
    }
    if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
        return Err("its PEM label is neither PUBLIC KEY nor RSA PUBLIC KEY");
    }
    // Decodes and encodes the key again, so that the PEM parser only sees one form of it.
    let base64: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let der = STANDARD_NO_PAD
        .decode_to_vec(base64.trim_end_matches('='))
        .map_err(|_| "it is not base64")?;
    let pem = encode(label, &der);
    install_provider();
    let key = DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| "it is not an RSA key")?;
    let jwk = Jwk::from_decoding_key(&key, None).map_err(|_| "it is not an RSA key")?;
    Key::without_id(&jwk)
}

/// Encodes `der` in PEM (RFC 7468), with 64 characters a line.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let base64 = base64_simd::STANDARD.encode_to_string(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + "-----END " + label + "-----\n"
}
