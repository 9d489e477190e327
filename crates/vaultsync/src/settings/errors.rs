//! What is wrong with the settings, said all at once.
//!
//! Not here: what makes a value wrong.

use std::fmt;

/// Everything that was wrong with the settings. Its text never holds a secret.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigErrors(Vec<ConfigError>);

#[derive(Debug, PartialEq, Eq)]
struct ConfigError {
    /// The setting's key; empty where none is to blame.
    key: String,
    /// Where its value came from: a flag, a variable, or a file and a key.
    origin: String,
    what: String,
}

impl ConfigErrors {
    /// A single thing that is wrong with the settings as a whole.
    pub(crate) fn one(what: impl Into<String>) -> Self {
        let mut problems = Self::default();
        problems.add("", "", what);
        problems
    }

    pub(crate) fn add(&mut self, key: &str, origin: &str, what: impl Into<String>) {
        self.0.push(ConfigError {
            key: key.to_owned(),
            origin: origin.to_owned(),
            what: what.into(),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of these settings is among those that are wrong.
    pub(crate) fn touch(&self, keys: &[&str]) -> bool {
        self.0.iter().any(|problem| keys.contains(&problem.key.as_str()))
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings cannot be used:")?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
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
