//! Sources of values: flags before environment before file before defaults.
//!
//! Not here: the meaning of a value. A value leaves this file as it was written, with its origin.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::errors::ConfigErrors;
use super::setting::{Kind, Setting};
use super::table::TABLE;
use super::value;

/// Variable that names the TOML file.
pub(crate) const CONFIG_ENV: &str = "VAULTSYNC_CONFIG";

/// What the process was started with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Path of the flag `--config`.
    pub(crate) config: Option<PathBuf>,
    /// Values of each flag, by the key of its setting.
    pub(crate) flags: BTreeMap<&'static str, Vec<String>>,
    /// The whole environment.
    pub(crate) env: BTreeMap<OsString, OsString>,
}

/// A value and the flag, the variable or the key of the file that it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) setting: &'static Setting,
    pub(crate) value: Value,
    pub(crate) origin: String,
}

/// The value in force of each setting, by its key.
pub(crate) type Values = BTreeMap<&'static str, Found>;

/// Finds the value in force of each setting. What cannot be read is added to `errors`.
pub(crate) fn find(sources: &Sources, errors: &mut ConfigErrors) -> Values {
    let file = read_file(sources, errors).unwrap_or_default();
    let find = |setting: &'static Setting| {
        // Every source is read, so that errors are reported of those that are overridden too.
        let flag = flag(setting, &sources.flags, errors);
        let variable = variable(setting, &sources.env, errors);
        let key = key(setting, &file, errors);
        let default = || (setting.default.clone(), "default".to_owned());
        let (value, origin) = flag.or(variable).or(key).unwrap_or_else(default);
        let value = value::normalize(setting.kind, value);
        (setting.key, Found { setting, value, origin })
    };
    TABLE.iter().map(find).collect()
}

/// A value and its origin.
type Written = (Value, String);

fn flag(
    setting: &Setting,
    flags: &BTreeMap<&'static str, Vec<String>>,
    errors: &mut ConfigErrors,
) -> Option<Written> {
    // A repeated flag is one list, and each repetition may be a list of its own.
    let separator = match setting.kind {
        Kind::Keys | Kind::Urls(_) => "\n",
        _ => ",",
    };
    let value = flags.get(setting.key)?.join(separator).into();
    not_blank(setting, (value, setting.flag()), errors)
}

/// The value, unless it is blank. Blank does not mean the default: a secret that is empty by mistake would
/// otherwise start a server on another database, or with another sign-in, than its operator believes.
fn not_blank(
    setting: &Setting,
    (value, origin): Written,
    errors: &mut ConfigErrors,
) -> Option<Written> {
    if value::is_blank(setting.kind, &value) {
        let what = "is blank: give it a value, or remove it to get the default";
        errors.add(setting.key, &origin, what);
        return None;
    }
    Some((value, origin))
}

fn variable(
    setting: &Setting,
    env: &BTreeMap<OsString, OsString>,
    errors: &mut ConfigErrors,
) -> Option<Written> {
    setting.variables().find_map(|(name, name_file)| {
        let mut read = |name: String| {
            let text = env.get(OsStr::new(&name))?;
            let text = text.to_str().or_else(|| {
                errors.add(setting.key, &name, "is not UTF-8");
                None
            })?;
            not_blank(setting, (text.into(), name), errors)
        };
        let (value, path) = (read(name), name_file.and_then(read));
        value_or_file(setting, value, path, errors)
    })
}

fn key(setting: &Setting, file: &ConfigFile, errors: &mut ConfigErrors) -> Option<Written> {
    let mut read = |key: &str| {
        let written = (file.keys.get(key)?.clone(), format!("{}: {key}", file.path));
        // The file from `config default` has every default, and some are empty.
        if key == setting.key && written.0 == setting.default {
            return Some(written);
        }
        not_blank(setting, written, errors)
    };
    let path = setting.key_file().and_then(|key| read(&key));
    let value = read(setting.key);
    value_or_file(setting, value, path, errors)
}

/// The value, or the content of the file at the path, without the newline at its end.
fn value_or_file(
    setting: &Setting,
    value: Option<Written>,
    path: Option<Written>,
    errors: &mut ConfigErrors,
) -> Option<Written> {
    let Some((path, path_origin)) = path else { return value };
    if let Some((_, origin)) = value {
        let what = format!("it and {path_origin} are both set: set only one of them");
        errors.add(setting.key, &origin, what);
        return None;
    }
    let content = value::text(&path).and_then(|path| {
        fs::read_to_string(&path).map_err(|error| format!("{path} cannot be read: {error}"))
    });
    match content {
        Ok(text) if text.trim().is_empty() => {
            let what = format!("{} is empty", value::text(&path).unwrap_or_default());
            errors.add(setting.key, &path_origin, what);
            None
        }
        Ok(text) => {
            let text = text.trim_end_matches(['\r', '\n']);
            not_blank(setting, (text.into(), path_origin), errors)
        }
        Err(what) => {
            errors.add(setting.key, &path_origin, what);
            None
        }
    }
}

/// Content of the TOML file.
#[derive(Default)]
struct ConfigFile {
    path: String,
    keys: Table,
}

fn read_file(sources: &Sources, errors: &mut ConfigErrors) -> Option<ConfigFile> {
    let named = || Some((PathBuf::from(sources.env.get(OsStr::new(CONFIG_ENV))?), CONFIG_ENV));
    let flag = sources.config.clone().map(|path| (path, "--config"));
    let (path, origin) = flag.or_else(named)?;
    if path.to_string_lossy().trim().is_empty() {
        errors.add("", origin, "is blank: name a file, or remove it");
        return None;
    }
    let shown = path.display().to_string();
    let keys = read_toml(&path).map_err(|what| errors.add("", &shown, what)).ok()?;
    let known: BTreeSet<String> = TABLE
        .iter()
        .flat_map(|setting| [Some(setting.key.to_owned()), setting.key_file()])
        .flatten()
        .collect();
    for key in keys.keys().filter(|key| !known.contains(*key)) {
        errors.add("", &shown, format!("there is no setting `{key}`{}", nearest(key, &known)));
    }
    Some(ConfigFile { path: shown, keys })
}

fn read_toml(path: &Path) -> Result<Table, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    // Without the line itself, which may contain a secret.
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("line {}: {}", before.matches('\n').count() + 1, error.message())
    })
}

/// Warnings about variables that look like settings and are none.
///
/// They are not errors: if a service is called `vaultsync`, Kubernetes sets variables such as
/// `VAULTSYNC_PORT` and `VAULTSYNC_SERVICE_HOST` in each container of its namespace, and the server
/// must start there.
pub(crate) fn unknown_variables(env: &BTreeMap<OsString, OsString>) -> Vec<String> {
    let known: BTreeSet<String> = TABLE
        .iter()
        .flat_map(Setting::variables)
        .flat_map(|(name, name_file)| [Some(name), name_file])
        .flatten()
        .chain([CONFIG_ENV.to_owned()])
        .collect();
    env.keys()
        .filter_map(|name| name.to_str())
        .filter(|name| name.starts_with("VAULTSYNC_") && !name.starts_with("VAULTSYNC_TEST_"))
        .filter(|name| !known.contains(*name))
        .map(|name| {
            let nearest = nearest(name, &known);
            format!("the environment variable {name} is not a setting and has no effect{nearest}")
        })
        .collect()
}

/// `; did you mean ...?` if a known name is similar enough.
fn nearest(name: &str, known: &BTreeSet<String>) -> String {
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(similarity, _)| *similarity > 0.9)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}
