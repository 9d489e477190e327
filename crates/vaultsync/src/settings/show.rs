//! Settings in the forms that people read: `--help`, the commented file, the values in force, the
//! manual page.
//!
//! Invariant: no secret is shown.

use std::fmt::Write as _;

use toml::Value;

use super::parse::{self, Address};
use super::setting::{Kind, Setting};
use super::sources::Found;
use super::table::TABLE;
use super::{Database, Loaded};

/// Help of a setting's flag.
pub(crate) fn flag_help(setting: &Setting) -> String {
    let mut help = setting.help.to_owned();
    for (name, text) in
        [("", bounds(setting)), ("default: ", default(setting, "")), ("env: ", setting.env())]
    {
        if !text.is_empty() {
            let _ = write!(help, " [{name}{text}]");
        }
    }
    help
}

/// A TOML file with every setting at its default, each commented out with a bare `#`.
pub(crate) fn default_file() -> String {
    let mut file = String::from(
        "# Settings of Vaultsync. A line that starts with `#` and a name is a default: remove the `#`\n\
         # to change it. A flag overrides a variable, and a variable overrides this file.\n",
    );
    for group in groups() {
        let _ = write!(file, "\n\n# --- {} ---\n", group[0].group.heading());
        for setting in group {
            let (flag, variables) = (setting.flag(), variables(setting, ""));
            let _ = writeln!(file, "\n# {}\n# Flag {flag}, variable {variables}.", setting.help);
            if let Some(key) = setting.key_file() {
                let _ = writeln!(file, "# Or {key}: path of a file that contains the value.");
            }
            for (name, text) in [("Bounds", bounds(setting)), ("If empty", setting.if_empty.into())]
            {
                if !text.is_empty() {
                    let _ = writeln!(file, "# {name}: {text}.");
                }
            }
            let _ = writeln!(file, "#{} = {}", setting.key, setting.default);
        }
    }
    file
}

/// Every setting with the value in force and its origin, as TOML.
pub(crate) fn in_force(loaded: &Loaded) -> String {
    let mut shown = String::new();
    for group in groups() {
        let _ = writeln!(shown, "# --- {} ---", group[0].group.heading());
        for setting in group {
            let Found { value, origin, .. } = &loaded.values[setting.key];
            let value = derived(setting, loaded).unwrap_or_else(|| value.clone());
            let value = without_secrets(setting, value, loaded);
            let _ = writeln!(shown, "{} = {value} # {origin}", setting.key);
        }
    }
    shown
}

/// The value of a setting that follows from others while it is not set.
fn derived(setting: &Setting, loaded: &Loaded) -> Option<Value> {
    let settings = &loaded.settings;
    match setting.key {
        // PostgreSQL addresses are shown as they were written, with their users.
        "database" => {
            let Database::Sqlite(path) = &settings.database else { return None };
            let text = settings.database.to_string();
            // The name of a folder can make the text unreadable as a database, a `?` for example.
            let is_readable = parse::database(&text) == Ok(Address::Sqlite(path.clone()));
            is_readable.then(|| vec![text].into())
        }
        "clerk_issuer" => Some(settings.sign_in.clerk_issuer()?.name().into()),
        "clerk_jwks_url" => Some(settings.sign_in.clerk_issuer()?.keys_url()?.into()),
        "local_issuer" => Some(settings.sign_in.local.into()),
        _ => None,
    }
}

fn without_secrets(setting: &Setting, value: Value, loaded: &Loaded) -> Value {
    match (setting.kind, value) {
        (Kind::Urls(_), Value::Array(urls)) => {
            let shown = urls.iter().filter_map(Value::as_str).map(without_password);
            shown.collect::<Vec<_>>().into()
        }
        (Kind::Keys, _) => {
            match loaded.settings.sign_in.clerk_issuer().map_or(0, |clerk| clerk.keys_in_settings())
            {
                0 => "".into(),
                1 => "(set, 1 key)".into(),
                count => format!("(set, {count} keys)").into(),
            }
        }
        (_, value) => value,
    }
}

/// A URL with `***` in place of its password, which follows the user's name or is an option. It is not
/// parsed by a library, because libraries reject a URL with several hosts.
fn without_password(text: &str) -> String {
    if let Ok(Address::Sqlite(_)) = parse::database(text) {
        return text.to_owned();
    }
    // Splits at the last `@`, which hides too much rather than too little.
    let (user, rest) =
        text.rsplit_once('@').map_or((None, text), |(user, rest)| (Some(user), rest));
    let mut shown = String::new();
    if let Some(user) = user {
        shown = match user.split_once("://") {
            // With other schemes a name alone can be a token.
            Some((scheme, user)) if scheme.starts_with("postgres") => match user.split_once(':') {
                Some((name, _)) => format!("{scheme}://{name}:***@"),
                None => format!("{scheme}://{user}@"),
            },
            Some((scheme, _)) => format!("{scheme}://***@"),
            None => "***@".to_owned(),
        };
    }
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    shown.push_str(address);
    let options = query.split('&').filter(|option| !option.is_empty());
    for (index, option) in options.enumerate() {
        let name = option.split('=').next().unwrap_or_default();
        let option = if name == "password" { "password=***" } else { option };
        let _ = write!(shown, "{}{option}", if index == 0 { '?' } else { '&' });
    }
    shown
}

/// `docs/CONFIGURATION.md`
pub(crate) fn markdown() -> String {
    let mut page = String::from(include_str!("configuration_head.md"));
    for group in groups() {
        let _ = write!(
            page,
            "\n## {}\n\n| Key | Variable | Form | Default | Description |\n| --- | --- | --- | --- | --- |\n",
            group[0].group.heading()
        );
        for setting in group {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} |",
                setting.key,
                variables(setting, "`"),
                form(setting),
                default(setting, "`"),
                setting.help,
            );
        }
    }
    page
}

/// The form of a value with its bounds, as a cell of a Markdown table.
fn form(setting: &Setting) -> String {
    match setting.kind {
        Kind::Number { unit, .. } => format!("{unit}, {}", bounds(setting)),
        Kind::List(form) | Kind::Urls(form) => format!("list of `{}`", form.replace('|', "` or `")),
        _ => format!("`{}`", setting.form().replace('|', "\\|")),
    }
}

/// The bounds of a number, empty for another kind.
fn bounds(setting: &Setting) -> String {
    match setting.kind {
        Kind::Number { min, max, .. } => format!("{min} to {max}"),
        _ => String::new(),
    }
}

/// The default, a value within `quote`. If it is empty, what applies instead.
fn default(setting: &Setting, quote: &str) -> String {
    let value = match &setting.default {
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    if value.is_empty() { setting.if_empty.to_owned() } else { format!("{quote}{value}{quote}") }
}

/// The variables of a setting, each within `quote`.
fn variables(setting: &Setting, quote: &str) -> String {
    let names = setting.variables().flat_map(|(name, name_file)| [Some(name), name_file]);
    let quoted: Vec<_> = names.flatten().map(|name| format!("{quote}{name}{quote}")).collect();
    quoted.join(" or ")
}

/// The settings of each heading.
fn groups() -> impl Iterator<Item = &'static [Setting]> {
    TABLE.chunk_by(|setting, next| setting.group == next.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hidden() {
        for (url, shown) in [
            ("postgres://ann:s3cret@db/x", "postgres://ann:***@db/x"),
            ("postgres://ann@db/x", "postgres://ann@db/x"),
            ("postgres://ann:s3@cret@a:1,b:2/x", "postgres://ann:***@a:1,b:2/x"),
            ("nats://s3cret@db", "nats://***@db"),
            ("s3cret@db:4222", "***@db:4222"),
            ("postgres://me:s3?cr@et@h/n?sslmode=require", "postgres://me:***@h/n?sslmode=require"),
            ("postgres://db/x?user=ann&password=s3cret", "postgres://db/x?user=ann&password=***"),
            ("sqlite:/var/lib/v.sqlite3", "sqlite:/var/lib/v.sqlite3"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
