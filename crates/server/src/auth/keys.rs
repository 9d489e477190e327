//! Public keys that verify tokens, and the algorithms they are for.
//!
//! Not here: where keys come from (`pem`, `fetch`, `local`) and how long they are good (`jwks`).
//! There is no type for a shared secret, so no token can ask to be checked with one.

use std::sync::Once;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RsaPublicKeyComponents,
};
use base64_simd::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::reason::Reason;

/// The most keys of one issuer.
pub(super) const KEYS_MAX: usize = 64;

/// Bounds on an RSA modulus: what NIST SP 800-131A still allows, and what is still quick.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

const P256_COORDINATE_BYTES: usize = 32;
const ED25519_KEY_BYTES: usize = 32;

/// A way to sign that an issuer can be configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alg {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

impl Alg {
    pub(super) const ALL: [Self; 4] = [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa];

    /// As the `alg` of a header spells it. Exactly so: RFC 7515 has it compared case by case.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    const fn family(self) -> Family {
        match self {
            Self::Rs256 | Self::Ps256 => Family::Rsa,
            Self::Es256 => Family::P256,
            Self::EdDsa => Family::Ed25519,
        }
    }

    const fn jsonwebtoken(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Ps256 => Algorithm::PS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Rsa,
    P256,
    Ed25519,
}

/// One public key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// `None` fits every key id: a key that an operator wrote down has none.
    kid: Option<String>,
    family: Family,
    /// The one algorithm that the key's own description allows, where it names one.
    only: Option<Alg>,
    /// The public parts, to see whether two keys are the same one.
    public: Vec<Vec<u8>>,
    decoding: DecodingKey,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (&self.kid, self.family, self.only, &self.public)
            == (&other.kid, other.family, other.only, &other.public)
    }
}

impl Key {
    /// A key that verifies whatever key id a token names.
    pub(super) fn without_id(jwk: &Jwk) -> Result<Self, &'static str> {
        Self::from_parameters(None, None, &jwk.algorithm)
    }

    /// A key of a JWK set; the error says in a few words why it is of no use here.
    pub(super) fn from_jwk(value: &Value) -> Result<Self, &'static str> {
        // Whoever can read the set can sign with such a key.
        if value.get("d").is_some() {
            return Err("it shows its private half");
        }
        let jwk = Jwk::deserialize(value).map_err(|_| "it is not a JWK")?;
        let common = &jwk.common;
        if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return Err("it is not for signatures");
        }
        let may_verify =
            |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
        if !common.key_operations.as_ref().is_none_or(may_verify) {
            return Err("it is not for verifying");
        }
        let only = match common.key_algorithm {
            None => None,
            Some(named) => {
                let known = Alg::ALL.into_iter().find(|alg| alg.name() == named.to_string());
                Some(known.ok_or("it is for an algorithm that is not used here")?)
            }
        };
        let kid = common.key_id.clone().ok_or("it has no key id")?;
        Self::from_parameters(Some(kid), only, &jwk.algorithm)
    }

    fn from_parameters(
        kid: Option<String>,
        only: Option<Alg>,
        parameters: &AlgorithmParameters,
    ) -> Result<Self, &'static str> {
        let (family, public, decoding) = match parameters {
            AlgorithmParameters::RSA(rsa) => {
                let (n, e) = (unsigned(&rsa.n)?, unsigned(&rsa.e)?);
                check_rsa(&n, &e)?;
                let decoding = DecodingKey::from_rsa_raw_components(&n, &e);
                (Family::Rsa, vec![n, e], decoding)
            }
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                let (x, y) = (decode(&ec.x)?, decode(&ec.y)?);
                // RFC 7518, section 6.2.1.2: each has 32 bytes. aws-lc takes 65 for a point and no other
                // number, so that `y` has the right length where `x` has.
                if x.len() != P256_COORDINATE_BYTES {
                    return Err("it is no point of P-256");
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
                    .map_err(|_| "it is no point of P-256")?;
                (Family::P256, vec![x, y], DecodingKey::from_ec_der(&point))
            }
            AlgorithmParameters::OctetKeyPair(ed) if ed.curve == EllipticCurve::Ed25519 => {
                let x = decode(&ed.x)?;
                // RFC 8037, section 2. aws-lc takes a key wrapped in DER as well.
                if x.len() != ED25519_KEY_BYTES {
                    return Err("it is no Ed25519 key");
                }
                ParsedPublicKey::new(&ED25519, &x).map_err(|_| "it is no Ed25519 key")?;
                let decoding = DecodingKey::from_ed_der(&x);
                (Family::Ed25519, vec![x], decoding)
            }
            // Among them `oct`: a shared secret in a public document.
            _ => return Err("it is of a kind that is not used here"),
        };
        if only.is_some_and(|alg| alg.family() != family) {
            return Err("its algorithm is not one for its kind of key");
        }
        Ok(Self { kid, family, only, public, decoding })
    }

    fn suits(&self, kid: &str, alg: Alg) -> bool {
        self.kid.as_deref().is_none_or(|own| own == kid)
            && self.family == alg.family()
            && self.only.is_none_or(|only| only == alg)
    }
}

/// The keys of one issuer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    pub(super) const fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads a JWK set (RFC 7517, section 5). A key that is of no use here is left out and spoils
    /// nothing; a set without any useful key is an error.
    pub(super) fn from_jwks(body: &[u8]) -> Result<Self, (Reason, String)> {
        let invalid = |what: &str| (Reason::JwkRemoteInvalid, what.to_owned());
        let body: Value = serde_json::from_slice(body).map_err(|_| invalid("it is not JSON"))?;
        let Some(listed) = body.get("keys").and_then(Value::as_array) else {
            return Err(invalid("it has no list of keys"));
        };
        if listed.len() > KEYS_MAX {
            return Err(invalid("it lists more than 64 keys"));
        }
        let mut keys = Vec::new();
        let mut left_out = Vec::new();
        for value in listed {
            match Key::from_jwk(value) {
                Ok(key) => keys.push(key),
                Err(why) => left_out.push(why),
            }
        }
        if keys.is_empty() {
            let why = left_out.first().map_or_else(String::new, |why| format!(" (a key: {why})"));
            return Err((Reason::JwkRemoteMissing, format!("it lists no key of use{why}")));
        }
        // In an order of our own: an issuer that shuffles its list has not changed its keys.
        let place = |key: &Key| (key.kid.clone(), key.public.clone(), key.only.map(Alg::name));
        keys.sort_by_cached_key(place);
        Ok(Self(keys))
    }

    /// Whether a key of this set made `signature` over `signed`.
    pub(super) fn verify(
        &self,
        kid: &str,
        alg: Alg,
        signed: &str,
        signature: &str,
    ) -> Result<(), Reason> {
        install_provider();
        let mut reason = Reason::JwkKidMismatch;
        for key in self.0.iter().filter(|key| key.suits(kid, alg)) {
            let verified = jsonwebtoken::crypto::verify(
                signature,
                signed.as_bytes(),
                &key.decoding,
                alg.jsonwebtoken(),
            );
            if verified.unwrap_or(false) {
                return Ok(());
            }
            reason = Reason::TokenInvalidSignature;
        }
        Err(reason)
    }
}

/// Makes `jsonwebtoken` use aws-lc. It panics at its first use when it is built with two providers
/// and told of none.
pub(super) fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The error is that one is installed, which is all that is wanted.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    });
}

fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), &'static str> {
    let leading = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&(n.len() * 8 - leading)) {
        return Err("it is not an RSA key of 2048 to 8192 bits");
    }
    let broken = "it is no RSA key";
    let der = RsaPublicKeyComponents { n, e }.as_der().map_err(|_| broken)?;
    // Reading it back is what checks that the two numbers can be a key.
    aws_lc_rs::rsa::PublicKey::from_der(der.as_ref()).map_err(|_| broken)?;
    Ok(())
}

/// A number in base64url. Some issuers write a leading zero byte, which RFC 7518 forbids and which
/// changes nothing.
fn unsigned(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = decode(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes[zeros..].to_vec())
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode_to_vec(text).map_err(|_| "it is not base64url")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{KeySet, URL_SAFE_NO_PAD};

    const X: &str = "eBUWTJZXNmCWb4qrGD4Bxv3LojiSLmQBoj1Hh77lKDI";
    const Y: &str = "MUXHqlsflTtqwwBK0NoHdb6vuONi0Q1SRbBprjB-ouQ";

    fn read(keys: &[Value]) -> Option<KeySet> {
        KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes()).ok()
    }

    fn point(x: &str, y: &str) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "kid": "a", "x": x, "y": y })
    }

    #[test]
    fn a_list_in_another_order_has_the_same_keys() {
        let any = point(X, Y);
        let mut only = any.clone();
        only["alg"] = json!("ES256");
        let keys = read(&[any.clone(), only.clone()]);
        assert!(keys.is_some());
        assert_eq!(keys, read(&[only, any]));
    }

    #[test]
    fn a_point_has_two_halves_of_the_length_that_rfc_7518_gives() {
        assert!(read(&[point(X, Y)]).is_some());
        // The same 64 bytes, with the last one of `x` at the beginning of `y`.
        let (x, y) = (
            "eBUWTJZXNmCWb4qrGD4Bxv3LojiSLmQBoj1Hh77lKA",
            "MjFFx6pbH5U7asMAStDaB3W-r7jjYtENUkWwaa4wfqLk",
        );
        assert_eq!(read(&[point(x, y)]), None);
        assert_eq!(read(&[point(X, y)]), None);
        assert_eq!(read(&[point(x, Y)]), None);
        let half = URL_SAFE_NO_PAD.decode_to_vec(Y).expect("base64url");
        assert_eq!(read(&[point(X, &URL_SAFE_NO_PAD.encode_to_string(&half[..31]))]), None);
    }

    #[test]
    fn a_key_is_on_the_curve_that_it_names() {
        let ed25519 = |curve: &str| {
            json!({ "kty": "OKP", "crv": curve, "kid": "a",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
        };
        assert!(read(&[ed25519("Ed25519")]).is_some());
        for curve in ["P-256", "P-384", "Ed448", "X25519"] {
            assert_eq!(read(&[ed25519(curve)]), None, "{curve}");
        }
        let mut wrapped = ed25519("Ed25519");
        wrapped["x"] = json!("MCowBQYDK2VwAyEA11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(read(&[wrapped]), None, "a key in DER");
        for curve in ["P-384", "P-521", "Ed25519", "secp256k1"] {
            let mut key = point(X, Y);
            key["crv"] = json!(curve);
            assert_eq!(read(&[key]), None, "{curve}");
        }
    }

    #[test]
    fn the_length_of_an_rsa_key_counts_from_its_first_bit_that_is_set() {
        let rsa = |bytes: usize, first: u8| {
            let mut modulus = vec![0xff; bytes];
            modulus[0] = first;
            json!({ "kty": "RSA", "kid": "a", "e": "AQAB",
                "n": URL_SAFE_NO_PAD.encode_to_string(modulus) })
        };
        for (bytes, first, good) in [
            (256, 0x7f, false),
            (256, 0x80, true),
            (1024, 0x7f, true),
            (1024, 0xff, true),
            (1025, 0x01, false),
        ] {
            assert_eq!(read(&[rsa(bytes, first)]).is_some(), good, "{bytes} {first:#x}");
        }
    }
}
