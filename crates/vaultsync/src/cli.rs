//! Command line: commands, flags and exit codes.
//!
//! Not here: the commands themselves and the meaning of settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use vaultsync_protocol::{ExportRequest, VaultName};

use crate::settings::{self, CONFIG_ENV, ConfigErrors, Kind, Loaded, Setting, Sources, TABLE};
use crate::{gc, logging, migrate, serve, signals::Signals, token, user, verify};

/// Exit code for an invalid command line, the same as clap's, and for invalid settings.
const EXIT_USAGE: u8 = 2;

const AFTER_HELP: &str = "\
Every setting is a flag, an environment variable and a key of a TOML file, in that order of
precedence. `vaultsync config default` lists all settings.

Exit codes:
  0  success
  1  failure at run time
  2  invalid command line or settings";

/// Runs the command of the arguments and returns its exit code.
pub(crate) fn run(
    args: impl IntoIterator<Item = OsString>,
    env: BTreeMap<OsString, OsString>,
) -> ExitCode {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        // Includes `--help` and `--version`: clap prints those to standard output and exits with 0.
        Err(error) => error.exit(),
    };
    match dispatch(&matches, env) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::print(&format!("error: {error:#}"));
            if error.is::<ConfigErrors>() { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn dispatch(matches: &ArgMatches, env: BTreeMap<OsString, OsString>) -> anyhow::Result<()> {
    match matches.subcommand() {
        Some(("serve", matches)) => {
            let signals = Signals::handle()?;
            let loaded = settings::load(&sources(matches, env))?;
            let (lost_lines, _flush) = logging::init(&loaded.settings.log)?;
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            serve::run(loaded.settings, &signals, lost_lines)
        }
        Some(("migrate", matches)) => {
            let loaded = load_and_warn(matches, env)?;
            let request = migrate::Request {
                dry_run: matches.get_flag("dry-run"),
                citus: matches.get_flag("citus"),
            };
            migrate::run(&loaded.settings, &request)
        }
        Some(("verify", matches)) => verify::run(&load_and_warn(matches, env)?.settings),
        Some(("gc", matches)) => {
            gc::run(&load_and_warn(matches, env)?.settings, matches.get_flag("dry-run"))
        }
        Some(("user", matches)) => {
            let Some((name, matches)) = matches.subcommand() else {
                unreachable!("clap requires a command")
            };
            let settings = load_and_warn(matches, env)?.settings;
            user::run(&settings, &user_request(name, matches), matches.get_flag("json"))
        }
        Some(("token", matches)) => {
            let loaded = load_and_warn(matches, env)?;
            let request = token::Request {
                user: one::<String>(matches, "user"),
                ttl: one::<Duration>(matches, "ttl"),
            };
            token::run(&loaded.settings, &request)
        }
        Some(("config", matches)) => config(matches, env),
        _ => unreachable!("clap requires a command"),
    }
}

fn user_request(name: &str, matches: &ArgMatches) -> user::Request {
    let user = || user::UserName {
        subject: one::<String>(matches, "subject"),
        issuer: matches.get_one::<String>("issuer").cloned(),
    };
    match name {
        "list" => user::Request::List,
        "show" => user::Request::Show(user()),
        "usage" => user::Request::Usage(user()),
        "export" => user::Request::Export {
            user: user(),
            vault: matches.get_one::<VaultName>("vault").cloned(),
            request: ExportRequest { history: matches.get_flag("history") },
            folder: one::<PathBuf>(matches, "out"),
        },
        "erase" => user::Request::Erase {
            user: user(),
            vault: matches.get_one::<VaultName>("vault").cloned(),
            confirm: one::<String>(matches, "confirm"),
        },
        _ => unreachable!("clap requires one of these"),
    }
}

fn config(matches: &ArgMatches, env: BTreeMap<OsString, OsString>) -> anyhow::Result<()> {
    let shown = match matches.subcommand() {
        Some(("default", _)) => settings::default_file(),
        Some(("print", matches)) => settings::in_force(&load_and_warn(matches, env)?),
        Some(("markdown", _)) => settings::markdown(),
        _ => unreachable!("clap requires a command"),
    };
    // `print!` would panic if the reader closed the pipe.
    std::io::stdout().write_all(shown.as_bytes()).context("cannot write to standard output")
}

fn load_and_warn(
    matches: &ArgMatches,
    env: BTreeMap<OsString, OsString>,
) -> Result<Loaded, ConfigErrors> {
    let loaded = settings::load(&sources(matches, env))?;
    for warning in &loaded.warnings {
        logging::print(&format!("warning: {warning}"));
    }
    Ok(loaded)
}

/// The value of an argument that is required or has a default.
fn one<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> T {
    matches.get_one::<T>(name).cloned().expect("clap requires it or fills it in")
}

fn sources(matches: &ArgMatches, env: BTreeMap<OsString, OsString>) -> Sources {
    let flags = TABLE
        .iter()
        .filter_map(|setting| {
            let values = matches.get_many::<String>(setting.key)?;
            Some((setting.key, values.cloned().collect()))
        })
        .collect();
    Sources { config: matches.get_one::<PathBuf>("config").cloned(), flags, env }
}

fn command() -> Command {
    let serve = Command::new("serve").about("Run the server until it receives SIGINT or SIGTERM");
    let token = Command::new("token")
        .about("Print a bearer token of the local issuer")
        .arg(
            Arg::new("user")
                .long("user")
                .value_name("NAME")
                .required(true)
                .value_parser(token::parse_user)
                .help("User that the token signs in"),
        )
        .arg(
            Arg::new("ttl")
                .long("ttl")
                .value_name("TIME")
                .default_value("1h")
                .value_parser(token::parse_ttl)
                .help("Lifetime, such as 30s, 15m, 1h or 7d; at most 30d"),
        );
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let migrate = Command::new("migrate")
        .about("Migrate the schema of a PostgreSQL database")
        .arg(switch("dry-run", "Print the pending steps without applying them"))
        .arg(switch(
            "citus",
            "Also distribute the tables over the nodes of a Citus cluster, by vault",
        ));
    let verify = Command::new("verify")
        .about("Check the whole SQLite database for damage, also while the server runs");
    let gc = Command::new("gc")
        .about("Remove old tombstones and replaced versions, and the rows of erased vaults")
        .arg(switch("dry-run", "Count what would be removed, and remove nothing"));
    let config = Command::new("config")
        .about("Print settings")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("default").about("Print a commented file with every default"))
        .subcommand(with_settings(
            Command::new("print")
                .about("Print every value in force and its origin, without secrets"),
        ))
        .subcommand(Command::new("markdown").about("Print docs/CONFIGURATION.md").hide(true));
    Command::new("vaultsync")
        .about("End-to-end encrypted sync server: it moves ciphertext between a user's devices")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(serve))
        .subcommand(with_settings(token))
        .subcommand(with_settings(migrate))
        .subcommand(with_settings(verify))
        .subcommand(with_settings(gc))
        .subcommand(user_command())
        .subcommand(config)
}

/// `vaultsync user`, for operators.
fn user_command() -> Command {
    let json = || {
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help("Print one JSON object a line")
    };
    let of_one = |command: Command| {
        let subject = Arg::new("subject")
            .value_name("USER")
            .required(true)
            .value_parser(token::parse_user)
            .help("The issuer's name for the user (the claim `sub` of tokens)");
        let issuer = Arg::new("issuer")
            .long("issuer")
            .value_name("URL")
            .help("The user's issuer, if several are configured");
        with_settings(command.arg(subject).arg(issuer).arg(json()))
    };
    let confirm = Arg::new("confirm")
        .long("confirm")
        .value_name("USER")
        .required(true)
        .help("The user's name again: an erasure cannot be undone");
    let vault = || {
        Arg::new("vault")
            .long("vault")
            .value_name("NAME")
            .value_parser(parse_vault)
            .help("Only this named vault; all of the user without it")
    };
    let history = Arg::new("history")
        .long("history")
        .action(ArgAction::SetTrue)
        .help("Also export the replaced versions that are kept");
    let out = Arg::new("out")
        .long("out")
        .value_name("FOLDER")
        .default_value(".")
        .value_parser(value_parser!(PathBuf))
        .help("Folder for the files");
    Command::new("user")
        .about("List, show, export and erase users, also while the server runs")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(Command::new("list").about("List all users").arg(json())))
        .subcommand(of_one(Command::new("show").about("Show a user's vaults")))
        .subcommand(of_one(Command::new("usage").about("Show what a user's vaults take up")))
        .subcommand(of_one(
            Command::new("export")
                .about("Write each of a user's vaults to a file, with ciphertexts as they are")
                .arg(vault())
                .arg(history)
                .arg(out),
        ))
        .subcommand(of_one(
            Command::new("erase")
                .about("Erase a user's vaults, for ever")
                .arg(confirm)
                .arg(vault()),
        ))
}

fn parse_vault(text: &str) -> Result<VaultName, String> {
    VaultName::new(text).ok_or_else(|| format!("expected the name of a vault: {}", VaultName::RULE))
}

/// Adds a flag for each setting to a command, grouped under headings.
fn with_settings(command: Command) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help(format!("TOML file with settings [env: {CONFIG_ENV}]"));
    command.after_help(AFTER_HELP).arg(file).args(TABLE.iter().map(flag))
}

fn flag(setting: &Setting) -> Arg {
    let flag = Arg::new(setting.key)
        .long(setting.key.replace('_', "-"))
        .value_name(setting.form())
        .help_heading(setting.group.heading())
        .help(settings::flag_help(setting));
    match setting.kind {
        // The flag alone means `true`. A value needs `=`, so that the next argument is not taken for it.
        Kind::Switch | Kind::AutoSwitch => {
            flag.num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        Kind::List(_) | Kind::Urls(_) | Kind::Keys => flag.action(ArgAction::Append),
        Kind::Text(_) | Kind::Number { .. } => flag,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_passes_the_checks_of_clap() {
        super::command().debug_assert();
    }
}
