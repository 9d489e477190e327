//! The settings of an OIDC issuer.
//!
//! Not here: what its tokens must say (`claims_oidc`).

use std::time::Duration;

use super::claims_oidc::OidcRules;
use super::fetch::{Source, parse_url};
use super::issuer::{
    CLOCK_SKEW_DEFAULT, Issuer, IssuerError, KeysFrom, Rules, audience, issuer_name, skew_millis,
};
use super::keys::Alg;

const ISSUER: &str = "VAULTSYNC_OIDC_ISSUER";
const AUDIENCE: &str = "VAULTSYNC_OIDC_AUDIENCE";
const JWKS_URL: &str = "VAULTSYNC_OIDC_JWKS_URL";
const ALGORITHMS: &str = "VAULTSYNC_OIDC_ALGORITHMS";

/// The settings of an OIDC issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcOptions {
    /// `VAULTSYNC_OIDC_ISSUER`: what tokens say in `iss`, exactly.
    pub issuer: String,
    /// `VAULTSYNC_OIDC_AUDIENCE`: what this API is called there. A token must name one of them.
    pub audience: Vec<String>,
    /// `VAULTSYNC_OIDC_JWKS_URL`: where the keys are; else the issuer's discovery document tells.
    pub jwks_url: Option<String>,
    /// `VAULTSYNC_OIDC_ALGORITHMS`: which of RS256, PS256, ES256 and `EdDSA` are taken. RS256.
    pub algorithms: Vec<String>,
    /// How far the clocks may differ, at most a minute. 5 s.
    pub clock_skew: Duration,
}

impl Default for OidcOptions {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: Vec::new(),
            jwks_url: None,
            algorithms: Vec::new(),
            clock_skew: CLOCK_SKEW_DEFAULT,
        }
    }
}

impl Issuer {
    /// An OIDC issuer.
    pub fn oidc(options: OidcOptions) -> Result<Self, IssuerError> {
        let name = issuer_name(ISSUER, &options.issuer)?;
        if options.audience.is_empty() {
            return Err(IssuerError::new(
                AUDIENCE,
                "missing: without it the tokens of any other API of this issuer would be taken",
            ));
        }
        audience(AUDIENCE, &options.audience)?;
        let keys = match &options.jwks_url {
            Some(url) => parse_url(url)
                .and_then(Source::jwks)
                .map_err(|why| IssuerError::new(JWKS_URL, why))?,
            None => Source::discovery(&name).map_err(|why| IssuerError::new(ISSUER, why))?,
        };
        Ok(Self {
            algorithms: algorithms(&options.algorithms)?,
            skew_millis: skew_millis(ISSUER, options.clock_skew)?,
            rules: Rules::Oidc(OidcRules { audience: options.audience }),
            keys: KeysFrom::Network(keys),
            name,
        })
    }
}

fn algorithms(names: &[String]) -> Result<Vec<Alg>, IssuerError> {
    if names.is_empty() {
        return Ok(vec![Alg::Rs256]);
    }
    let known = |name: &String| {
        Alg::ALL.into_iter().find(|alg| alg.name() == name).ok_or_else(|| {
            IssuerError::new(
                ALGORITHMS,
                format!("{name:?} is none of RS256, PS256, ES256 and EdDSA"),
            )
        })
    };
    names.iter().map(known).collect()
}
