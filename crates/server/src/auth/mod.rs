//! Who is calling: bearer tokens and the keys that verify them.
//!
//! Not here: HTTP answers, rate limits, what a user may do. A user is `(issuer, subject)`, so that
//! one issuer can never name another one's users.

mod bearer;
mod claims;
mod claims_clerk;
mod claims_oidc;
mod clerk;
mod fetch;
#[doc(hidden)]
pub mod fuzzed;
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

use crate::Clock;
use issuer::KeysFrom;
use jwks::{CachedKeys, Jwks};
use keys::{Alg, KeySet};
use token::Token;
use token_cache::{CachedToken, Fingerprint, TokenCache};

/// A caller who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who says so.
    pub issuer: Arc<str>,
    /// Whom the issuer calls so: 1 to 255 characters.
    pub subject: Arc<str>,
    /// The token's `exp`. The request may run on after it, an event stream for a while; the next
    /// one needs a new token.
    pub expires_at: Timestamp,
}

/// Tells from a request's headers who is calling. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Shared>);

struct Shared {
    issuers: Vec<Configured>,
    token_bytes_max: usize,
    clock: Arc<dyn Clock>,
    token_cache: TokenCache,
    signatures_checked: AtomicU64,
}

/// An issuer and the keys of it that are at hand.
struct Configured {
    issuer: Issuer,
    keys: Keys,
}

enum Keys {
    Fixed(Arc<CachedKeys>),
    Fetched(Arc<Jwks>),
}

impl Keys {
    async fn current(&self) -> Result<Arc<CachedKeys>, AuthError> {
        match self {
            Self::Fixed(held) => Ok(Arc::clone(held)),
            Self::Fetched(jwks) => jwks.current().await,
        }
    }

    async fn refetch(&self, seen: &Arc<CachedKeys>) -> Option<Arc<CachedKeys>> {
        match self {
            Self::Fixed(_) => None,
            Self::Fetched(jwks) => jwks.refetch(seen).await,
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
    /// Takes the tokens of `issuers`, none of them longer than `token_bytes_max`. Where two of them
    /// have the same name, the first one counts.
    pub fn new(issuers: Vec<Issuer>, token_bytes_max: usize, clock: Arc<dyn Clock>) -> Self {
        let configure = |issuer: Issuer| {
            let keys = match &issuer.keys {
                KeysFrom::Settings(keys) => Keys::Fixed(CachedKeys::fixed(keys.clone())),
                KeysFrom::Network(source) => Keys::Fetched(Jwks::new(
                    Arc::clone(&issuer.name),
                    source.clone(),
                    Arc::clone(&clock),
                )),
            };
            Configured { issuer, keys }
        };
        Self(Arc::new(Shared {
            issuers: issuers.into_iter().map(configure).collect(),
            token_bytes_max,
            clock,
            token_cache: TokenCache::new(),
            signatures_checked: AtomicU64::new(0),
        }))
    }

    /// Who sent these headers.
    ///
    /// Only `Authorization: Bearer` counts, once, with one token; nothing else is tried when it
    /// fails.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        let text = bearer::token(headers, self.0.token_bytes_max).map_err(AuthError::unverified)?;
        let fingerprint = TokenCache::fingerprint(text);
        if let Some(signed_in) = self.recall(&fingerprint).await? {
            return Ok(signed_in);
        }
        self.verify(text, fingerprint).await
    }

    /// Whether there are keys of every issuer; else one line for each that has none.
    ///
    /// Fetches those that were never fetched, as often as a request might.
    pub async fn ready(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for Configured { issuer, keys } in &self.0.issuers {
            if let Err(refusal) = keys.current().await {
                let trouble = match keys {
                    Keys::Fixed(_) => None,
                    Keys::Fetched(jwks) => jwks.trouble(),
                };
                let trouble = trouble.unwrap_or_else(|| refusal.to_string());
                problems.push(format!("no keys of {}: {trouble}", issuer.name()));
            }
        }
        if self.0.issuers.is_empty() {
            problems.push("no issuer is configured".to_owned());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// How many signatures have been checked: what remembering tokens is to keep low.
    pub fn signatures_checked(&self) -> u64 {
        self.0.signatures_checked.load(Ordering::Relaxed)
    }

    /// The caller of a token that was verified a moment ago, if that still holds.
    ///
    /// Its issuer's keys are asked for nevertheless: traffic that is all remembered must notice
    /// too when a key is withdrawn.
    async fn recall(&self, fingerprint: &Fingerprint) -> Result<Option<Principal>, AuthError> {
        let Some(known) = self.0.token_cache.get(fingerprint) else {
            return Ok(None);
        };
        let held = self.0.issuers[known.issuer].keys.current().await?;
        let holds = known.holds(held.generation, self.0.clock.now(), self.0.clock.uptime());
        Ok(holds.then_some(known.signed_in))
    }

    /// The header chooses among configured keys, then the signature, then the claims: who cannot
    /// sign learns nothing about how this server is configured.
    async fn verify(&self, text: &str, fingerprint: Fingerprint) -> Result<Principal, AuthError> {
        let token = Token::parse(text).map_err(AuthError::unverified)?;
        let (index, Configured { issuer, keys }) = self
            .0
            .issuers
            .iter()
            .enumerate()
            .find(|(_, configured)| token.issuer() == Some(configured.issuer.name()))
            .ok_or(AuthError::unverified(Reason::TokenInvalidIssuer))?;
        let alg = issuer.judge_header(&token.header).map_err(AuthError::unverified)?;
        let generation = self.verify_signature(&token, alg, keys).await?;

        let now = self.0.clock.now();
        let accepted = issuer.judge(&token.claims, now).map_err(AuthError::verified)?;
        let signed_in = Principal {
            issuer: Arc::clone(&issuer.name),
            subject: accepted.subject,
            expires_at: accepted.expires_at,
        };
        let known = CachedToken {
            signed_in: signed_in.clone(),
            issuer: index,
            generation,
            verified_at: self.0.clock.uptime(),
        };
        self.0.token_cache.insert(fingerprint, known);
        Ok(signed_in)
    }

    /// The generation of the keys that verify the token.
    ///
    /// An unknown key id and a bad signature may both mean that the issuer has new keys: a key can
    /// be replaced under its old id. So the keys are fetched again, as often as that is allowed.
    async fn verify_signature(
        &self,
        token: &Token<'_>,
        alg: Alg,
        keys: &Keys,
    ) -> Result<u64, AuthError> {
        let kid = token.kid().map_err(AuthError::unverified)?;
        let check = |keys: &KeySet| {
            let verdict = keys.verify(kid, alg, token.signed, token.signature);
            // Without a key there was nothing to check it with.
            if verdict != Err(Reason::JwkKidMismatch) {
                self.0.signatures_checked.fetch_add(1, Ordering::Relaxed);
            }
            verdict
        };
        let mut held = keys.current().await?;
        let mut verdict = check(&held.keys);
        // Ends because each turn takes a later fetch, and those are rationed.
        while let Err(reason) = verdict {
            let newer = keys.refetch(&held).await.ok_or(AuthError::unverified(reason))?;
            if newer.generation != held.generation {
                verdict = check(&newer.keys);
            }
            held = newer;
        }
        Ok(held.generation)
    }
}
