//! Who may sign tokens for this server, and by which rules.
//!
//! Not here: reading the settings of each kind (`clerk`, `oidc`, `local`).

use std::sync::Arc;
use std::time::Duration;

use vaultsync_protocol::Timestamp;

use super::LOCAL_ISSUER;
use super::claims::{Accepted, Claims};
use super::claims_clerk::ClerkRules;
use super::claims_oidc::OidcRules;
use super::fetch::Source;
use super::keys::{Alg, KeySet};
use super::reason::Reason;

/// The most that two clocks may be said to differ.
const CLOCK_SKEW_MAX: Duration = Duration::from_mins(1);

/// How much two clocks are taken to differ unless a setting says otherwise.
pub(super) const CLOCK_SKEW_DEFAULT: Duration = Duration::from_secs(5);

/// A setting of an issuer that cannot be used. Says which one and why, and repeats no secret.
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

    /// The name of the setting.
    pub const fn setting(&self) -> &'static str {
        self.setting
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

/// Somebody whose tokens this server takes.
#[derive(Debug)]
pub struct Issuer {
    pub(super) name: Arc<str>,
    pub(super) algorithms: Vec<Alg>,
    pub(super) skew_millis: i64,
    pub(super) rules: Rules,
    pub(super) keys: KeysFrom,
}

/// What the tokens of an issuer must say.
#[derive(Debug)]
pub(super) enum Rules {
    Clerk(ClerkRules),
    Oidc(OidcRules),
}

/// Where an issuer's keys come from.
#[derive(Debug)]
pub(super) enum KeysFrom {
    Settings(KeySet),
    Network(Source),
}

impl Issuer {
    /// What its tokens say in `iss`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its keys are fetched from; `None` where settings hold them.
    pub fn keys_url(&self) -> Option<&str> {
        match &self.keys {
            KeysFrom::Settings(_) => None,
            KeysFrom::Network(source) => Some(source.url().as_str()),
        }
    }

    /// How many keys settings hold.
    pub const fn keys_in_settings(&self) -> usize {
        match &self.keys {
            KeysFrom::Settings(keys) => keys.len(),
            KeysFrom::Network(_) => 0,
        }
    }

    /// What the header must say before a key is looked for; the algorithm to check with.
    ///
    /// The configuration lists the algorithms and the token only picks one of them.
    pub(super) fn judge_header(&self, header: &Claims) -> Result<Alg, Reason> {
        let named = header.get("alg").and_then(serde_json::Value::as_str);
        let alg = self.algorithms.iter().copied().find(|alg| Some(alg.name()) == named);
        let alg = alg.ok_or(Reason::TokenInvalidAlgorithm)?;
        match &self.rules {
            Rules::Clerk(_) => ClerkRules::judge_header(header)?,
            Rules::Oidc(_) => OidcRules::judge_header(header)?,
        }
        Ok(alg)
    }

    /// What the claims must say once the signature is known to be good.
    pub(super) fn judge(&self, claims: &Claims, now: Timestamp) -> Result<Accepted, Reason> {
        match &self.rules {
            Rules::Clerk(rules) => rules.judge(claims, now, self.skew_millis),
            Rules::Oidc(rules) => rules.judge(claims, now, self.skew_millis),
        }
    }
}

/// Checks what `setting` says an issuer is called.
pub(super) fn issuer_name(setting: &'static str, name: &str) -> Result<Arc<str>, IssuerError> {
    let refused = |problem: &str| Err(IssuerError::new(setting, problem));
    let url = super::fetch::parse_url(name).map_err(|why| IssuerError::new(setting, why))?;
    if url.query().is_some() || url.fragment().is_some() {
        return refused("an issuer has neither a query nor a fragment");
    }
    // The parser forgives these, and a comparison with `iss` would not.
    if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return refused("it has a space or a control character in it");
    }
    if name.trim_end_matches('/') == LOCAL_ISSUER {
        return refused("this name is this server's own");
    }
    Ok(name.into())
}

/// Checks a clock skew.
pub(super) fn skew_millis(setting: &'static str, skew: Duration) -> Result<i64, IssuerError> {
    if skew > CLOCK_SKEW_MAX {
        return Err(IssuerError::new(setting, "more than a minute (60000 ms) is too much"));
    }
    Ok(i64::try_from(skew.as_millis()).expect("a minute fits"))
}

/// Checks the names that an API may go by.
pub(super) fn audience(setting: &'static str, names: &[String]) -> Result<(), IssuerError> {
    if names.iter().any(|name| name.trim().is_empty()) {
        return Err(IssuerError::new(setting, "it has an empty name in it"));
    }
    Ok(())
}
