//! Where values come from: flags before environment before file before defaults.
//!
//! Not here: what a value means. A value leaves this file as it was written, with its origin.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::errors::ConfigErrors;
use super::setting::{Kind, Setting};
use super::table::TABLE;

/// What the process was given to find its settings in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// What `--config` said.
    pub(crate) config: Option<PathBuf>,
    /// The values of each flag, by the key of its setting.
    pub(crate) flags: BTreeMap<&'static str, Vec<String>>,
    /// The whole environment.
    pub(crate) env: BTreeMap<OsString, OsString>,
}

/// The variable that names the TOML file.
pub(crate) const CONFIG_ENV: &str = "VAULTSYNC_CONFIG";

/// The origin of a value that nobody gave.
pub(crate) const DEFAULT_ORIGIN: &str = "default";

/// The value in force of each setting, by its key.
pub(crate) type Values = Map<String, Value>;

/// Folds every source into one value for each setting.
///
/// What cannot be read is added to `problems`, and what is merely suspicious to `warnings`.
pub(crate) fn fold(
    sources: &Sources,
    problems: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) -> Values {
    let folded = Config::builder()
        .add_source(defaults())
        .add_source(file(sources, problems))
        .add_source(environment(&sources.env, problems))
        .add_source(flags(&sources.flags))
        .build()
        .and_then(|config| config.collect());
    warnings.extend(unknown_variables(&sources.env));
    folded.unwrap_or_else(|error| {
        problems.add("", "", error.to_string());
        Values::new()
    })
}

/// One source's values.
#[derive(Clone, Debug, Default)]
struct Layer(Values);

impl Layer {
    fn set(&mut self, setting: &Setting, origin: &str, kind: impl Into<ValueKind>) {
        let value = Value::new(Some(&origin.to_owned()), kind);
        self.0.insert(setting.key.to_owned(), value);
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Values, ConfigError> {
        Ok(self.0.clone())
    }
}

fn defaults() -> Layer {
    let mut layer = Layer::default();
    for setting in TABLE {
        layer.set(setting, DEFAULT_ORIGIN, setting.default);
    }
    layer
}

fn flags(given: &BTreeMap<&'static str, Vec<String>>) -> Layer {
    let mut layer = Layer::default();
    for setting in TABLE {
        if let Some(said) = given.get(setting.key) {
            // A flag said several times is one list, and each time may be a list of its own.
            let between = match setting.kind {
                Kind::Keys | Kind::Urls(_) => "\n",
                _ => ",",
            };
            layer.set(setting, &setting.flag(), said.join(between));
        }
    }
    layer
}

fn environment(env: &BTreeMap<OsString, OsString>, problems: &mut ConfigErrors) -> Layer {
    let mut layer = Layer::default();
    for setting in TABLE {
        let mut names = vec![setting.env()];
        names.extend(setting.other_env.map(str::to_owned));
        for name in names {
            if let Some((origin, text)) = variable(setting, &name, env, problems) {
                layer.set(setting, &origin, text);
                break;
            }
        }
    }
    layer
}

/// The value of a variable, or of the file that its `_FILE` twin names, and which of them it was.
fn variable(
    setting: &Setting,
    name: &str,
    env: &BTreeMap<OsString, OsString>,
    problems: &mut ConfigErrors,
) -> Option<(String, String)> {
    let mut value_of = |name: &str| {
        // An empty variable counts as not set: that is all that many ways to start a process can
        // do to take a variable away.
        let value = env.get(OsString::from(name).as_os_str())?;
        let Some(text) = value.to_str() else {
            problems.add(setting.key, name, "is not UTF-8");
            return None;
        };
        (!text.is_empty()).then(|| text.to_owned())
    };
    let text = value_of(name);
    let name_file = format!("{name}_FILE");
    let path = if setting.from_file { value_of(&name_file) } else { None };
    match (text, path) {
        (Some(_), Some(_)) => {
            let what = format!("{name} and {name_file} are both set: set one of them");
            problems.add(setting.key, name, what);
            None
        }
        (Some(text), None) => Some((name.to_owned(), text)),
        (None, Some(path)) => {
            let text = read_value(setting, &name_file, &path, problems)?;
            Some((name_file, text))
        }
        (None, None) => None,
    }
}

fn file(sources: &Sources, problems: &mut ConfigErrors) -> Layer {
    let mut layer = Layer::default();
    let Some(path) = config_path(sources) else {
        return layer;
    };
    let shown = path.display().to_string();
    let keys = match read_toml(&path) {
        Ok(keys) => keys,
        Err(what) => {
            problems.add("", &shown, what);
            return layer;
        }
    };
    // The map has no order of its own; what is said should be the same every time.
    for key in keys.keys().collect::<BTreeSet<_>>() {
        if let Some(what) = unknown_key(key) {
            problems.add("", &shown, what);
        }
    }
    for setting in TABLE {
        let origin = format!("{shown}: {}", setting.key);
        let key_file = setting.key_file();
        let path = keys.get(&key_file).filter(|_| setting.from_file);
        match (keys.get(setting.key), path) {
            (Some(_), Some(_)) => {
                let what = format!("{} and {key_file} are both set: set one of them", setting.key);
                problems.add(setting.key, &shown, what);
            }
            (Some(value), None) => layer.set(setting, &origin, value.kind.clone()),
            (None, Some(path)) => {
                let origin = format!("{shown}: {key_file}");
                let text = read_value(setting, &origin, &path.to_string(), problems);
                if let Some(text) = text {
                    layer.set(setting, &origin, text);
                }
            }
            (None, None) => {}
        }
    }
    layer
}

fn config_path(sources: &Sources) -> Option<PathBuf> {
    sources.config.clone().or_else(|| {
        let named = sources.env.get(OsString::from(CONFIG_ENV).as_os_str())?;
        (!named.is_empty()).then(|| PathBuf::from(named))
    })
}

fn read_toml(path: &Path) -> Result<Values, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    File::from_str(&text, FileFormat::Toml).collect().map_err(|error| toml_error(&text, &error))
}

/// What is wrong with a file's TOML, without the line that shows it, which may hold a secret.
fn toml_error(text: &str, error: &ConfigError) -> String {
    let cause = match error {
        ConfigError::FileParse { cause, .. } => cause.downcast_ref::<toml::de::Error>(),
        _ => None,
    };
    let Some(cause) = cause else {
        return "is not valid TOML".to_owned();
    };
    let before = cause.span().and_then(|span| text.get(..span.start));
    let line = before.unwrap_or_default().matches('\n').count() + 1;
    format!("line {line}: {}", cause.message())
}

/// The content of the file that a setting's `_FILE` names, without the newline at its end.
fn read_value(
    setting: &Setting,
    origin: &str,
    path: &str,
    problems: &mut ConfigErrors,
) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => {
            problems.add(setting.key, origin, format!("{path} cannot be read: {error}"));
            None
        }
    }
}

/// What to say of a key of the file that is no setting's.
fn unknown_key(key: &str) -> Option<String> {
    let known: Vec<String> = TABLE
        .iter()
        .flat_map(|setting| {
            let key_file = setting.from_file.then(|| setting.key_file());
            [Some(setting.key.to_owned()), key_file]
        })
        .flatten()
        .collect();
    if known.iter().any(|name| name == key) {
        return None;
    }
    let nearest = nearest(key, known.iter().map(String::as_str));
    Some(format!("there is no setting `{key}`{nearest}"))
}

/// Variables that look like a setting and are none.
///
/// They only warn: for a service of the name `vaultsync`, Kubernetes gives every container of the
/// namespace variables such as `VAULTSYNC_PORT` and `VAULTSYNC_SERVICE_HOST`, and the server must
/// start beside them.
fn unknown_variables(env: &BTreeMap<OsString, OsString>) -> Vec<String> {
    let mut known = vec![CONFIG_ENV.to_owned()];
    for setting in TABLE {
        known.push(setting.env());
        if setting.from_file {
            known.push(setting.env_file());
        }
    }
    env.keys()
        .filter_map(|name| name.to_str())
        .filter(|name| name.starts_with("VAULTSYNC_") && !name.starts_with("VAULTSYNC_TEST_"))
        .filter(|name| !known.iter().any(|known| known == name))
        .map(|name| {
            let nearest = nearest(name, known.iter().map(String::as_str));
            format!("the environment variable {name} is no setting and has no effect{nearest}")
        })
        .collect()
}

/// `; did you mean ...?` where a known name is close enough to be what was meant.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.9)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}
