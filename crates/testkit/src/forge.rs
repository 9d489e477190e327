//! Keys and tokens, good ones and bad ones.
//!
//! Not here: verifying. A forge signs whatever it is given, since an attacker would.

use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
pub use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use serde_json::{Map, Value, json};
use vaultsync_protocol::Timestamp;

/// How many RSA keys there are to choose from. Making one takes long, so they are made once.
pub const RSA_KEYS: usize = 3;

/// A key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    signing: EncodingKey,
    /// The members of its public JWK, without `kid`.
    public: Value,
    /// The public half as X.509 DER; empty for a shared secret.
    public_der: Vec<u8>,
    /// The private half as PKCS#8 DER; empty for a shared secret.
    private_der: Vec<u8>,
}

impl SigningKey {
    /// One of [`RSA_KEYS`] RSA keys of 2048 bits, the same one at each call.
    pub fn rsa(index: usize) -> &'static Self {
        static KEYS: [OnceLock<SigningKey>; RSA_KEYS] = [const { OnceLock::new() }; RSA_KEYS];
        KEYS[index].get_or_init(Self::make_rsa)
    }

    fn make_rsa() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be made");
        let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair)
            .expect("a key can be written");
        let public_key = pair.public_key();
        let parts = RsaPublicKeyComponents::<Vec<u8>>::from(public_key);
        let public_der = public_key.as_der().expect("a key can be written");
        let pem = pem("PRIVATE KEY", private.as_ref());
        Self {
            signing: EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a good key"),
            public: json!({ "kty": "RSA", "n": base64url(&parts.n), "e": base64url(&parts.e) }),
            public_der: public_der.as_ref().to_vec(),
            private_der: private.as_ref().to_vec(),
        }
    }

    /// A new key on P-256.
    pub fn p256() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let private = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
            .expect("a key can be made");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref()).expect("a good key");
        let point = pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let public = json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) });
        Self {
            signing: EncodingKey::from_ec_der(private.as_ref()),
            public,
            public_der: pair.public_key().as_der().expect("a good key").as_ref().to_vec(),
            private_der: private.as_ref().to_vec(),
        }
    }

    /// A new Ed25519 key.
    pub fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key can be made");
        let private = pair.to_pkcs8v1().expect("a key can be written");
        let x = base64url(pair.public_key().as_ref());
        Self {
            signing: EncodingKey::from_ed_der(private.as_ref()),
            public: json!({ "kty": "OKP", "crv": "Ed25519", "x": x }),
            public_der: pair.public_key().as_der().expect("a good key").as_ref().to_vec(),
            private_der: private.as_ref().to_vec(),
        }
    }

    /// A shared secret.
    pub fn secret(secret: &[u8]) -> Self {
        Self {
            signing: EncodingKey::from_secret(secret),
            public: json!({ "kty": "oct", "k": base64url(secret) }),
            public_der: Vec::new(),
            private_der: Vec::new(),
        }
    }

    /// The public half as a JWK, and the secret itself of a shared one.
    pub fn jwk(&self, kid: &str) -> Value {
        let mut jwk = self.public.clone();
        jwk["kid"] = json!(kid);
        jwk
    }

    /// The public half as Clerk shows it: with `use` and `alg`.
    pub fn clerk_jwk(&self, kid: &str) -> Value {
        let mut jwk = self.jwk(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!("RS256");
        jwk
    }

    /// The public half in PEM (`PUBLIC KEY`).
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der)
    }

    /// The public half in base64, without the lines of PEM around it.
    pub fn public_base64(&self) -> String {
        STANDARD.encode_to_string(&self.public_der)
    }

    /// The private half in PEM (`PRIVATE KEY`).
    pub fn private_pem(&self) -> String {
        pem("PRIVATE KEY", &self.private_der)
    }

    /// A member of the public JWK, decoded: `n` is an RSA key's modulus.
    pub fn public_part(&self, name: &str) -> Vec<u8> {
        let text = self.public[name].as_str().expect("the key has that part");
        URL_SAFE_NO_PAD.decode_to_vec(text).expect("made here")
    }

    /// A token of that header and these claims.
    pub fn sign(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        self.sign_text(algorithm, &header.to_string(), &claims.to_string())
    }

    /// A token whose header and claims are these texts, JSON or not.
    pub fn sign_text(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        self.sign_parts(algorithm, &signed)
    }

    /// A token whose first two parts are `signed`, as they are.
    pub fn sign_parts(&self, algorithm: Algorithm, signed: &str) -> String {
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.signing, algorithm)
            .expect("the key suits the algorithm");
        format!("{signed}.{signature}")
    }
}

/// Forges session tokens of one Clerk instance.
#[derive(Clone)]
pub struct ClerkForge {
    /// What the tokens say in `iss`.
    pub issuer: String,
    /// The id of the key, which with Clerk is the instance's.
    pub kid: String,
    /// The key.
    pub key: SigningKey,
    /// When the tokens are made.
    pub now: Timestamp,
}

impl ClerkForge {
    /// An instance with an RSA key of its own.
    pub fn new(issuer: &str, key: &SigningKey, now: Timestamp) -> Self {
        let kid = "ins_2abcdefghijklmnopqrstuvwxyz".to_owned();
        Self { issuer: issuer.to_owned(), kid, key: key.clone(), now }
    }

    /// The header of a good token.
    pub fn header(&self) -> Map<String, Value> {
        let header = json!({
            "alg": "RS256", "typ": "JWT", "kid": self.kid, "cat": "cl_B7d4PD111AAA", "oiat": 1,
        });
        members(header)
    }

    /// The claims of a good token, good for a minute.
    pub fn claims(&self) -> Map<String, Value> {
        let now = self.now.as_millis().div_euclid(1000);
        members(json!({
            "v": 2, "iss": self.issuer, "sub": "user_2someone", "sid": "sess_2something",
            "iat": now, "nbf": now - 10, "exp": now + 60, "jti": "aaaaaaaaaaaaaaaaaaaa",
            "azp": "https://app.example.com", "fva": [1, -1], "sts": "active",
            "o": { "id": "org_2", "rol": "admin", "slg": "acme", "per": "read", "fpm": "3" },
        }))
    }

    /// A good token.
    pub fn token(&self) -> String {
        self.token_with(|_, _| {})
    }

    /// A token that differs from a good one by what `change` does to its header and its claims.
    pub fn token_with(
        &self,
        change: impl FnOnce(&mut Map<String, Value>, &mut Map<String, Value>),
    ) -> String {
        let (mut header, mut claims) = (self.header(), self.claims());
        change(&mut header, &mut claims);
        self.key.sign(Algorithm::RS256, &Value::Object(header), &Value::Object(claims))
    }
}

/// The publishable key of a Clerk instance at `host`.
pub fn publishable_key(host: &str) -> String {
    format!("pk_test_{}", STANDARD.encode_to_string(format!("{host}$")))
}

/// Bytes as a part of a token.
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode_to_string(bytes)
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => unreachable!("only called with objects"),
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let packed = STANDARD.encode_to_string(der);
    let lines: Vec<&str> = packed
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
