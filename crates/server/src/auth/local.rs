//! The server's own issuer: a key in the data folder signs tokens for anyone who can read the key.
//!
//! Its tokens are verified by the OIDC rules, without the network.
//!
//! Not here: whether the issuer is enabled.

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
use super::issuer::{CLOCK_SKEW_DEFAULT, Issuer, KeySource, Rules};
use super::keys::{Alg, Key, KeySet, install_provider};
use super::pem;
use crate::secret_file::{self, Access, SecretFileError};

/// `iss` of locally issued tokens. The host name never resolves (RFC 6761).
pub const LOCAL_ISSUER: &str = "https://local.vaultsync.invalid";

/// `aud` of locally issued tokens.
pub const LOCAL_AUDIENCE: &str = "vaultsync";

const FILE: &str = "local-issuer.key";

/// Failure to load or create the local key, or to mint a token.
#[derive(Debug, thiserror::Error)]
pub enum LocalKeyError {
    /// The file cannot be read or created, or users other than its owner may read it.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file does not contain a key.
    #[error(
        "{}: not an Ed25519 private key in PEM (PKCS#8): restore the file, or delete it to create a new \
         key, which invalidates all local tokens",
        path.display()
    )]
    NotAKey {
        /// Path of the file.
        path: PathBuf,
    },
    /// The user's name is not valid as the subject of a token.
    #[error("a user name must have 1 to 255 characters and no control characters")]
    Subject,
    /// The token's lifetime is shorter than a second or ends after the year 9999.
    #[error("a token must be valid for at least a second and expire before the year 10000")]
    Lifetime,
    /// Signing failed.
    #[error("cannot sign the token")]
    Sign,
}

/// Signing key of the local issuer.
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
    /// Loads the key from `local-issuer.key` in `data_dir`, or creates it if the file does not
    /// exist.
    ///
    /// Processes that create it at the same time all get the same key.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, LocalKeyError> {
        let path = data_dir.join(FILE);
        let pem = secret_file::load_or_create(&path, Access::Owner, generate)?;
        install_provider();
        let not_a_key = || LocalKeyError::NotAKey { path: path.clone() };
        let signing = EncodingKey::from_ed_pem(&pem).map_err(|_| not_a_key())?;
        let public = Jwk::from_encoding_key(&signing, Algorithm::EdDSA).map_err(|_| not_a_key())?;
        let kid = public.thumbprint(ThumbprintHash::SHA256).map_err(|_| not_a_key())?;
        Ok(Self { signing, public, kid })
    }

    /// Mints a token for `user` that is valid from `now` for `ttl`.
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
    /// Creates the issuer of this server's own tokens.
    pub fn local(key: &LocalKey) -> Self {
        let mut public = key.public.clone();
        public.common.key_id = Some(key.kid.clone());
        let public = serde_json::to_value(public).expect("a JWK serializes to JSON");
        let public = Key::from_jwk(&public).expect("the public half of an Ed25519 key is usable");
        Self {
            name: LOCAL_ISSUER.into(),
            algorithms: vec![Alg::EdDsa],
            skew_millis: i64::try_from(CLOCK_SKEW_DEFAULT.as_millis())
                .expect("5 s fit into an i64"),
            rules: Rules::Oidc(OidcRules { audience: vec![LOCAL_AUDIENCE.to_owned()] }),
            keys: KeySource::Settings(KeySet::new(vec![public])),
        }
    }
}

/// Generates a key in PEM.
fn generate() -> io::Result<Vec<u8>> {
    let failed = |_| io::Error::other("cannot generate a key");
    let pkcs8 = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1()).map_err(failed)?;
    Ok(pem::encode("PRIVATE KEY", pkcs8.as_ref()).into_bytes())
}
