//! Trusted token issuers and their rules.
//!
//! Not here: the settings of each kind of issuer (`clerk`, `oidc`, `local`).

use std::sync::Arc;
use std::time::Duration;

use vaultsync_protocol::Timestamp;

use super::LOCAL_ISSUER;
use super::claims::{Claims, VerifiedClaims};
use super::claims_clerk::ClerkRules;
use super::claims_oidc::OidcRules;
use super::fetch::KeyEndpoint;
use super::keys::{Alg, KeySet};
use super::reason::Reason;

/// Maximum of the setting for clock skew.
const CLOCK_SKEW_MAX: Duration = Duration::from_mins(1);

/// Default clock skew.
pub(super) const CLOCK_SKEW_DEFAULT: Duration = Duration::from_secs(5);

/// Invalid setting of an issuer. The message never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct IssuerError {
    setting: &'static str,
    problem: String,
}

impl IssuerError {
    pub(super) fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self { setting, problem: problem.into() }
    }

    /// Name of the setting.
    pub const fn setting(&self) -> &'static str {
        self.setting
    }

    /// What is wrong with the setting and how to fix it.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

/// Issuer whose tokens this server accepts.
#[derive(Debug)]
pub struct Issuer {
    pub(super) name: Arc<str>,
    pub(super) algorithms: Vec<Alg>,
    pub(super) skew_millis: i64,
    pub(super) rules: Rules,
    pub(super) keys: KeySource,
}

/// Rules for the tokens of an issuer.
#[derive(Debug)]
pub(super) enum Rules {
    Clerk(ClerkRules),
    Oidc(OidcRules),
}

/// Source of an issuer's keys.
#[derive(Debug)]
pub(super) enum KeySource {
    Settings(KeySet),
    Network(KeyEndpoint),
}

impl Issuer {
    /// Value of `iss` in its tokens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// URL that its keys are fetched from; `None` if the keys are in the settings.
    pub fn keys_url(&self) -> Option<&str> {
        match &self.keys {
            KeySource::Settings(_) => None,
            KeySource::Network(endpoint) => Some(endpoint.url().as_str()),
        }
    }

    /// Number of keys in the settings.
    pub const fn keys_in_settings(&self) -> usize {
        match &self.keys {
            KeySource::Settings(keys) => keys.len(),
            KeySource::Network(_) => 0,
        }
    }

    /// Checks the header before a key is selected; returns the signature algorithm.
    ///
    /// The configuration lists the accepted algorithms, and the token only selects one of them.
    pub(super) fn check_header(&self, header: &Claims) -> Result<Alg, Reason> {
        let named = header.get("alg").and_then(serde_json::Value::as_str);
        let alg = self.algorithms.iter().copied().find(|alg| Some(alg.name()) == named);
        let alg = alg.ok_or(Reason::TokenInvalidAlgorithm)?;
        match &self.rules {
            Rules::Clerk(_) => ClerkRules::check_header(header)?,
            Rules::Oidc(_) => OidcRules::check_header(header)?,
        }
        Ok(alg)
    }

    /// Checks the claims of a token whose signature has been verified.
    pub(super) fn check_claims(
        &self,
        claims: &Claims,
        now: Timestamp,
    ) -> Result<VerifiedClaims, Reason> {
        match &self.rules {
            Rules::Clerk(rules) => rules.check_claims(claims, now, self.skew_millis),
            Rules::Oidc(rules) => rules.check_claims(claims, now, self.skew_millis),
        }
    }
}

/// Validates an issuer's name, the value of `setting`.
pub(super) fn issuer_name(setting: &'static str, name: &str) -> Result<Arc<str>, IssuerError> {
    let invalid = |problem: &str| Err(IssuerError::new(setting, problem));
    let url =
        super::fetch::parse_url(name).map_err(|problem| IssuerError::new(setting, problem))?;
    if url.query().is_some() || url.fragment().is_some() {
        return invalid("it has a query or a fragment, which an issuer must not have: remove it");
    }
    // The URL parser accepts these, but the comparison with `iss` would fail.
    if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return invalid("it contains a space or a control character: remove it");
    }
    if name.trim_end_matches('/') == LOCAL_ISSUER {
        return invalid(
            "it is reserved for this server's local issuer: set the issuer of your identity provider",
        );
    }
    Ok(name.into())
}

/// Validates a clock skew; returns it in milliseconds.
pub(super) fn skew_millis(setting: &'static str, skew: Duration) -> Result<i64, IssuerError> {
    if skew > CLOCK_SKEW_MAX {
        return Err(IssuerError::new(setting, "it is longer than a minute: set at most 60000 ms"));
    }
    Ok(i64::try_from(skew.as_millis()).expect("a minute fits into an i64"))
}

/// Validates the audiences of an API.
pub(super) fn check_audience(setting: &'static str, names: &[String]) -> Result<(), IssuerError> {
    if names.iter().any(|name| name.trim().is_empty()) {
        return Err(IssuerError::new(setting, "it contains an empty name: remove it"));
    }
    Ok(())
}
