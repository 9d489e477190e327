//! Issuers whose tokens are accepted, and the rules across those settings.
//!
//! Not here: verifying a token.

use std::net::SocketAddr;
use std::time::Duration;

use vaultsync_server::auth::{ClerkOptions, Issuer, IssuerError, OidcOptions};

use super::parse;
use super::reader::Reader;
use super::setting::Group;
use super::table::TABLE;

/// Issuers whose tokens are accepted. There is always at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignIn {
    /// Whether tokens from `vaultsync token` are accepted.
    pub(crate) local: bool,
    pub(crate) clerk: Option<ClerkOptions>,
    pub(crate) oidc: Option<OidcOptions>,
}

impl SignIn {
    /// The Clerk instance, if one is configured. The settings were checked when they were read.
    pub(crate) fn clerk_issuer(&self) -> Option<Issuer> {
        Issuer::clerk(self.clerk.clone()?).ok()
    }

    /// The OIDC issuer, likewise.
    pub(crate) fn oidc_issuer(&self) -> Option<Issuer> {
        Issuer::oidc(self.oidc.clone()?).ok()
    }
}

/// Reads the settings of sign-in. `listen` is the address of the API if it could be read.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    listen: Option<SocketAddr>,
    warnings: &mut Vec<String>,
) -> SignIn {
    let clerk = clerk(reader);
    let oidc = oidc(reader);
    if clerk.as_ref().is_some_and(|clerk| clerk.authorized_parties.is_empty()) {
        warnings.push(
            "CLERK_AUTHORIZED_PARTIES is not set: \
             tokens that the Clerk instance issued to any web origin are accepted"
                .to_owned(),
        );
    }
    let key = clerk.as_ref().and_then(|clerk| clerk.publishable_key.as_ref());
    let is_production = key.is_some_and(|key| key.starts_with("pk_live_"));
    let local = local(reader, listen, is_production);
    SignIn { local, clerk, oidc }
}

fn local(reader: &mut Reader<'_>, listen: Option<SocketAddr>, is_production: bool) -> bool {
    let has_issuer =
        [Group::Clerk, Group::Oidc].iter().any(|group| first_given(reader, *group).is_some());
    let setting = reader.required("local_issuer", parse::auto_switch);
    match (setting, listen) {
        (Some(true), _) if is_production => reader.refuse(
            "local_issuer",
            "cannot be combined with a pk_live_ key: \
             anyone who can read the server's disk could sign in as any user",
        ),
        (Some(false), _) if !has_issuer => reader.refuse(
            "local_issuer",
            "no sign-in is left: set clerk_publishable_key or oidc_issuer, or leave local_issuer on",
        ),
        (None, Some(listen))
            if !has_issuer && !listen.ip().is_loopback() && reader.could_read(&["local_issuer"]) =>
        {
            reader.refuse(
                "local_issuer",
                format!(
                    "no sign-in is set and {listen} is not a loopback address: \
                     set clerk_publishable_key or oidc_issuer, or set --local-issuer \
                     (or VAULTSYNC_LOCAL_ISSUER=true) to accept tokens from `vaultsync token`"
                ),
            );
        }
        _ => {}
    }
    setting.unwrap_or(!has_issuer)
}

fn clerk(reader: &mut Reader<'_>) -> Option<ClerkOptions> {
    let options = ClerkOptions {
        publishable_key: reader.text("clerk_publishable_key"),
        issuer: reader.text("clerk_issuer"),
        jwt_keys: reader.text("clerk_jwt_key").into_iter().collect(),
        jwks_url: reader.text("clerk_jwks_url"),
        authorized_parties: reader.list("clerk_authorized_parties", parse::origin),
        allow_missing_azp: reader.switch("clerk_allow_missing_azp"),
        allow_impersonation: reader.switch("clerk_allow_impersonation"),
        audience: reader.texts("clerk_audience"),
        clock_skew: Duration::from_millis(reader.number("clerk_clock_skew_ms")),
    };
    require_one_of(reader, Group::Clerk, &["clerk_publishable_key", "clerk_issuer"]);
    options.publishable_key.as_ref().or(options.issuer.as_ref())?;
    report(reader, Issuer::clerk(options.clone()));
    Some(options)
}

fn oidc(reader: &mut Reader<'_>) -> Option<OidcOptions> {
    let issuer = reader.text("oidc_issuer");
    let options = OidcOptions {
        issuer: issuer.clone().unwrap_or_default(),
        audience: reader.texts("oidc_audience"),
        jwks_url: reader.text("oidc_jwks_url"),
        algorithms: reader.texts("oidc_algorithms"),
        clock_skew: Duration::from_millis(reader.number("oidc_clock_skew_ms")),
    };
    require_one_of(reader, Group::Oidc, &["oidc_issuer"]);
    issuer?;
    if options.algorithms.is_empty() && reader.could_read(&["oidc_algorithms"]) {
        reader.refuse("oidc_algorithms", "must name at least one algorithm");
    }
    report(reader, Issuer::oidc(options.clone()));
    Some(options)
}

/// Reports why an issuer cannot be made of its settings, with the origin of the setting.
fn report(reader: &mut Reader<'_>, made: Result<Issuer, IssuerError>) {
    let Err(error) = made else { return };
    let setting = TABLE.iter().find(|setting| setting.env() == error.setting());
    let key = setting.expect("an issuer's error names a setting of the table").key;
    if reader.could_read(&[key]) {
        reader.refuse(key, error.problem());
    }
}

/// Refuses settings of a group if none of the required ones is set: they would have no effect, which
/// the operator would not notice.
fn require_one_of(reader: &mut Reader<'_>, group: Group, required: &[&str]) {
    if required.iter().any(|key| reader.is_given(key)) {
        return;
    }
    if let Some(key) = first_given(reader, group) {
        let required = required.join(" or ");
        reader.refuse(key, format!("has no effect without {required}: set that too"));
    }
}

fn first_given(reader: &Reader<'_>, group: Group) -> Option<&'static str> {
    let mut group = TABLE.iter().filter(|setting| setting.group == group);
    group.find(|setting| reader.is_given(setting.key)).map(|setting| setting.key)
}
