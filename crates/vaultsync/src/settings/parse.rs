//! The forms that values have: addresses, networks, origins, keys, durations.
//!
//! Not here: which setting has which form. The message of an error is the end of a sentence that
//! begins with the setting and its origin, and holds nothing that could be a secret.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use url::Url;
use vaultsync_store::{DatabaseUrl, NatsUrl};

pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("expected `true` or `false`, not `{text}`")),
    }
}

/// `None` is `auto`.
pub(crate) fn auto_switch(text: &str) -> Result<Option<bool>, String> {
    if text == "auto" {
        return Ok(None);
    }
    switch(text).map(Some).map_err(|_| format!("expected `auto`, `true` or `false`, not `{text}`"))
}

pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("expected an IP address and a port such as 127.0.0.1:8787, not `{text}`")
    })
}

/// `None` is `off`.
pub(crate) fn address_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    address(text).map(Some).map_err(|what| format!("{what}; `off` turns it off"))
}

pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("expected a path".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// A network; a single address is a network of its own.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .map(|network| network.trunc())
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("expected a network such as 10.0.0.0/8 or an address, not `{text}`"))
}

/// A web origin, spelled as browsers spell it.
///
/// Origins are compared byte for byte, so that another spelling would never match and is refused
/// here, where somebody sees it.
pub(crate) fn origin(text: &str) -> Result<String, String> {
    if text == "null" || text.contains('*') {
        return Err(format!("`{text}` is no exact origin: name each origin"));
    }
    let form = "expected an origin such as https://app.example.com";
    let url = Url::parse(text).map_err(|_| format!("{form}, not `{text}`"))?;
    let host = url.host_str().filter(|host| !host.is_empty());
    let Some(host) = host.filter(|_| url.username().is_empty() && url.password().is_none()) else {
        return Err(format!("{form}, without a user and password"));
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let spelled = format!("{}://{host}{port}", url.scheme());
    if spelled == text {
        Ok(spelled)
    } else {
        Err(format!("`{text}` is no exact origin: write `{spelled}`"))
    }
}

/// The address of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Sqlite(PathBuf),
    Postgres(Box<DatabaseUrl>),
}

pub(crate) fn database(text: &str) -> Result<Address, String> {
    const SUPPORTED: &str = "supported are sqlite:PATH and postgres://USER:PASSWORD@HOST:PORT/NAME";
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(format!("this is no database URL; {SUPPORTED}"));
    };
    if ["postgres", "postgresql"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return postgres(text).map(Box::new).map(Address::Postgres);
    }
    if !scheme.eq_ignore_ascii_case("sqlite") {
        // The rest may hold a password and is not shown.
        let known =
            scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let shown = if known { scheme } else { "this" };
        return Err(format!("a {shown}: database is not supported; {SUPPORTED}"));
    }
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() {
        return Err(format!("the path is missing; {SUPPORTED}"));
    }
    if path == ":memory:" {
        return Err("a database in memory would be lost at every stop; name a file".to_owned());
    }
    if path.contains('?') {
        return Err(format!("options after `?` are not supported; {SUPPORTED}"));
    }
    Ok(Address::Sqlite(PathBuf::from(path)))
}

pub(crate) fn postgres(text: &str) -> Result<DatabaseUrl, String> {
    text.parse().map_err(|what| {
        format!("expected postgres://USER:PASSWORD@HOST:PORT/NAME with options as libpq has them: {what}")
    })
}

/// `None` is `off`.
pub(crate) fn postgres_or_off(text: &str) -> Result<Option<DatabaseUrl>, String> {
    if text == "off" {
        return Ok(None);
    }
    postgres(text).map(Some).map_err(|what| format!("{what}; `off` turns it off"))
}

pub(crate) fn nats(text: &str) -> Result<NatsUrl, String> {
    text.parse()
}
