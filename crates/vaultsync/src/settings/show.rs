//! Settings as people read them: the commented file, the values in force, the page of the manual.
//!
//! Not here: secrets. What may hold one is shown without it.

use std::fmt::Write as _;

use config::{Value, ValueKind};
use vaultsync_server::auth::Issuer;

use super::reader::texts;
use super::setting::{Group, Kind, Setting};
use super::table::{self, TABLE};
use super::{
    Database, Loaded,
    parse::{self, Address},
};

/// A TOML file with every setting at its default, each commented out with a bare `#`.
pub(crate) fn default_file() -> String {
    let mut file = String::from(
        "# The settings of Vaultsync. A line that begins with `#` and a name is a default: take the\n\
         # `#` away to change it. A flag beats a variable, and a variable beats this file.\n",
    );
    for group in Group::ALL {
        let _ = write!(file, "\n\n# --- {} ---\n", group.heading());
        for setting in of(group) {
            let _ = write!(
                file,
                "\n# {}\n# Flag {}, variable {}.{}{}\n#{} = {}\n",
                setting.help,
                setting.flag(),
                variables(setting, ""),
                unset(setting, " Where it is empty: ", "."),
                file_key(setting),
                setting.key,
                default_as_toml(setting),
            );
        }
    }
    file
}

fn file_key(setting: &Setting) -> String {
    if setting.from_file {
        format!("\n# Or {}: a file that holds it.", setting.key_file())
    } else {
        String::new()
    }
}

/// Every setting with the value in force and where it came from, as TOML.
pub(crate) fn in_force(loaded: &Loaded) -> String {
    let mut shown = String::new();
    for group in Group::ALL {
        let _ = writeln!(shown, "# --- {} ---", group.heading());
        for setting in of(group) {
            let value = loaded.values.get(setting.key).cloned().unwrap_or_default();
            let origin = value.origin().unwrap_or_default();
            let value = derived(setting, loaded).unwrap_or_else(|| as_toml(setting, &value));
            let value = hidden(setting, value, loaded);
            let _ = writeln!(shown, "{} = {value} # {origin}", setting.key);
        }
    }
    shown
}

/// What holds for a setting that follows from others where it is not set.
fn derived(setting: &Setting, loaded: &Loaded) -> Option<toml::Value> {
    let settings = &loaded.settings;
    let text = if setting.key == table::DATABASE.key {
        // As they were written, where they were, so that the user is seen.
        let Database::Sqlite(path) = &settings.database else { return None };
        let text = settings.database.to_string();
        // A folder may have a name by which a database could not be given, one with a `?` for example.
        let is_read_so =
            matches!(parse::database(&text), Ok(Address::Sqlite(read)) if read == *path);
        return is_read_so.then(|| vec![text].into());
    } else if setting.key == table::CLERK_ISSUER.key {
        clerk(loaded)?.name().to_owned()
    } else if setting.key == table::CLERK_JWKS_URL.key {
        clerk(loaded)?.keys_url()?.to_owned()
    } else if setting.key == table::LOCAL_ISSUER.key {
        return Some(settings.sign_in.local.into());
    } else {
        return None;
    };
    Some(text.into())
}

/// The Clerk instance that the settings describe, if any; loading them made sure that they do.
fn clerk(loaded: &Loaded) -> Option<Issuer> {
    Issuer::clerk(loaded.settings.sign_in.clerk.clone()?).ok()
}

fn hidden(setting: &Setting, value: toml::Value, loaded: &Loaded) -> toml::Value {
    match (setting.kind, value) {
        (Kind::Urls(_), toml::Value::Array(urls)) => {
            let shown = urls.iter().filter_map(toml::Value::as_str).map(without_password);
            shown.collect::<Vec<_>>().into()
        }
        (Kind::Keys, toml::Value::String(_)) => {
            match clerk(loaded).map_or(0, |clerk| clerk.keys_in_settings()) {
                0 => "".into(),
                1 => "(set, 1 key)".into(),
                count => format!("(set, {count} keys)").into(),
            }
        }
        (_, value) => value,
    }
}

/// A URL with `***` where its password was: after the user's name, or as an option. By hand, because
/// one that names several hosts is no URL to others.
fn without_password(text: &str) -> String {
    if let Ok(Address::Sqlite(_)) = parse::database(text) {
        return text.to_owned();
    }
    // The last `@`: too much is hidden rather than too little.
    let (user, rest) =
        text.rsplit_once('@').map_or((None, text), |(user, rest)| (Some(user), rest));
    let mut shown = String::new();
    if let Some(user) = user {
        shown = match user.split_once("://") {
            // Elsewhere a name alone can be a token.
            Some((scheme, user)) if scheme.starts_with("postgres") => match user.split_once(':') {
                Some((name, _)) => format!("{scheme}://{name}:***@"),
                None => format!("{scheme}://{user}@"),
            },
            Some((scheme, _)) => format!("{scheme}://***@"),
            None => "***@".to_owned(),
        };
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    shown.push_str(place);
    let options = query.split('&').filter(|option| !option.is_empty());
    for (index, option) in options.enumerate() {
        let name = option.split('=').next().unwrap_or_default();
        let option = if name == "password" { "password=***" } else { option };
        let _ = write!(shown, "{}{option}", if index == 0 { '?' } else { '&' });
    }
    shown
}

/// `docs/CONFIGURATION.md`.
pub(crate) fn markdown() -> String {
    let mut page = String::from(include_str!("configuration_head.md"));
    for group in Group::ALL {
        let _ = write!(
            page,
            "\n## {}\n\n| Key | Variable | Form | Default | What it is |\n| --- | --- | --- | --- | --- |\n",
            group.heading()
        );
        for setting in of(group) {
            let default = match (setting.default, setting.unset) {
                ("", "") => "none".to_owned(),
                ("", unset) => unset.to_owned(),
                (default, _) => format!("`{default}`"),
            };
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {default} | {} |",
                setting.key,
                variables(setting, "`"),
                form(setting),
                setting.help,
            );
        }
    }
    page
}

/// The form of a value, with its bounds, for a cell of a Markdown table.
fn form(setting: &Setting) -> String {
    match setting.kind {
        Kind::Number { unit, min, max } => {
            let unit = unit.to_lowercase().replace('_', " ");
            format!("{unit}, {min} to {max}")
        }
        Kind::List(form) | Kind::Urls(form) => {
            format!("list of `{}`", form.replace('|', "` or `"))
        }
        _ => format!("`{}`", setting.form().replace('|', "\\|")),
    }
}

/// The variables of a setting, each within `quote`.
fn variables(setting: &Setting, quote: &str) -> String {
    let mut names = vec![setting.env()];
    names.extend(setting.other_env.map(str::to_owned));
    if setting.from_file {
        names.push(setting.env_file());
        names.extend(setting.other_env.map(|name| format!("{name}_FILE")));
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("{quote}{name}{quote}")).collect();
    quoted.join(" or ")
}

fn unset(setting: &Setting, before: &str, after: &str) -> String {
    if setting.unset.is_empty() {
        String::new()
    } else {
        format!("{before}{}{after}", setting.unset)
    }
}

fn of(group: Group) -> impl Iterator<Item = &'static Setting> {
    TABLE.iter().filter(move |setting| setting.group == group)
}

pub(crate) fn default_as_toml(setting: &Setting) -> toml::Value {
    as_toml(setting, &Value::new(None, setting.default))
}

/// A value as one would write it in the file, whatever form its source gave it.
pub(crate) fn as_toml(setting: &Setting, value: &Value) -> toml::Value {
    if let Kind::List(_) | Kind::Urls(_) = setting.kind {
        return texts(setting, value.clone()).unwrap_or_default().into();
    }
    // Keys are an array only in the file; here they matter as one text.
    let text = match &value.kind {
        ValueKind::Array(_) => texts(setting, value.clone()).unwrap_or_default().join("\n"),
        kind => kind.to_string(),
    };
    let typed = match setting.kind {
        Kind::Number { .. } => text.parse::<i64>().ok().map(toml::Value::from),
        Kind::Switch => parse::switch(&text).ok().map(toml::Value::from),
        _ => None,
    };
    typed.unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
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
