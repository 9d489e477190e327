//! What a setting is: its names, its form, its default and its help.
//!
//! Not here: which settings there are (`table.rs`), and what their values mean (`mod.rs`).

/// One setting: a flag, an environment variable and a key of the TOML file.
///
/// Flags, look-up, file, `config default`, `config print` and `docs/CONFIGURATION.md` are all made
/// from this, so that none of them can name a setting the others do not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The TOML key, in snake case. Flag and variable follow from it.
    pub(crate) key: &'static str,
    pub(crate) group: Group,
    pub(crate) kind: Kind,
    /// As it would be written in the environment; empty where there is none.
    pub(crate) default: &'static str,
    /// What holds where nothing is set, for settings whose default depends on others.
    pub(crate) unset: &'static str,
    pub(crate) help: &'static str,
    /// A second variable that counts where the first one is not set.
    pub(crate) other_env: Option<&'static str>,
    /// Whether `NAME_FILE` and `key_file` may name a file that holds the value.
    pub(crate) from_file: bool,
}

/// The form a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text of the form shown.
    Text(&'static str),
    /// A whole number within bounds, both included.
    Number { unit: &'static str, min: u64, max: u64 },
    /// `true` or `false`; the flag alone says `true`.
    Switch,
    /// `auto`, `true` or `false`; the flag alone says `true`.
    AutoSwitch,
    /// Several texts of the form shown: comma separated, or a TOML array.
    List(&'static str),
    /// PEM blocks: one after the other, or a TOML array of them.
    Keys,
    /// URLs of the form shown, which may hold passwords: separated by blanks or commas, or a TOML
    /// array.
    Urls(&'static str),
}

/// The headings under which settings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Server,
    Database,
    Limits,
    Deadlines,
    Rates,
    Clerk,
    Oidc,
}

impl Group {
    /// Every group, in the order in which they are shown.
    pub(crate) const ALL: [Self; 7] = [
        Self::Server,
        Self::Database,
        Self::Clerk,
        Self::Oidc,
        Self::Limits,
        Self::Deadlines,
        Self::Rates,
    ];

    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Server => "Server",
            Self::Database => "Database",
            Self::Limits => "Limits",
            Self::Deadlines => "Deadlines",
            Self::Rates => "Rates",
            Self::Clerk => "Sign-in with Clerk",
            Self::Oidc => "Sign-in with OpenID Connect",
        }
    }
}

impl Setting {
    pub(crate) const fn new(
        key: &'static str,
        group: Group,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { key, group, kind, default, unset: "", help, other_env: None, from_file: false }
    }

    /// The same, with words for what holds where nothing is set.
    pub(crate) const fn unset(mut self, what_holds: &'static str) -> Self {
        self.unset = what_holds;
        self
    }

    pub(crate) const fn or_env(mut self, name: &'static str) -> Self {
        self.other_env = Some(name);
        self
    }

    pub(crate) const fn or_file(mut self) -> Self {
        self.from_file = true;
        self
    }

    /// The long flag, with its dashes.
    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }

    /// The environment variable.
    ///
    /// Clerk's settings keep the names that Clerk's own documentation gives them, because people
    /// have those set already.
    pub(crate) fn env(&self) -> String {
        let name = self.key.to_uppercase();
        if self.group == Group::Clerk { name } else { format!("VAULTSYNC_{name}") }
    }

    /// The variable that names a file with the value.
    pub(crate) fn env_file(&self) -> String {
        format!("{}_FILE", self.env())
    }

    /// The TOML key that names a file with the value.
    pub(crate) fn key_file(&self) -> String {
        format!("{}_file", self.key)
    }

    /// What stands for the value in `--help`.
    pub(crate) fn form(&self) -> &'static str {
        match self.kind {
            Kind::Text(form) | Kind::List(form) | Kind::Urls(form) => form,
            Kind::Number { unit, .. } => unit,
            Kind::Switch => "true|false",
            Kind::AutoSwitch => "auto|true|false",
            Kind::Keys => "PEM",
        }
    }
}
