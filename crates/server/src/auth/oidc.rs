//! Settings of an OIDC issuer.
//!
//! Not here: the rules for its tokens (`claims_oidc`).

use std::time::Duration;

use super::claims_oidc::OidcRules;
use super::fetch::{KeyEndpoint, parse_url};
use super::issuer::{
    CLOCK_SKEW_DEFAULT, Issuer, IssuerError, KeySource, Rules, check_audience, issuer_name,
    skew_millis,
};
use super::keys::Alg;

const ISSUER: &str = "VAULTSYNC_OIDC_ISSUER";
const AUDIENCE: &str = "VAULTSYNC_OIDC_AUDIENCE";
const JWKS_URL: &str = "VAULTSYNC_OIDC_JWKS_URL";
const ALGORITHMS: &str = "VAULTSYNC_OIDC_ALGORITHMS";
const CLOCK_SKEW: &str = "VAULTSYNC_OIDC_CLOCK_SKEW_MS";

/// Settings of an OIDC issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcOptions {
    /// `VAULTSYNC_OIDC_ISSUER`: exact value of `iss` in tokens.
    pub issuer: String,
    /// `VAULTSYNC_OIDC_AUDIENCE`: the issuer's names for this API. A token must name one of them.
    pub audience: Vec<String>,
    /// `VAULTSYNC_OIDC_JWKS_URL`: URL of the keys. Default: from the issuer's discovery document.
    pub jwks_url: Option<String>,
    /// `VAULTSYNC_OIDC_ALGORITHMS`: accepted algorithms out of RS256, PS256, ES256 and `EdDSA`.
    /// Default: RS256.
    pub algorithms: Vec<String>,
    /// `VAULTSYNC_OIDC_CLOCK_SKEW_MS`: tolerated difference between the clocks, at most a minute.
    /// Default: 5 s.
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
    /// Creates an OIDC issuer from its settings.
    pub fn oidc(options: OidcOptions) -> Result<Self, IssuerError> {
        let name = issuer_name(ISSUER, &options.issuer)?;
        if options.audience.is_empty() {
            return Err(IssuerError::new(
                AUDIENCE,
                "it is missing: set it, because without it tokens for any other API of the issuer \
                 would be accepted",
            ));
        }
        check_audience(AUDIENCE, &options.audience)?;
        let keys = match &options.jwks_url {
            Some(url) => parse_url(url)
                .and_then(KeyEndpoint::jwks)
                .map_err(|problem| IssuerError::new(JWKS_URL, problem))?,
            None => KeyEndpoint::discovery(&name)
                .map_err(|problem| IssuerError::new(ISSUER, problem))?,
        };
        Ok(Self {
            algorithms: algorithms(&options.algorithms)?,
            skew_millis: skew_millis(CLOCK_SKEW, options.clock_skew)?,
            rules: Rules::Oidc(OidcRules { audience: options.audience }),
            keys: KeySource::Network(keys),
            name,
        })
    }
}

fn algorithms(names: &[String]) -> Result<Vec<Alg>, IssuerError> {
    if names.is_empty() {
        return Ok(vec![Alg::Rs256]);
    }
    let parse = |name: &String| {
        Alg::ALL.into_iter().find(|alg| alg.name() == name).ok_or_else(|| {
            IssuerError::new(
                ALGORITHMS,
                format!("{name:?} is not supported: use RS256, PS256, ES256 or EdDSA"),
            )
        })
    };
    names.iter().map(parse).collect()
}
