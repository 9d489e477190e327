//! Keys and tokens, valid and invalid.
//!
//! Not here: verification. A forge signs anything it is given, as an attacker would.

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

/// Number of RSA keys. Generating one is slow, so each is generated once per process.
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
    /// The RSA key of 2048 bits at an index below [`RSA_KEYS`], the same key at each call.
    pub fn rsa(index: usize) -> &'static Self {
        static KEYS: [OnceLock<SigningKey>; RSA_KEYS] = [const { OnceLock::new() }; RSA_KEYS];
        KEYS[index].get_or_init(Self::generate_rsa)
    }

    fn generate_rsa() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be generated");
        let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair)
            .expect("a key can be encoded");
        let public_key = pair.public_key();
        let parts = RsaPublicKeyComponents::<Vec<u8>>::from(public_key);
        let public_der = public_key.as_der().expect("a key can be encoded");
        let pem = pem("PRIVATE KEY", private.as_ref());
        Self {
            signing: EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a valid key"),
            public: json!({ "kty": "RSA", "n": base64url(&parts.n), "e": base64url(&parts.e) }),
            public_der: public_der.as_ref().to_vec(),
            private_der: private.as_ref().to_vec(),
        }
    }

    /// A new key on P-256.
    pub fn p256() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let private = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
            .expect("a key can be generated");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref()).expect("a valid key");
        let point = pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let public = json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) });
        Self {
            signing: EncodingKey::from_ec_der(private.as_ref()),
            public,
            public_der: pair.public_key().as_der().expect("a valid key").as_ref().to_vec(),
            private_der: private.as_ref().to_vec(),
        }
    }

    /// A new Ed25519 key.
    pub fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key can be generated");
        let private = pair.to_pkcs8v1().expect("a key can be encoded");
        let x = base64url(pair.public_key().as_ref());
        Self {
            signing: EncodingKey::from_ed_der(private.as_ref()),
            public: json!({ "kty": "OKP", "crv": "Ed25519", "x": x }),
            public_der: pair.public_key().as_der().expect("a valid key").as_ref().to_vec(),
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

    /// The public half as a JWK; for a shared secret, the secret itself.
    pub fn jwk(&self, kid: &str) -> Value {
        let mut jwk = self.public.clone();
        jwk["kid"] = json!(kid);
        jwk
    }

    /// The public half as Clerk publishes it: with `use` and `alg`.
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

    /// The public half in base64, without the PEM header and footer.
    pub fn public_base64(&self) -> String {
        STANDARD.encode_to_string(&self.public_der)
    }

    /// The private half in PEM (`PRIVATE KEY`).
    pub fn private_pem(&self) -> String {
        pem("PRIVATE KEY", &self.private_der)
    }

    /// A member of the public JWK, decoded: `n` is an RSA key's modulus.
    pub fn public_part(&self, name: &str) -> Vec<u8> {
        let text = self.public[name].as_str().expect("the key has that member");
        URL_SAFE_NO_PAD.decode_to_vec(text).expect("encoded by this module")
    }

    /// A token with a header and claims.
    pub fn sign(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        self.sign_text(algorithm, &header.to_string(), &claims.to_string())
    }

    /// A token whose header and claims are the given texts, which need not be JSON.
    pub fn sign_text(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        self.sign_parts(algorithm, &signed)
    }

    /// A token whose first two parts are `signed`, unchanged.
    pub fn sign_parts(&self, algorithm: Algorithm, signed: &str) -> String {
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.signing, algorithm)
            .expect("the key fits the algorithm");
        format!("{signed}.{signature}")
    }
}

/// Forges session tokens of one Clerk instance.
#[derive(Clone)]
pub struct ClerkForge {
    /// The `iss` claim of the tokens.
    pub issuer: String,
    /// The id of the key; Clerk uses the id of the instance.
    pub kid: String,
    /// The signing key.
    pub key: SigningKey,
    /// When the tokens are issued.
    pub now: Timestamp,
}

impl ClerkForge {
    /// An instance that signs with `key`.
    pub fn new(issuer: &str, key: &SigningKey, now: Timestamp) -> Self {
        let kid = "ins_2abcdefghijklmnopqrstuvwxyz".to_owned();
        Self { issuer: issuer.to_owned(), kid, key: key.clone(), now }
    }

    /// The header of a valid token.
    pub fn header(&self) -> Map<String, Value> {
        let header = json!({
            "alg": "RS256", "typ": "JWT", "kid": self.kid, "cat": "cl_B7d4PD111AAA", "oiat": 1,
        });
        members(header)
    }

    /// The claims of a token that is valid for a minute.
    pub fn claims(&self) -> Map<String, Value> {
        let now = self.now.as_millis().div_euclid(1000);
        members(json!({
            "v": 2, "iss": self.issuer, "sub": "user_2someone", "sid": "sess_2something",
            "iat": now, "nbf": now - 10, "exp": now + 60, "jti": "aaaaaaaaaaaaaaaaaaaa",
            "azp": "https://app.example.com", "fva": [1, -1], "sts": "active",
            "o": { "id": "org_2", "rol": "admin", "slg": "acme", "per": "read", "fpm": "3" },
        }))
    }

    /// A valid token.
    pub fn token(&self) -> String {
        self.token_with(|_, _| {})
    }

    /// A valid token after `change` has edited its header and claims.
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

/// Encodes bytes as a part of a token.
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
    let base64 = STANDARD.encode_to_string(der);
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
