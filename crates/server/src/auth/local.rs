//! The issuer that this server is itself: a key in the data folder that signs tokens for whoever
//! can read it.
//!
//! Not here: whether it is switched on. It is the same verifier as for OIDC, without the
//! network.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64_simd::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;
use vaultsync_protocol::Timestamp;

use super::claims::subject_is_valid;
use super::claims_oidc::OidcRules;
use super::issuer::{CLOCK_SKEW_DEFAULT, Issuer, KeysFrom, Rules};
use super::keys::{Alg, Key, KeySet, install_provider};
use super::pem;
use crate::secret_file::{self, SecretFileError};

/// `iss` of the tokens that this server makes. The name can never be resolved (RFC 6761).
pub const LOCAL_ISSUER: &str = "https://local.vaultsync.invalid";

/// `aud` of the tokens that this server makes.
pub const LOCAL_AUDIENCE: &str = "vaultsync";

const FILE: &str = "local-issuer.key";

/// Why there is no local key, or no token of it.
#[derive(Debug, thiserror::Error)]
pub enum LocalKeyError {
    /// The file could not be read or made, or others may read it.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file holds something else.
    #[error("{}: it is not an Ed25519 private key in PEM (PKCS#8)", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The user cannot be the subject of a token.
    #[error("a user's name has 1 to 255 characters, none of them a control character")]
    Subject,
    /// The token's time is not a span of whole seconds that ends before the year 10000.
    #[error("a token lasts for at least a second, and ends before the year 10000")]
    Lifetime,
    /// The token could not be signed.
    #[error("the token could not be signed")]
    Sign,
}

/// The key that the local issuer signs with.
pub struct LocalKey {
    signing: EncodingKey,
    public: Jwk,
    kid: String,
}

impl std::fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl LocalKey {
    /// The key in `local-issuer.key` in `data_dir`, made if it is not there.
    ///
    /// Of two processes that make it at once, both end up with the same one.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, LocalKeyError> {
        let path = data_dir.join(FILE);
        let pem = secret_file::load_or_create(&path, generate)?;
        install_provider();
        let not_a_key = || LocalKeyError::NotAKey { path: path.clone() };
        let signing = EncodingKey::from_ed_pem(&pem).map_err(|_| not_a_key())?;
        let public = Jwk::from_encoding_key(&signing, Algorithm::EdDSA).map_err(|_| not_a_key())?;
        let kid = public.thumbprint(ThumbprintHash::SHA256).map_err(|_| not_a_key())?;
        Ok(Self { signing, public, kid })
    }

    /// A token for `user` that is good from `now` on for `ttl`.
    pub fn mint(&self, user: &str, now: Timestamp, ttl: Duration) -> Result<String, LocalKeyError> {
        const SECONDS_MAX: i64 = 253_402_300_799;
        if !subject_is_valid(user) {
            return Err(LocalKeyError::Subject);
        }
        let iat = now.as_millis().div_euclid(1000);
        let exp = i64::try_from(ttl.as_secs())
            .ok()
            .filter(|seconds| *seconds >= 1)
            .and_then(|seconds| iat.checked_add(seconds))
            .filter(|exp| *exp <= SECONDS_MAX)
            .ok_or(LocalKeyError::Lifetime)?;
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid });
        let claims = json!({
            "iss": LOCAL_ISSUER, "aud": LOCAL_AUDIENCE, "sub": user, "iat": iat, "exp": exp,
        });
        let encode = |part: serde_json::Value| URL_SAFE_NO_PAD.encode_to_string(part.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &self.signing, Algorithm::EdDSA)
                .map_err(|_| LocalKeyError::Sign)?;
        Ok(format!("{signed}.{signature}"))
    }
}

impl Issuer {
    /// This server itself, by the key in its data folder.
    pub fn local(key: &LocalKey) -> Self {
        let mut public = key.public.clone();
        public.common.key_id = Some(key.kid.clone());
        let public = serde_json::to_value(public).expect("a JWK is JSON");
        let public = Key::from_jwk(&public).expect("an Ed25519 key of our own is of use");
        Self {
            name: LOCAL_ISSUER.into(),
            algorithms: vec![Alg::EdDsa],
            skew_millis: i64::try_from(CLOCK_SKEW_DEFAULT.as_millis()).expect("5 s fit"),
            rules: Rules::Oidc(OidcRules { audience: vec![LOCAL_AUDIENCE.to_owned()] }),
            keys: KeysFrom::Settings(KeySet::new(vec![public])),
        }
    }
}

/// A new key, in PEM.
fn generate() -> io::Result<Vec<u8>> {
    let failed = |_| io::Error::other("no key could be made");
    let pkcs8 = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1()).map_err(failed)?;
    Ok(pem::armour("PRIVATE KEY", pkcs8.as_ref()).into_bytes())
}
