//! Public keys that verify tokens, and their algorithms.
//!
//! There is no type for shared secrets, so no token can request verification with one.
//!
//! Not here: sources of keys (`pem`, `fetch`, `local`) and how long they stay valid (`jwks`).

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

use super::reason::{AuthError, Reason};
use crate::quoted::quoted;

/// Maximum number of keys of one issuer.
pub(super) const KEYS_MAX: usize = 64;

/// Allowed size of an RSA modulus: at least what NIST SP 800-131A requires, and at most what is
/// still fast.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

const P256_COORDINATE_BYTES: usize = 32;
const ED25519_KEY_BYTES: usize = 32;

/// Signature algorithm that an issuer can be configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alg {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

impl Alg {
    pub(super) const ALL: [Self; 4] = [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa];

    /// Name in the header's `alg`, which is case-sensitive (RFC 7515).
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

    const fn as_jsonwebtoken(self) -> Algorithm {
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

/// Which tokens a key may verify, by the key id in their headers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum KeyId {
    /// Tokens with any key id or none: the key is from the settings.
    Any,
    /// Tokens with any key id or none, if no other key fits: its JWK has no key id.
    Unnamed,
    /// Tokens with this key id; and those without one, if no other key fits.
    Named(String),
}

/// Public key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: KeyId,
    family: Family,
    /// Only algorithm of the key, if its JWK names one.
    alg: Option<Alg>,
    /// Components of the public key, to compare keys.
    components: Vec<Vec<u8>>,
    decoding: DecodingKey,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, self.family, self.alg, &self.components)
            == (&other.id, other.family, other.alg, &other.components)
    }
}

impl Key {
    /// Creates a key that may verify tokens with any key id, or with none.
    pub(super) fn without_id(jwk: &Jwk) -> Result<Self, &'static str> {
        Self::from_parameters(KeyId::Any, None, &jwk.algorithm)
    }

    /// Parses a key of a JWK set; the error says why the key is not usable.
    pub(super) fn from_jwk(value: &Value) -> Result<Self, &'static str> {
        // Anyone who can read the set could sign with such a key.
        if value.get("d").is_some() {
            return Err("it contains its private key");
        }
        let jwk = Jwk::deserialize(value).map_err(|_| "it is not a JWK")?;
        let common = &jwk.common;
        if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return Err("its `use` is not sig");
        }
        let may_verify =
            |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
        if !common.key_operations.as_ref().is_none_or(may_verify) {
            return Err("its `key_ops` do not include verify");
        }
        let alg = match common.key_algorithm {
            None => None,
            Some(named) => {
                let alg = Alg::ALL.into_iter().find(|alg| alg.name() == named.to_string());
                Some(alg.ok_or("its algorithm is not supported")?)
            }
        };
        let kid = common.key_id.clone().filter(|kid| !kid.is_empty());
        let id = kid.map_or(KeyId::Unnamed, KeyId::Named);
        Self::from_parameters(id, alg, &jwk.algorithm)
    }

    fn from_parameters(
        id: KeyId,
        alg: Option<Alg>,
        parameters: &AlgorithmParameters,
    ) -> Result<Self, &'static str> {
        let (family, components, decoding) = match parameters {
            AlgorithmParameters::RSA(rsa) => {
                let (n, e) = (unsigned(&rsa.n)?, unsigned(&rsa.e)?);
                check_rsa(&n, &e)?;
                let decoding = DecodingKey::from_rsa_raw_components(&n, &e);
                (Family::Rsa, vec![n, e], decoding)
            }
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                let (x, y) = (decode(&ec.x)?, decode(&ec.y)?);
                // RFC 7518, section 6.2.1.2: both have 32 bytes. aws-lc accepts points of 65 bytes
                // only, so if the length of `x` is right, that of `y` is too.
                if x.len() != P256_COORDINATE_BYTES {
                    return Err("it is not a point on P-256");
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
                    .map_err(|_| "it is not a point on P-256")?;
                (Family::P256, vec![x, y], DecodingKey::from_ec_der(&point))
            }
            AlgorithmParameters::OctetKeyPair(ed) if ed.curve == EllipticCurve::Ed25519 => {
                let x = decode(&ed.x)?;
                // RFC 8037, section 2. aws-lc would also accept a DER-encoded key.
                if x.len() != ED25519_KEY_BYTES {
                    return Err("it is not an Ed25519 key");
                }
                ParsedPublicKey::new(&ED25519, &x).map_err(|_| "it is not an Ed25519 key")?;
                let decoding = DecodingKey::from_ed_der(&x);
                (Family::Ed25519, vec![x], decoding)
            }
            // Includes `oct`, a shared secret in a public document.
            _ => return Err("its key type is not supported"),
        };
        if alg.is_some_and(|alg| alg.family() != family) {
            return Err("its algorithm does not match its key type");
        }
        Ok(Self { id, family, alg, components, decoding })
    }

    /// Whether the key can verify signatures of this algorithm.
    fn fits(&self, alg: Alg) -> bool {
        self.family == alg.family() && self.alg.is_none_or(|own| own == alg)
    }

    /// Whether the key is the one that a token with this key id names.
    fn is_named_by(&self, kid: Option<&str>) -> bool {
        match &self.id {
            KeyId::Any => true,
            KeyId::Unnamed => false,
            KeyId::Named(own) => kid == Some(own),
        }
    }
}

/// Why no key of a set verified a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VerifyError {
    /// No key fits the token's key id and algorithm.
    NoKey,
    /// The token names no key, or the keys have no ids, and this number of keys fit.
    SeveralKeys(usize),
    /// The signature is not valid.
    Signature,
}

impl VerifyError {
    /// Whether a signature was checked.
    pub(super) const fn is_about_the_signature(self) -> bool {
        matches!(self, Self::Signature)
    }

    /// The error of a token with this key id and algorithm.
    pub(super) fn of_token(self, kid: Option<&str>, alg: Alg) -> AuthError {
        let kid = kid.map_or_else(|| "no kid".to_owned(), |kid| format!("the kid {}", quoted(kid)));
        let alg = alg.name();
        match self {
            Self::NoKey => AuthError::unverified(Reason::JwkKidMismatch).with_detail(format!(
                "the token has {kid}, and no key of the issuer fits it and {alg}"
            )),
            Self::SeveralKeys(count) => {
                AuthError::unverified(Reason::JwkKidMismatch).with_detail(format!(
                    "the token has {kid}, and {count} keys of the issuer fit {alg}: \
                     the issuer must name its keys with kid"
                ))
            }
            Self::Signature => AuthError::unverified(Reason::TokenInvalidSignature),
        }
    }
}

/// Keys of one issuer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    pub(super) const fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Parses a JWK set (RFC 7517, section 5). Skips keys that are not usable; a set without usable
    /// keys is an error.
    pub(super) fn from_jwks(body: &[u8]) -> Result<Self, (Reason, String)> {
        let invalid = |problem: &str| (Reason::JwkRemoteInvalid, problem.to_owned());
        let body: Value =
            serde_json::from_slice(body).map_err(|_| invalid("the key set is not JSON"))?;
        let Some(listed) = body.get("keys").and_then(Value::as_array) else {
            return Err(invalid("the key set has no `keys` array"));
        };
        if listed.len() > KEYS_MAX {
            return Err(invalid("the key set has more than 64 keys"));
        }
        let mut keys = Vec::new();
        let mut skipped = Vec::new();
        for value in listed {
            match Key::from_jwk(value) {
                Ok(key) => keys.push(key),
                Err(problem) => skipped.push(problem),
            }
        }
        if keys.is_empty() {
            let first = skipped.first().map(|problem| format!(" (first key: {problem})"));
            let detail = format!("the key set has no usable key{}", first.unwrap_or_default());
            return Err((Reason::JwkRemoteMissing, detail));
        }
        // Sorted, so that a set in another order compares equal.
        keys.sort_by_cached_key(|key| {
            (key.id.clone(), key.components.clone(), key.alg.map(Alg::name))
        });
        Ok(Self(keys))
    }

    /// Verifies that a key of this set signed `signed`.
    pub(super) fn verify(
        &self,
        kid: Option<&str>,
        alg: Alg,
        signed: &str,
        signature: &str,
    ) -> Result<(), VerifyError> {
        install_provider();
        for key in self.candidates(kid, alg)? {
            let verified = jsonwebtoken::crypto::verify(
                signature,
                signed.as_bytes(),
                &key.decoding,
                alg.as_jsonwebtoken(),
            );
            if verified.unwrap_or(false) {
                return Ok(());
            }
        }
        Err(VerifyError::Signature)
    }

    /// Returns the keys that may have signed a token, at least one: those that it names, or the only
    /// one that fits if it names none.
    ///
    /// Key ids are optional (RFC 7515, section 4.1.4; RFC 7517, section 4.5), and some issuers with
    /// one key leave them out. With several keys, trying each would let a token choose.
    fn candidates(&self, kid: Option<&str>, alg: Alg) -> Result<Vec<&Key>, VerifyError> {
        let fitting = || self.0.iter().filter(move |key| key.fits(alg));
        let named: Vec<&Key> = fitting().filter(|key| key.is_named_by(kid)).collect();
        if !named.is_empty() {
            return Ok(named);
        }
        let mut possible: Vec<&Key> =
            fitting().filter(|key| kid.is_none() || key.id == KeyId::Unnamed).collect();
        // A set may list the same key twice, for example with and without `alg`.
        possible.sort_by(|one, other| one.components.cmp(&other.components));
        possible.dedup_by(|one, other| one.components == other.components);
        match possible.len() {
            0 => Err(VerifyError::NoKey),
            1 => Ok(possible),
            count => Err(VerifyError::SeveralKeys(count)),
        }
    }
}

/// Selects aws-lc as the crypto provider of `jsonwebtoken`, which panics at its first use if it is
/// built with two providers and none is selected.
pub(super) fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only if a provider is installed already, which is fine.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    });
}

fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), &'static str> {
    let leading = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&(n.len() * 8 - leading)) {
        return Err("it is not an RSA key of 2048 to 8192 bits");
    }
    let invalid = "it is not a valid RSA key";
    let der = RsaPublicKeyComponents { n, e }.as_der().map_err(|_| invalid)?;
    // Parsing the DER checks that the two numbers form a key.
    aws_lc_rs::rsa::PublicKey::from_der(der.as_ref()).map_err(|_| invalid)?;
    Ok(())
}

/// Decodes a number in base64url. Strips leading zero bytes: RFC 7518 forbids them, but some
/// issuers write them.
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

    fn parse(keys: &[Value]) -> Option<KeySet> {
        KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes()).ok()
    }

    fn point(x: &str, y: &str) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "kid": "a", "x": x, "y": y })
    }

    #[test]
    fn the_order_of_a_key_set_does_not_matter() {
        let without_alg = point(X, Y);
        let mut with_alg = without_alg.clone();
        with_alg["alg"] = json!("ES256");
        let keys = parse(&[without_alg.clone(), with_alg.clone()]);
        assert!(keys.is_some());
        assert_eq!(keys, parse(&[with_alg, without_alg]));
    }

    #[test]
    fn both_coordinates_of_a_point_have_the_length_of_rfc_7518() {
        assert!(parse(&[point(X, Y)]).is_some());
        // The same 64 bytes, with the last byte of `x` moved to the beginning of `y`.
        let (x, y) = (
            "eBUWTJZXNmCWb4qrGD4Bxv3LojiSLmQBoj1Hh77lKA",
            "MjFFx6pbH5U7asMAStDaB3W-r7jjYtENUkWwaa4wfqLk",
        );
        assert_eq!(parse(&[point(x, y)]), None);
        assert_eq!(parse(&[point(X, y)]), None);
        assert_eq!(parse(&[point(x, Y)]), None);
        let half = URL_SAFE_NO_PAD.decode_to_vec(Y).expect("base64url");
        assert_eq!(parse(&[point(X, &URL_SAFE_NO_PAD.encode_to_string(&half[..31]))]), None);
    }

    #[test]
    fn a_key_must_be_on_the_curve_that_it_names() {
        let ed25519 = |curve: &str| {
            json!({ "kty": "OKP", "crv": curve, "kid": "a",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
        };
        assert!(parse(&[ed25519("Ed25519")]).is_some());
        for curve in ["P-256", "P-384", "Ed448", "X25519"] {
            assert_eq!(parse(&[ed25519(curve)]), None, "{curve}");
        }
        let mut wrapped = ed25519("Ed25519");
        wrapped["x"] = json!("MCowBQYDK2VwAyEA11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(parse(&[wrapped]), None, "a key in DER");
        for curve in ["P-384", "P-521", "Ed25519", "secp256k1"] {
            let mut key = point(X, Y);
            key["crv"] = json!(curve);
            assert_eq!(parse(&[key]), None, "{curve}");
        }
    }

    #[test]
    fn the_length_of_an_rsa_key_counts_from_its_first_set_bit() {
        let rsa = |bytes: usize, first: u8| {
            let mut modulus = vec![0xff; bytes];
            modulus[0] = first;
            json!({ "kty": "RSA", "kid": "a", "e": "AQAB",
                "n": URL_SAFE_NO_PAD.encode_to_string(modulus) })
        };
        for (bytes, first, valid) in [
            (256, 0x7f, false),
            (256, 0x80, true),
            (1024, 0x7f, true),
            (1024, 0xff, true),
            (1025, 0x01, false),
        ] {
            assert_eq!(parse(&[rsa(bytes, first)]).is_some(), valid, "{bytes} {first:#x}");
        }
    }
}
