//! Authentication: bearer tokens and the keys that verify them.
//!
//! A user is `(issuer, subject)`, so that no issuer can name the users of another.
//!
//! Not here: HTTP responses, rate limits, what a user may do.

mod bearer;
mod claims;
mod claims_clerk;
mod claims_oidc;
mod clerk;
mod fetch;
#[doc(hidden)]
pub mod fuzzing;
mod issuer;
mod jwks;
mod keys;
mod local;
mod oidc;
mod pem;
mod reason;
mod strict_json;
mod token;
mod token_cache;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use vaultsync_protocol::Timestamp;

pub use clerk::ClerkOptions;
pub use issuer::{Issuer, IssuerError};
pub use local::{LOCAL_AUDIENCE, LOCAL_ISSUER, LocalKey, LocalKeyError};
pub use oidc::OidcOptions;
pub use reason::{AuthError, Outcome, Reason};

use crate::{Clock, quoted::quoted};
use issuer::KeySource;
use jwks::{CachedKeys, JwksCache};
use keys::{Alg, KeySet, VerifyError};
use token::Token;
use token_cache::{CachedToken, Fingerprint, TokenCache};

/// Authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Issuer of the token.
    pub issuer: Arc<str>,
    /// The issuer's name for the user, 1 to 255 characters.
    pub subject: Arc<str>,
    /// The token's `exp`. The current request may outlast it, an event stream for a while; the next
    /// request needs a new token.
    pub expires_at: Timestamp,
}

/// Authenticates requests by their headers. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Shared>);

struct Shared {
    issuers: Vec<ConfiguredIssuer>,
    token_bytes_max: usize,
    clock: Arc<dyn Clock>,
    token_cache: TokenCache,
    signatures_checked: AtomicU64,
}

struct ConfiguredIssuer {
    issuer: Issuer,
    keys: IssuerKeys,
}

enum IssuerKeys {
    Static(Arc<CachedKeys>),
    Fetched(Arc<JwksCache>),
}

impl IssuerKeys {
    async fn current(&self) -> Result<Arc<CachedKeys>, AuthError> {
        match self {
            Self::Static(keys) => Ok(Arc::clone(keys)),
            Self::Fetched(cache) => cache.current().await,
        }
    }

    async fn refetch(&self, stale: &Arc<CachedKeys>) -> Option<Arc<CachedKeys>> {
        match self {
            Self::Static(_) => None,
            Self::Fetched(cache) => cache.refetch(stale).await,
        }
    }

    fn last_fetch_error(&self) -> Option<String> {
        match self {
            Self::Static(_) => None,
            Self::Fetched(cache) => cache.last_error(),
        }
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let issuers = self.0.issuers.iter().map(|configured| configured.issuer.name());
        f.debug_list().entries(issuers).finish()
    }
}

impl Authenticator {
    /// Creates an authenticator that accepts tokens of `issuers` of at most `token_bytes_max`
    /// bytes. If two issuers have the same name, the first one is used.
    pub fn new(issuers: Vec<Issuer>, token_bytes_max: usize, clock: Arc<dyn Clock>) -> Self {
        let configure = |issuer: Issuer| {
            let keys = match &issuer.keys {
                KeySource::Settings(keys) => {
                    IssuerKeys::Static(CachedKeys::from_settings(keys.clone()))
                }
                KeySource::Network(endpoint) => IssuerKeys::Fetched(JwksCache::new(
                    Arc::clone(&issuer.name),
                    endpoint.clone(),
                    Arc::clone(&clock),
                )),
            };
            ConfiguredIssuer { issuer, keys }
        };
        Self(Arc::new(Shared {
            issuers: issuers.into_iter().map(configure).collect(),
            token_bytes_max,
            clock,
            token_cache: TokenCache::new(),
            signatures_checked: AtomicU64::new(0),
        }))
    }

    /// Authenticates the sender of these headers.
    ///
    /// Accepts one `Authorization: Bearer` header with one token; no other credentials are tried if
    /// it fails.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        let text = bearer::token(headers, self.0.token_bytes_max)?;
        let fingerprint = TokenCache::fingerprint(text);
        if let Some(principal) = self.cached_principal(&fingerprint).await? {
            return Ok(principal);
        }
        self.verify(text, fingerprint).await
    }

    /// Checks that the keys of every issuer are available; otherwise returns one line for each
    /// issuer without keys.
    ///
    /// Fetches keys that were never fetched, as often as a request would.
    pub async fn ready(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for ConfiguredIssuer { issuer, keys } in &self.0.issuers {
            if let Err(error) = keys.current().await {
                let detail = keys.last_fetch_error().unwrap_or_else(|| error.to_string());
                problems.push(format!("no keys from issuer {}: {detail}", issuer.name()));
            }
        }
        if self.0.issuers.is_empty() {
            problems.push("no issuer is configured".to_owned());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Number of signatures checked so far, which the token cache keeps low.
    pub fn signatures_checked(&self) -> u64 {
        self.0.signatures_checked.load(Ordering::Relaxed)
    }

    /// Returns the principal of a recently verified token, if the result is still valid.
    ///
    /// Requests the issuer's keys even so: otherwise traffic that is served from the cache alone
    /// would never notice that a key was withdrawn.
    async fn cached_principal(
        &self,
        fingerprint: &Fingerprint,
    ) -> Result<Option<Principal>, AuthError> {
        let Some(cached) = self.0.token_cache.get(fingerprint) else {
            return Ok(None);
        };
        let keys = self.0.issuers[cached.issuer].keys.current().await?;
        let is_valid = cached.is_valid(keys.generation, self.0.clock.now(), self.0.clock.uptime());
        Ok(is_valid.then_some(cached.principal))
    }

    /// Checks the header, which selects a configured key, then the signature, then the claims: a
    /// caller without a key learns nothing about this server's configuration.
    async fn verify(&self, text: &str, fingerprint: Fingerprint) -> Result<Principal, AuthError> {
        let token = Token::parse(text).map_err(AuthError::unverified)?;
        let (index, ConfiguredIssuer { issuer, keys }) = self
            .0
            .issuers
            .iter()
            .enumerate()
            .find(|(_, configured)| token.issuer() == Some(configured.issuer.name()))
            .ok_or_else(|| self.unknown_issuer(token.issuer()))?;
        let alg = issuer.check_header(&token.header).map_err(AuthError::unverified)?;
        let generation = self.verify_signature(&token, alg, keys).await?;

        let now = self.0.clock.now();
        let claims = issuer.check_claims(&token.claims, now).map_err(AuthError::verified)?;
        let principal = Principal {
            issuer: Arc::clone(&issuer.name),
            subject: claims.subject,
            expires_at: claims.expires_at,
        };
        let cached = CachedToken {
            principal: principal.clone(),
            issuer: index,
            generation,
            verified_at: self.0.clock.uptime(),
        };
        self.0.token_cache.insert(fingerprint, cached);
        Ok(principal)
    }

    /// The error of a token of another issuer than the configured ones.
    fn unknown_issuer(&self, found: Option<&str>) -> AuthError {
        let accepted: Vec<_> =
            self.0.issuers.iter().map(|configured| quoted(configured.issuer.name())).collect();
        let accepted = accepted.join(" or ");
        let found = found.map_or_else(|| "no text".to_owned(), quoted);
        AuthError::unverified(Reason::TokenInvalidIssuer)
            .with_detail(format!("iss of the token is {found}, and this server accepts {accepted}"))
    }

    /// Verifies the signature and returns the generation of the keys that did.
    ///
    /// Both an unknown key id and a bad signature may mean that the issuer has new keys, because an
    /// issuer can replace a key without changing its id. So both refetch the keys, within the limit
    /// on fetches.
    async fn verify_signature(
        &self,
        token: &Token<'_>,
        alg: Alg,
        keys: &IssuerKeys,
    ) -> Result<u64, AuthError> {
        let kid = token.kid().map_err(AuthError::unverified)?;
        let verify = |keys: &KeySet| {
            let result = keys.verify(kid, alg, token.signed, token.signature);
            if result.err().is_none_or(VerifyError::is_about_the_signature) {
                self.0.signatures_checked.fetch_add(1, Ordering::Relaxed);
            }
            result
        };
        let mut current = keys.current().await?;
        let mut result = verify(&current.keys);
        // Terminates because each iteration needs a later fetch, and fetches are rate-limited.
        while let Err(error) = result {
            let newer = keys.refetch(&current).await.ok_or_else(|| error.of_token(kid, alg))?;
            if newer.generation != current.generation {
                result = verify(&newer.keys);
            }
            current = newer;
        }
        Ok(current.generation)
    }
}
