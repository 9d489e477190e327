//! Parsers for the forms of values: numbers, addresses, networks, origins, URLs.
//!
//! An error continues a message that starts with the setting and its origin. It contains nothing that
//! could be a secret.
//!
//! Not here: the form of each setting (`table.rs`).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use url::Url;
use vaultsync_store::{DatabaseUrl, NatsUrl};

pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected a whole number, not `{text}`"))
}

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

pub(crate) fn address_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    or_off(text, address)
}

/// `None` is `off`.
fn or_off<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == "off" {
        return Ok(None);
    }
    parse(text).map(Some).map_err(|what| format!("{what}; `off` disables it"))
}

pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("expected a path".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// A network. A single address is a network of one.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .map(|network| network.trunc())
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("expected a network such as 10.0.0.0/8 or an address, not `{text}`"))
}

/// The URL of a web page, to which a fragment is added.
pub(crate) fn page(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Err("expected a URL that begins with http:// or https://".to_owned())
        }
        Ok(url) if url.fragment().is_some() => {
            Err("expected a URL without a fragment (#): one is added".to_owned())
        }
        Ok(url) => Ok(url.into()),
        Err(error) => Err(format!("expected the URL of a page: {error}")),
    }
}

/// A web origin, in the spelling that browsers send.
///
/// Origins are compared byte for byte: any other spelling would never match, so it is an error.
pub(crate) fn origin(text: &str) -> Result<String, String> {
    if text == "null" || text.contains('*') {
        return Err(format!("`{text}` is not an exact origin: list each origin"));
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
        Err(format!("`{text}` is not an exact origin: write `{spelled}`"))
    }
}

/// Address of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Sqlite(PathBuf),
    Postgres(Box<DatabaseUrl>),
}

pub(crate) fn database(text: &str) -> Result<Address, String> {
    const SUPPORTED: &str = "supported are sqlite:PATH and postgres://USER:PASSWORD@HOST:PORT/NAME";
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(format!("this is not a database URL; {SUPPORTED}"));
    };
    if ["postgres", "postgresql"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return postgres(text).map(Box::new).map(Address::Postgres);
    }
    if !scheme.eq_ignore_ascii_case("sqlite") {
        // The rest is not shown: it may contain a password.
        let is_scheme =
            scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        return Err(if is_scheme {
            format!("{scheme}: databases are not supported; {SUPPORTED}")
        } else {
            format!("this kind of database is not supported; {SUPPORTED}")
        });
    }
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() {
        return Err(format!("the path is missing; {SUPPORTED}"));
    }
    if path == ":memory:" {
        return Err("a database in memory would be lost at every restart; name a file".to_owned());
    }
    if path.contains('?') {
        return Err(format!("options after `?` are not supported; {SUPPORTED}"));
    }
    Ok(Address::Sqlite(PathBuf::from(path)))
}

pub(crate) fn postgres(text: &str) -> Result<DatabaseUrl, String> {
    text.parse().map_err(|what| {
        format!("expected postgres://USER:PASSWORD@HOST:PORT/NAME with options of libpq: {what}")
    })
}

pub(crate) fn postgres_or_off(text: &str) -> Result<Option<DatabaseUrl>, String> {
    or_off(text, postgres)
}

pub(crate) fn nats(text: &str) -> Result<NatsUrl, String> {
    text.parse()
}
