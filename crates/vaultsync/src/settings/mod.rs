//! What the server is told from outside, found, typed and checked.
//!
//! Not here: acting on any of it. Nothing outside this module reads the environment.

mod database;
mod errors;
mod layers;
mod limits;
mod parse;
mod reader;
mod setting;
mod show;
pub(crate) mod sign_in;
mod table;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;
use vaultsync_server::Limits;

pub(crate) use database::Database;
pub(crate) use errors::ConfigErrors;
pub(crate) use layers::{CONFIG_ENV, Sources};
pub(crate) use setting::{Group, Kind, Setting};
pub(crate) use show::{default_file, in_force, markdown};
pub(crate) use sign_in::SignIn;
pub(crate) use table::TABLE;

use layers::Values;
use reader::Reader;

/// Every setting, valid alone and together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where the API listens.
    pub(crate) listen: SocketAddr,
    /// Where metrics are served, if anywhere.
    pub(crate) admin_listen: Option<SocketAddr>,
    /// The folder of the database and of the local issuer's key.
    pub(crate) data_dir: PathBuf,
    pub(crate) database: Database,
    pub(crate) sign_in: SignIn,
    /// The proxies whose `X-Forwarded-For` counts.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Exact web origins.
    pub(crate) cors_origins: Vec<String>,
    pub(crate) log: Log,
    pub(crate) limits: Limits,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// A directive that `EnvFilter` accepts.
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

/// Settings that were found and are valid, and how they were found.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    /// What the operator should know, and start-up should log.
    pub(crate) warnings: Vec<String>,
    values: Values,
}

/// Finds, types and checks every setting.
///
/// # Errors
///
/// Everything that is wrong, not just the first of it.
pub(crate) fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let mut problems = ConfigErrors::default();
    let mut warnings = Vec::new();
    let values = layers::fold(sources, &mut problems, &mut warnings);
    let mut reader = Reader::new(&values, &mut problems);
    let settings = read(&mut reader, &mut warnings);
    if problems.is_empty() { Ok(Loaded { settings, warnings, values }) } else { Err(problems) }
}

fn read(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Settings {
    let listen = reader.required(&table::LISTEN, parse::address);
    let readable_listen = reader.could_read(&[table::LISTEN]).then_some(listen);
    let data_dir = reader.required(&table::DATA_DIR, parse::path);
    let settings = Settings {
        listen,
        admin_listen: reader.required(&table::ADMIN_LISTEN, parse::address_or_off),
        database: database::read(reader, &data_dir),
        data_dir,
        sign_in: sign_in::read(reader, readable_listen, warnings),
        trusted_proxies: reader.list(&table::TRUSTED_PROXIES, parse::network),
        cors_origins: reader.list(&table::CORS_ORIGINS, parse::origin),
        log: Log {
            filter: reader.required(&table::LOG, log_filter),
            format: reader.required(&table::LOG_FORMAT, log_format),
        },
        limits: limits::read(reader),
    };
    // Port 0 is a free port of the system's choice, of which there can be two.
    if settings.admin_listen == Some(listen) && listen.port() != 0 {
        reader.refuse(&table::ADMIN_LISTEN, "must be another address than listen");
    }
    settings
}

fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::builder()
        .parse(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("expected a level or directives such as `info`: {error}"))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("expected `auto`, `text` or `json`, not `{text}`")),
    }
}
