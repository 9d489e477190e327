//! Setting: its names, form, default and help.
//!
//! Not here: the list of settings (`table.rs`).

use toml::Value;

/// One setting: a flag, an environment variable and a key of the TOML file.
///
/// Flags, look-up, `config default`, `config print` and `docs/CONFIGURATION.md` all iterate over the
/// same table of these, so none of them can miss a setting.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) group: Group,
    /// TOML key in snake case. The names of the flag and of the variable follow from it.
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    /// An empty text or list if there is none.
    pub(crate) default: Value,
    /// What applies while the value is empty.
    pub(crate) if_empty: &'static str,
    pub(crate) help: &'static str,
    /// Second variable, read if the first one is not set.
    pub(crate) other_env: Option<&'static str>,
    /// Whether `NAME_FILE` and `key_file` may name a file that contains the value.
    pub(crate) has_file: bool,
}

/// Form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text of the form shown.
    Text(&'static str),
    /// Whole number from `min` to `max`.
    Number { unit: &'static str, min: u64, max: u64 },
    /// `true` or `false`. The flag alone means `true`.
    Switch,
    /// `auto`, `true` or `false`. The flag alone means `true`.
    AutoSwitch,
    /// Texts of the form shown: comma separated, or a TOML array.
    List(&'static str),
    /// PEM blocks: one after the other, or a TOML array of them.
    Keys,
    /// URLs of the form shown, which may contain passwords: separated by blanks or commas, or a TOML
    /// array.
    Urls(&'static str),
}

/// Heading under which a setting is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Server,
    Database,
    Clerk,
    Oidc,
    Limits,
    Deadlines,
    Rates,
}

impl Group {
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Server => "Server",
            Self::Database => "Database",
            Self::Clerk => "Sign-in with Clerk",
            Self::Oidc => "Sign-in with OpenID Connect",
            Self::Limits => "Limits",
            Self::Deadlines => "Deadlines",
            Self::Rates => "Rates",
        }
    }
}

impl Setting {
    pub(crate) fn new(
        group: Group,
        key: &'static str,
        kind: Kind,
        default: impl Into<Value>,
        help: &'static str,
    ) -> Self {
        let default = default.into();
        Self { group, key, kind, default, if_empty: "", help, other_env: None, has_file: false }
    }

    /// Says what applies while the value is empty.
    pub(crate) fn if_empty(self, if_empty: &'static str) -> Self {
        Self { if_empty, ..self }
    }

    /// Adds a variable that is read if the first one is not set.
    pub(crate) fn or_env(self, name: &'static str) -> Self {
        Self { other_env: Some(name), ..self }
    }

    /// Lets a file contain the value.
    pub(crate) fn or_file(self) -> Self {
        Self { has_file: true, ..self }
    }

    /// Long flag, with its dashes.
    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }

    /// Environment variable.
    ///
    /// Clerk's settings have the names of Clerk's own documentation, because most deployments have
    /// those set already.
    pub(crate) fn env(&self) -> String {
        let name = self.key.to_uppercase();
        if self.group == Group::Clerk { name } else { format!("VAULTSYNC_{name}") }
    }

    /// All variables in the order of their precedence, each with the one that names a file instead.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (String, Option<String>)> {
        let names = std::iter::once(self.env()).chain(self.other_env.map(str::to_owned));
        names.map(|name| {
            let file = self.has_file.then(|| format!("{name}_FILE"));
            (name, file)
        })
    }

    /// TOML key that names a file with the value.
    pub(crate) fn key_file(&self) -> Option<String> {
        self.has_file.then(|| format!("{}_file", self.key))
    }

    /// Placeholder of the value in `--help`.
    pub(crate) fn form(&self) -> String {
        match self.kind {
            Kind::Text(form) | Kind::List(form) | Kind::Urls(form) => form.to_owned(),
            Kind::Number { unit, .. } => unit.to_uppercase().replace(' ', "_"),
            Kind::Switch => "true|false".to_owned(),
            Kind::AutoSwitch => "auto|true|false".to_owned(),
            Kind::Keys => "PEM".to_owned(),
        }
    }
}
