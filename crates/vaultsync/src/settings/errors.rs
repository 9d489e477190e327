//! All errors of a configuration, reported at once.

use std::fmt;

/// Every error in the settings. The text never contains a secret.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigErrors(Vec<ConfigError>);

#[derive(Debug, PartialEq, Eq)]
struct ConfigError {
    /// Key of the setting, empty if the error is not about a single one.
    key: String,
    /// Flag, variable, or file and key that the value comes from. Empty if there is none.
    origin: String,
    what: String,
}

impl ConfigErrors {
    /// A single error in the settings as a whole.
    pub(crate) fn one(what: impl Into<String>) -> Self {
        let mut errors = Self::default();
        errors.add("", "", what);
        errors
    }

    pub(crate) fn add(&mut self, key: &str, origin: &str, what: impl Into<String>) {
        let (key, origin, what) = (key.to_owned(), origin.to_owned(), what.into());
        self.0.push(ConfigError { key, origin, what });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the errors concerns one of these settings.
    pub(crate) fn concern(&self, keys: &[&str]) -> bool {
        self.0.iter().any(|error| keys.contains(&error.key.as_str()))
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings are invalid:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), self.origin.as_str()) {
            ("", "") => {}
            ("", origin) => write!(f, "{origin}: ")?,
            (key, "") => write!(f, "{key}: ")?,
            (key, origin) => write!(f, "{key} ({origin}): ")?,
        }
        f.write_str(&self.what)
    }
}
