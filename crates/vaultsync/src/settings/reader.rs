//! Values as written, turned into types; what does not fit is collected.
//!
//! Not here: where values come from (`layers.rs`) and the forms themselves (`parse.rs`).

use config::{Value, ValueKind};

use super::errors::ConfigErrors;
use super::layers::Values;
use super::setting::{Kind, Setting};
use super::show::{as_toml, default_as_toml};

/// Reads settings one by one and keeps every problem met, so that all of them are told together.
///
/// A value that does not fit is replaced by the default: what is read is used only where there
/// were no problems.
pub(crate) struct Reader<'a> {
    values: &'a Values,
    problems: &'a mut ConfigErrors,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(values: &'a Values, problems: &'a mut ConfigErrors) -> Self {
        Self { values, problems }
    }

    /// A value that is always there.
    pub(crate) fn required<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let parsed = self.text(setting).and_then(|text| parse(&text));
        match parsed {
            Ok(value) => value,
            Err(what) => {
                self.refuse(setting, what);
                parse(setting.default).expect("a test parses every default")
            }
        }
    }

    /// A value that may be missing; empty text is as good as none.
    pub(crate) fn optional<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.text(setting) {
            Ok(text) if text.is_empty() => None,
            read => {
                read.and_then(|text| parse(&text)).map_err(|what| self.refuse(setting, what)).ok()
            }
        }
    }

    /// Several values, each of the same form.
    pub(crate) fn list<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut parsed = Vec::new();
        for text in self.texts(setting) {
            match parse(&text) {
                Ok(value) => parsed.push(value),
                Err(what) => self.refuse(setting, what),
            }
        }
        parsed
    }

    /// A whole number within the bounds of its setting.
    pub(crate) fn number<T: TryFrom<u64>>(&mut self, setting: &Setting) -> T {
        let Kind::Number { min, max, .. } = setting.kind else {
            unreachable!("{} is not a number", setting.key)
        };
        self.required(setting, |text| {
            let number: u64 =
                text.parse().map_err(|_| format!("expected a whole number, not `{text}`"))?;
            T::try_from(number)
                .ok()
                .filter(|_| (min..=max).contains(&number))
                .ok_or_else(|| format!("must be from {min} to {max}, not {number}"))
        })
    }

    pub(crate) fn switch(&mut self, setting: &Setting) -> bool {
        self.required(setting, super::parse::switch)
    }

    /// PEM blocks, one text.
    pub(crate) fn pem(&mut self, setting: &Setting) -> String {
        match self.value(setting).map(|value| &value.kind) {
            Some(ValueKind::Array(_)) => self.texts(setting).join("\n"),
            _ => self.optional(setting, |text| Ok(text.to_owned())).unwrap_or_default(),
        }
    }

    /// Whether somebody gave this setting a value other than its default.
    ///
    /// A default that is written out counts as not given: the file that `config default` prints
    /// means the same with its comment signs taken away.
    pub(crate) fn is_given(&self, setting: &Setting) -> bool {
        self.value(setting).is_some_and(|value| as_toml(setting, value) != default_as_toml(setting))
    }

    /// Whether all of these could be read, so that a rule across them means something.
    pub(crate) fn could_read(&self, settings: &[Setting]) -> bool {
        let keys: Vec<&str> = settings.iter().map(|setting| setting.key).collect();
        !self.problems.touch(&keys)
    }

    /// Records that this setting's value cannot be used.
    pub(crate) fn refuse(&mut self, setting: &Setting, what: impl Into<String>) {
        let origin = self.value(setting).and_then(Value::origin).unwrap_or("");
        let origin = origin.to_owned();
        self.problems.add(setting.key, &origin, what);
    }

    fn value(&self, setting: &Setting) -> Option<&'a Value> {
        self.values.get(setting.key)
    }

    fn text(&self, setting: &Setting) -> Result<String, String> {
        let value = self.value(setting).cloned().unwrap_or_default();
        one_text(value)
    }

    fn texts(&mut self, setting: &Setting) -> Vec<String> {
        match texts(setting, self.value(setting).cloned().unwrap_or_default()) {
            Ok(texts) => texts,
            Err(what) => {
                self.refuse(setting, what);
                Vec::new()
            }
        }
    }
}

/// A value that is one text, number or truth value, as text.
fn one_text(value: Value) -> Result<String, String> {
    match value.kind {
        ValueKind::Nil => Ok(String::new()),
        ValueKind::Array(_) => Err("expected one value, not several".to_owned()),
        ValueKind::Table(_) => Err("expected a value, not a table".to_owned()),
        kind => Ok(kind.to_string()),
    }
}

/// The entries of an array, or of a text in which they are separated.
pub(crate) fn texts(setting: &Setting, value: Value) -> Result<Vec<String>, String> {
    let written = match (value.kind, setting.kind) {
        (ValueKind::Array(entries), _) => {
            entries.into_iter().map(one_text).collect::<Result<Vec<_>, _>>()?
        }
        (kind, Kind::Urls(_)) => urls(&one_text(Value::new(None, kind))?),
        (kind, _) => one_text(Value::new(None, kind))?.split(',').map(str::to_owned).collect(),
    };
    Ok(written.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect())
}

/// The URLs of a text. A comma or a blank ends one only where another begins: there may be commas
/// between the hosts of one, and blanks in the path of a file.
fn urls(text: &str) -> Vec<String> {
    let mut urls = vec![String::new()];
    for part in text.split_inclusive([',', ' ', '\t', '\n', '\r']) {
        let scheme = part.split_once("://").map(|(scheme, _)| scheme);
        let begins = scheme.is_some_and(|scheme| {
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        match urls.last_mut() {
            Some(last) if !begins => last.push_str(part),
            _ => urls.push(part.to_owned()),
        }
    }
    let trimmed = urls.iter().map(|url| url.trim_end_matches(|end| ", \t\r\n".contains(end)));
    trimmed.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::urls;

    #[test]
    fn a_url_ends_only_where_another_begins() {
        for (text, expected) in [
            ("sqlite:/a b,c.db", &["sqlite:/a b,c.db"][..]),
            ("postgres://a:1,b:2/n", &["postgres://a:1,b:2/n"]),
            ("postgres://u:p,q@a/n, postgres://b/n", &["postgres://u:p,q@a/n", "postgres://b/n"]),
            ("postgres://a/n\npostgres://b/n\n", &["postgres://a/n", "postgres://b/n"]),
            ("nats://a,nats://b", &["nats://a", "nats://b"]),
        ] {
            let found: Vec<_> = urls(text).into_iter().filter(|url| !url.is_empty()).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
