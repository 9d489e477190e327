//! Typed reading of settings; errors are collected.
//!
//! Not here: the sources of values (`sources.rs`) and the forms themselves (`parse.rs`).

use super::errors::ConfigErrors;
use super::setting::Kind;
use super::sources::{Found, Values};
use super::{parse, value};

/// Reads settings one by one and collects all errors, so that they are reported together.
///
/// The default replaces a value that does not fit. The result is used only if there were no errors.
/// A key that is not in the table is a bug and panics.
pub(crate) struct Reader<'a> {
    values: &'a Values,
    errors: &'a mut ConfigErrors,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(values: &'a Values, errors: &'a mut ConfigErrors) -> Self {
        Self { values, errors }
    }

    /// A value that is never missing.
    pub(crate) fn required<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let found = self.found(key);
        let parse = |value| value::text(value).and_then(|text| parse(&text));
        parse(&found.value).unwrap_or_else(|what| {
            self.refuse(key, what);
            parse(&found.setting.default).expect("a test parses every default")
        })
    }

    /// A value that may be missing or, which means the same, empty.
    pub(crate) fn optional<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match value::text(&self.found(key).value) {
            Ok(text) if text.is_empty() => None,
            read => read.and_then(|text| parse(&text)).map_err(|what| self.refuse(key, what)).ok(),
        }
    }

    /// A text as it is written, `None` if it is empty.
    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        self.optional(key, |text| Ok(text.to_owned()))
    }

    /// A list of values of one form.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Found { setting, value, .. } = self.found(key);
        let texts = value::texts(setting.kind, value).unwrap_or_else(|what| {
            self.refuse(key, what);
            Vec::new()
        });
        let mut parse_one = |text: &String| parse(text).map_err(|what| self.refuse(key, what)).ok();
        texts.iter().filter_map(&mut parse_one).collect()
    }

    /// A list of texts as they are written.
    pub(crate) fn texts(&mut self, key: &str) -> Vec<String> {
        self.list(key, |text| Ok(text.to_owned()))
    }

    /// A whole number within the bounds of its setting.
    pub(crate) fn number<T: TryFrom<u64>>(&mut self, key: &str) -> T {
        let Kind::Number { min, max, .. } = self.found(key).setting.kind else {
            unreachable!("{key} is not a number")
        };
        self.required(key, |text| {
            let number: u64 = parse::number(text)?;
            let bounded = (min..=max).contains(&number).then(|| number.try_into().ok()).flatten();
            bounded.ok_or_else(|| format!("must be from {min} to {max}, not {number}"))
        })
    }

    pub(crate) fn switch(&mut self, key: &str) -> bool {
        self.required(key, parse::switch)
    }

    /// Whether a setting has a value other than its default.
    ///
    /// A default that is written out does not count: the file from `config default` means the same
    /// when it is uncommented.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        let found = self.found(key);
        found.value != found.setting.default
    }

    /// Whether all of these settings were read without an error, so that a rule across them applies.
    pub(crate) fn could_read(&self, keys: &[&str]) -> bool {
        !self.errors.concern(keys)
    }

    /// Reports that the value of a setting cannot be used.
    pub(crate) fn refuse(&mut self, key: &str, what: impl Into<String>) {
        let origin = &self.found(key).origin;
        self.errors.add(key, origin, what);
    }

    fn found(&self, key: &str) -> &'a Found {
        self.values.get(key).unwrap_or_else(|| panic!("there is no setting {key}"))
    }
}
