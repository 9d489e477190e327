//! The forms in which an operator may write down a public RSA key.
//!
//! Not here: any other kind of key. `local` reads its own.

use base64_simd::STANDARD_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;

use super::keys::{Key, install_provider};

/// The keys in `text`: PEM blocks one after the other, whole or squeezed into one line, with line
/// ends of any kind or a literal `\n` in their place; or a single key in base64 without armour.
///
/// The error says what is wrong and never repeats the text.
pub(super) fn rsa_keys(text: &str) -> Result<Vec<Key>, &'static str> {
    let text = text.replace("\\r", "\r").replace("\\n", "\n");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty");
    }
    if !rest.contains("-----") {
        return Ok(vec![rsa_key("PUBLIC KEY", rest)?]);
    }
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let unframed = "it has text outside of a PEM block, or a block without an end";
        let (label, after) = rest
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.split_once("-----"))
            .ok_or(unframed)?;
        let end = format!("-----END {label}-----");
        let (body, after) = after.split_once(&end).ok_or(unframed)?;
        keys.push(rsa_key(label, body)?);
        rest = after.trim_start();
    }
    Ok(keys)
}

fn rsa_key(label: &str, body: &str) -> Result<Key, &'static str> {
    if label.ends_with("PRIVATE KEY") {
        return Err("it is a private key: only the public one belongs here");
    }
    if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
        return Err("it is not a PUBLIC KEY");
    }
    // Decoded and armoured anew, so that the one reader of PEM sees one form of it.
    let packed: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let der = STANDARD_NO_PAD
        .decode_to_vec(packed.trim_end_matches('='))
        .map_err(|_| "it is not base64")?;
    let pem = armour(label, &der);
    install_provider();
    let key = DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| "it is not an RSA key")?;
    let jwk = Jwk::from_decoding_key(&key, None).map_err(|_| "it is not an RSA key")?;
    Key::without_id(&jwk)
}

/// `der` between the two lines of PEM (RFC 7468): 64 characters a line.
pub(super) fn armour(label: &str, der: &[u8]) -> String {
    let packed = base64_simd::STANDARD.encode_to_string(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = packed.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + "-----END " + label + "-----\n"
}
