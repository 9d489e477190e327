//! Whose tokens are accepted, and the rules across those settings.
//!
//! Not here: verifying a token.

use std::net::SocketAddr;
use std::time::Duration;

use super::forms;
use super::reader::Reader;
use super::setting::{Group, Setting};
use super::table::{self, TABLE};

/// Whose tokens are accepted. At least one of the three always is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignIn {
    /// Whether tokens that `vaultsync token` mints are accepted.
    pub(crate) local: bool,
    pub(crate) clerk: Option<ClerkSettings>,
    pub(crate) oidc: Option<OidcSettings>,
}

/// A Clerk instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClerkSettings {
    /// What `iss` must be, byte for byte.
    pub(crate) issuer: String,
    /// Public keys, each as one PEM text.
    pub(crate) jwt_keys: Vec<String>,
    /// Where keys are fetched; `None` only where there are `jwt_keys`.
    pub(crate) jwks_url: Option<String>,
    /// What `azp` may be; empty means anything.
    pub(crate) authorized_parties: Vec<String>,
    pub(crate) allow_missing_azp: bool,
    pub(crate) allow_impersonation: bool,
    /// What `aud` must name one of, where a token has one; empty means anything.
    pub(crate) audience: Vec<String>,
    pub(crate) clock_skew: Duration,
}

/// A provider of `OpenID` Connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OidcSettings {
    /// What `iss` must be, byte for byte.
    pub(crate) issuer: String,
    /// What `aud` must name one of; never empty.
    pub(crate) audience: Vec<String>,
    /// Where keys are fetched; where it is `None`, the issuer's discovery document says.
    pub(crate) jwks_url: Option<String>,
    /// Never empty.
    pub(crate) algorithms: Vec<OidcAlgorithm>,
}

/// A signature algorithm that a provider of `OpenID` Connect may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OidcAlgorithm {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

/// What a Clerk publishable key says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PublishableKey {
    live: bool,
    /// The host of the instance's frontend API.
    host: String,
}

/// Reads everything about sign-in. `listen` is the address of the API, where it could be read.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    listen: Option<SocketAddr>,
    warnings: &mut Vec<String>,
) -> SignIn {
    let publishable_key = reader.optional(&table::CLERK_PUBLISHABLE_KEY, publishable_key);
    let clerk = clerk(reader, publishable_key.as_ref());
    let oidc = oidc(reader);
    if let Some(clerk) = &clerk
        && clerk.authorized_parties.is_empty()
    {
        warnings.push(format!(
            "{} is not set: tokens that any web origin of the Clerk instance was given are accepted",
            table::CLERK_AUTHORIZED_PARTIES.env()
        ));
    }
    let live = publishable_key.is_some_and(|key| key.live);
    let issuer_wanted =
        [Group::Clerk, Group::Oidc].into_iter().any(|group| first_given(reader, group).is_some());
    let local = local(reader, listen, issuer_wanted, live);
    SignIn { local, clerk, oidc }
}

fn local(
    reader: &mut Reader<'_>,
    listen: Option<SocketAddr>,
    issuer_wanted: bool,
    live: bool,
) -> bool {
    let setting = &table::LOCAL_ISSUER;
    let said = reader.required(setting, forms::auto_switch);
    if said == Some(true) && live {
        reader.refuse(
            setting,
            "is refused beside a pk_live_ key: whoever reads the server's disk could sign in as anybody",
        );
    }
    if said == Some(false) && !issuer_wanted {
        reader.refuse(
            setting,
            "nobody could sign in: set clerk_publishable_key or oidc_issuer, or leave local_issuer on",
        );
    }
    let local = said.unwrap_or(!issuer_wanted);
    if let Some(listen) = listen
        && local
        && said.is_none()
        && !listen.ip().is_loopback()
        && reader.could_read(&[*setting])
    {
        reader.refuse(
            setting,
            format!(
                "no sign-in is set and {listen} is not a loopback address: set clerk_publishable_key \
                 or oidc_issuer, or say {} (or {}=true) to accept tokens minted by `vaultsync token`",
                setting.flag(),
                setting.env()
            ),
        );
    }
    local
}

fn clerk(
    reader: &mut Reader<'_>,
    publishable_key: Option<&PublishableKey>,
) -> Option<ClerkSettings> {
    let given_issuer = reader.optional(&table::CLERK_ISSUER, forms::https_url);
    let pem = reader.pem(&table::CLERK_JWT_KEY);
    let jwt_keys = forms::public_keys(&pem).unwrap_or_else(|what| {
        reader.refuse(&table::CLERK_JWT_KEY, what);
        Vec::new()
    });
    let given_jwks_url = reader.optional(&table::CLERK_JWKS_URL, forms::https_url);
    let authorized_parties = reader.list(&table::CLERK_AUTHORIZED_PARTIES, forms::origin);
    let allow_missing_azp = reader.switch(&table::CLERK_ALLOW_MISSING_AZP);
    let allow_impersonation = reader.switch(&table::CLERK_ALLOW_IMPERSONATION);
    let audience = reader.list(&table::CLERK_AUDIENCE, |text| Ok(text.to_owned()));
    let clock_skew = Duration::from_millis(reader.number(&table::CLERK_CLOCK_SKEW_MS));

    let heads = [table::CLERK_PUBLISHABLE_KEY, table::CLERK_ISSUER];
    need_one_of(reader, Group::Clerk, &heads);
    let domain = publishable_key.map(|key| format!("https://{}", key.host));
    let issuer = given_issuer.or_else(|| domain.clone())?;
    // Behind a proxy the issuer may be another name than the domain, which still has the keys.
    let jwks_url = given_jwks_url.or_else(|| {
        jwt_keys.is_empty().then(|| well_known_keys(domain.as_ref().unwrap_or(&issuer)))
    });
    Some(ClerkSettings {
        issuer,
        jwt_keys,
        jwks_url,
        authorized_parties,
        allow_missing_azp,
        allow_impersonation,
        audience,
        clock_skew,
    })
}

fn well_known_keys(base: &str) -> String {
    format!("{}/.well-known/jwks.json", base.trim_end_matches('/'))
}

fn oidc(reader: &mut Reader<'_>) -> Option<OidcSettings> {
    let issuer = reader.optional(&table::OIDC_ISSUER, forms::https_url);
    let audience = reader.list(&table::OIDC_AUDIENCE, |text| Ok(text.to_owned()));
    let jwks_url = reader.optional(&table::OIDC_JWKS_URL, forms::https_url);
    let algorithms = reader.list(&table::OIDC_ALGORITHMS, algorithm);

    need_one_of(reader, Group::Oidc, &[table::OIDC_ISSUER]);
    let issuer = issuer?;
    if audience.is_empty() && reader.could_read(&[table::OIDC_AUDIENCE]) {
        reader.refuse(
            &table::OIDC_AUDIENCE,
            "is needed beside oidc_issuer: without it, tokens meant for other services would be accepted",
        );
    }
    if algorithms.is_empty() && reader.could_read(&[table::OIDC_ALGORITHMS]) {
        reader.refuse(&table::OIDC_ALGORITHMS, "must name at least one algorithm");
    }
    Some(OidcSettings { issuer, audience, jwks_url, algorithms })
}

/// Refuses settings of a group of which none of `heads` is set: they would have no effect, and
/// whoever set them believes that they have.
fn need_one_of(reader: &mut Reader<'_>, group: Group, heads: &[Setting]) {
    if heads.iter().any(|head| reader.is_given(head)) {
        return;
    }
    if let Some(setting) = first_given(reader, group) {
        let keys: Vec<&str> = heads.iter().map(|head| head.key).collect();
        reader.refuse(setting, format!("has no effect without {}: set it too", keys.join(" or ")));
    }
}

fn first_given(reader: &Reader<'_>, group: Group) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.group == group && reader.is_given(setting))
}

fn publishable_key(text: &str) -> Result<PublishableKey, String> {
    let expected = "expected a publishable key (pk_test_... or pk_live_...)";
    if text.starts_with("sk_") {
        return Err(format!("{expected}, not the secret key, which is never needed"));
    }
    let (live, encoded) = match (text.strip_prefix("pk_live_"), text.strip_prefix("pk_test_")) {
        (Some(encoded), _) => (true, encoded),
        (_, Some(encoded)) => (false, encoded),
        _ => return Err(expected.to_owned()),
    };
    base64_simd::STANDARD_NO_PAD
        .decode_to_vec(encoded.trim_end_matches('='))
        .ok()
        .and_then(|decoded| String::from_utf8(decoded).ok())
        .and_then(|decoded| decoded.strip_suffix('$').map(str::to_owned))
        // Exactly one `$` ends the key, and a domain has none.
        .filter(|host| host.contains('.') && !host.contains('$') && url::Host::parse(host).is_ok())
        .map(|host| PublishableKey { live, host })
        .ok_or_else(|| format!("{expected}; this one is damaged"))
}

fn algorithm(text: &str) -> Result<OidcAlgorithm, String> {
    match text {
        "RS256" => Ok(OidcAlgorithm::Rs256),
        "PS256" => Ok(OidcAlgorithm::Ps256),
        "ES256" => Ok(OidcAlgorithm::Es256),
        "EdDSA" => Ok(OidcAlgorithm::EdDsa),
        _ => Err(format!("expected RS256, PS256, ES256 or EdDSA, not `{text}`")),
    }
}
