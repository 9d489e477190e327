//! What the parsers of queries share.

use std::borrow::Cow;

use crate::{Issue, Issues};

/// Maximum number of parameters in a query, unknown ones included. A client sends at most five, and
/// proxies add a few.
pub(crate) const PARAMETERS_MAX: usize = 64;

/// Maximum length of the value of a parameter that the protocol defines, in bytes. The longest useful
/// one is the id of a record.
pub(crate) const VALUE_BYTES_MAX: usize = 256;

/// Parses a query, without its `?`, and passes each of these parameters to `set`, which returns the rule that a
/// value breaks.
///
/// Other parameters are ignored. The time is linear in the length of the query, whatever it contains.
pub(crate) fn parse<const N: usize>(
    query: &str,
    parameters: [&str; N],
    mut set: impl FnMut(&str, &str) -> Result<(), Cow<'static, str>>,
) -> Result<(), Vec<Issue>> {
    let mut issues = Issues::default();
    let mut seen = [false; N];
    for (index, (name, value)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
        if index == PARAMETERS_MAX {
            issues.add("query", format!("must have at most {PARAMETERS_MAX} parameters"));
            break;
        }
        let Some(known) = parameters.iter().position(|known| *known == name) else { continue };
        if std::mem::replace(&mut seen[known], true) {
            issues.add(name, "must not be given twice");
        } else if value.len() > VALUE_BYTES_MAX {
            issues.add(name, format!("must be at most {VALUE_BYTES_MAX} bytes long"));
        } else if let Err(message) = set(&name, &value) {
            issues.add(name, message);
        }
    }
    if issues.is_empty() { Ok(()) } else { Err(issues.into_vec()) }
}

/// Parses digits only: `str::parse` would also accept a `+`.
pub(crate) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Parses the maximum number of entries in a page, from 1 to `max`.
pub(crate) fn limit(text: &str, max: usize) -> Result<usize, Cow<'static, str>> {
    let number = digits(text).and_then(|number| usize::try_from(number).ok());
    let limit = number.filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| format!("must be a whole number from 1 to {max}").into())
}
