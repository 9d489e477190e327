//! Settings of the server: found, typed and checked.
//!
//! Each setting is one row of a table (`table.rs`, which also says how to add one). Loading finds the
//! value in force of each row (`sources.rs`), reads it as a type (`reader.rs`) and checks the rules
//! across settings. All errors are collected and reported together.
//!
//! Not here: acting on a setting. Nothing outside this module reads the environment.

mod database;
mod errors;
mod limits;
mod parse;
mod reader;
mod setting;
mod show;
pub(crate) mod sign_in;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;
use vaultsync_server::Limits;

pub(crate) use database::Database;
pub(crate) use errors::ConfigErrors;
pub(crate) use setting::{Kind, Setting};
pub(crate) use show::{default_file, flag_help, in_force, markdown};
pub(crate) use sign_in::SignIn;
pub(crate) use sources::{CONFIG_ENV, Sources};
pub(crate) use table::TABLE;

use reader::Reader;
use sources::Values;

/// All settings, checked one by one and together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Address of the API.
    pub(crate) listen: SocketAddr,
    /// Address of the metrics, `None` if they are not served.
    pub(crate) admin_listen: Option<SocketAddr>,
    /// Folder of the SQLite database and of the local issuer's key.
    pub(crate) data_dir: PathBuf,
    pub(crate) database: Database,
    pub(crate) sign_in: SignIn,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Exact web origins.
    pub(crate) cors_origins: Vec<String>,
    pub(crate) docs_url: Option<String>,
    pub(crate) log: Log,
    pub(crate) limits: Limits,
}

/// Filter and format of log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// Directives that `EnvFilter` accepts.
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// Valid settings and their origins.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    /// Warnings for the operator, to be logged at start-up.
    pub(crate) warnings: Vec<String>,
    values: Values,
}

/// Finds, types and checks all settings.
///
/// # Errors
///
/// All errors in the settings, not only the first one.
pub(crate) fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let mut warnings = sources::unknown_variables(&sources.env);
    let values = sources::find(sources, &mut errors);
    let settings = read(&mut Reader::new(&values, &mut errors), &mut warnings);
    if errors.is_empty() { Ok(Loaded { settings, warnings, values }) } else { Err(errors) }
}

fn read(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Settings {
    let listen = reader.required("listen", parse::address);
    let readable_listen = reader.could_read(&["listen"]).then_some(listen);
    let data_dir = reader.required("data_dir", parse::path);
    let settings = Settings {
        listen,
        admin_listen: reader.required("admin_listen", parse::address_or_off),
        database: database::read(reader, &data_dir),
        data_dir,
        sign_in: sign_in::read(reader, readable_listen, warnings),
        trusted_proxies: reader.list("trusted_proxies", parse::network),
        cors_origins: reader.list("cors_origins", parse::origin),
        docs_url: reader.optional("docs_url", parse::page),
        log: Log {
            filter: reader.required("log", log_filter),
            format: reader.required("log_format", log_format),
        },
        limits: limits::read(reader),
    };
    // Port 0 is a free port that the system chooses, different for each.
    if settings.admin_listen == Some(listen) && listen.port() != 0 {
        reader.refuse("admin_listen", "must differ from listen");
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
