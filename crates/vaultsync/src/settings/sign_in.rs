//! Whose tokens are accepted, and the rules across those settings.
//!
//! Not here: verifying a token.

use std::net::SocketAddr;
use std::time::Duration;

use vaultsync_server::auth::{ClerkOptions, Issuer, IssuerError, OidcOptions};

use super::parse;
use super::reader::Reader;
use super::setting::{Group, Setting};
use super::table::{self, TABLE};

/// Whose tokens are accepted. At least one of the three always is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignIn {
    /// Whether tokens that `vaultsync token` mints are accepted.
    pub(crate) local: bool,
    pub(crate) clerk: Option<ClerkOptions>,
    pub(crate) oidc: Option<OidcOptions>,
}

/// Reads everything about sign-in. `listen` is the address of the API, where it could be read.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    listen: Option<SocketAddr>,
    warnings: &mut Vec<String>,
) -> SignIn {
    let clerk = clerk(reader);
    let oidc = oidc(reader);
    if let Some(clerk) = &clerk
        && clerk.authorized_parties.is_empty()
    {
        warnings.push(format!(
            "{} is not set: tokens that any web origin of the Clerk instance was given are accepted",
            table::CLERK_AUTHORIZED_PARTIES.env()
        ));
    }
    let live = clerk
        .as_ref()
        .and_then(|clerk| clerk.publishable_key.as_ref())
        .is_some_and(|key| key.starts_with("pk_live_"));
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
    let said = reader.required(setting, parse::auto_switch);
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

fn clerk(reader: &mut Reader<'_>) -> Option<ClerkOptions> {
    let options = ClerkOptions {
        publishable_key: reader.optional(&table::CLERK_PUBLISHABLE_KEY, as_written),
        issuer: reader.optional(&table::CLERK_ISSUER, as_written),
        jwt_keys: Some(reader.pem(&table::CLERK_JWT_KEY))
            .filter(|keys| !keys.is_empty())
            .into_iter()
            .collect(),
        jwks_url: reader.optional(&table::CLERK_JWKS_URL, as_written),
        authorized_parties: reader.list(&table::CLERK_AUTHORIZED_PARTIES, parse::origin),
        allow_missing_azp: reader.switch(&table::CLERK_ALLOW_MISSING_AZP),
        allow_impersonation: reader.switch(&table::CLERK_ALLOW_IMPERSONATION),
        audience: reader.list(&table::CLERK_AUDIENCE, as_written),
        clock_skew: Duration::from_millis(reader.number(&table::CLERK_CLOCK_SKEW_MS)),
    };
    need_one_of(reader, Group::Clerk, &[table::CLERK_PUBLISHABLE_KEY, table::CLERK_ISSUER]);
    options.publishable_key.as_ref().or(options.issuer.as_ref())?;
    try_out(reader, Issuer::clerk(options.clone()));
    Some(options)
}

fn oidc(reader: &mut Reader<'_>) -> Option<OidcOptions> {
    let issuer = reader.optional(&table::OIDC_ISSUER, as_written);
    let options = OidcOptions {
        issuer: issuer.clone().unwrap_or_default(),
        audience: reader.list(&table::OIDC_AUDIENCE, as_written),
        jwks_url: reader.optional(&table::OIDC_JWKS_URL, as_written),
        algorithms: reader.list(&table::OIDC_ALGORITHMS, as_written),
        ..OidcOptions::default()
    };
    need_one_of(reader, Group::Oidc, &[table::OIDC_ISSUER]);
    issuer?;
    if options.algorithms.is_empty() && reader.could_read(&[table::OIDC_ALGORITHMS]) {
        reader.refuse(&table::OIDC_ALGORITHMS, "must name at least one algorithm");
    }
    try_out(reader, Issuer::oidc(options.clone()));
    Some(options)
}

#[expect(clippy::unnecessary_wraps, reason = "the form that a reader takes")]
fn as_written(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Whether an issuer can be made of its settings is for sign-in to say; here it is told with the
/// setting's origin, beside whatever else is wrong.
fn try_out(reader: &mut Reader<'_>, made: Result<Issuer, IssuerError>) {
    let Err(error) = made else { return };
    let setting = TABLE.iter().find(|setting| setting.env() == error.setting());
    let setting = setting.expect("sign-in names the settings of the table");
    if reader.could_read(&[*setting]) {
        reader.refuse(setting, error.problem());
    }
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
