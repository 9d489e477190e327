//! The issuer that this server is itself: a key in the data folder that signs tokens for whoever
//! can read it.
//!
//! Not here: whether it is switched on. It is the same verifier as for OIDC, without the
//! network.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64_simd::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;
use uuid::Uuid;
use vaultsync_protocol::Timestamp;

use super::claims::subject_is_valid;
use super::claims_oidc::OidcRules;
use super::issuer::{CLOCK_SKEW_DEFAULT, Issuer, KeysFrom, Rules};
use super::keys::{Alg, Key, KeySet, install_provider};
use super::pem;

/// `iss` of the tokens that this server makes. The name can never be resolved (RFC 6761).
pub const LOCAL_ISSUER: &str = "https://local.vaultsync.invalid";

/// `aud` of the tokens that this server makes.
pub const LOCAL_AUDIENCE: &str = "vaultsync";

const FILE: &str = "local-issuer.key";

/// More than any key takes, so that a wrong file is not read whole.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Why there is no local key, or no token of it.
#[derive(Debug, thiserror::Error)]
pub enum LocalKeyError {
    /// The file could not be read or made.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Others may read the key, and so sign in as anybody.
    #[error(
        "{}: others than its owner may use it (mode {mode:03o}): make it 600, and delete it if \
         somebody may have read it",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{}: it is not an Ed25519 private key in PEM (PKCS#8)", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// No key could be made.
    #[error("no key could be made")]
    Generate,
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
        let io_error = |error| LocalKeyError::Io { path: path.clone(), error };
        match File::open(&path) {
            Ok(file) => Self::read(&path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(data_dir, &path)?;
                Self::read(&path, File::open(&path).map_err(io_error)?)
            }
            Err(error) => Err(io_error(error)),
        }
    }

    fn read(path: &Path, file: File) -> Result<Self, LocalKeyError> {
        let io_error = |error| LocalKeyError::Io { path: path.to_owned(), error };
        let not_a_key = || LocalKeyError::NotAKey { path: path.to_owned() };
        // Asked of the open file: a path could lead elsewhere by now.
        refuse_exposed(path, &file.metadata().map_err(io_error)?)?;
        let mut pem = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut pem).map_err(io_error)?;
        install_provider();
        let signing = EncodingKey::from_ed_pem(pem.as_bytes()).map_err(|_| not_a_key())?;
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

/// Makes the file with a new key in it, unless somebody else is first.
///
/// It is written under another name and then linked: the name appears with all of its content, and
/// linking, unlike renaming, never replaces what is there.
fn create(data_dir: &Path, path: &Path) -> Result<(), LocalKeyError> {
    let key = Ed25519KeyPair::generate().map_err(|_| LocalKeyError::Generate)?;
    let pkcs8 = key.to_pkcs8v1().map_err(|_| LocalKeyError::Generate)?;
    let text = pem::armour("PRIVATE KEY", pkcs8.as_ref());
    let draft = data_dir.join(format!(".{FILE}.{}", Uuid::new_v4()));

    let written = write_private(&draft, text.as_bytes());
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    // Whatever came of it, the draft has done its work.
    let removed = fs::remove_file(&draft);
    linked
        .and(removed)
        .and_then(|()| sync_folder(data_dir))
        .map_err(|error| LocalKeyError::Io { path: path.to_owned(), error })
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, metadata: &fs::Metadata) -> Result<(), LocalKeyError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    if mode.trailing_zeros() >= 6 {
        return Ok(());
    }
    Err(LocalKeyError::Exposed { path: path.to_owned(), mode })
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &fs::Metadata) -> Result<(), LocalKeyError> {
    Ok(())
}
