//! Values as their sources wrote them, brought into the form in which the TOML file would have them.
//!
//! A value that does not fit its kind is left alone; reading it reports what is wrong.
//!
//! Not here: the forms of single texts (`parse.rs`).

use toml::Value;

use super::parse;
use super::setting::Kind;

/// Converts a value to the type that its setting has in the TOML file.
pub(crate) fn normalize(kind: Kind, value: Value) -> Value {
    let typed = match kind {
        Kind::List(_) | Kind::Urls(_) => texts(kind, &value).map(Value::from),
        Kind::Keys if value.is_array() => texts(kind, &value).map(|keys| keys.join("\n").into()),
        Kind::Number { .. } => {
            text(&value).and_then(|text| parse::number::<i64>(&text)).map(Value::from)
        }
        Kind::Switch => text(&value).and_then(|text| parse::switch(&text)).map(Value::from),
        Kind::Text(_) | Kind::AutoSwitch | Kind::Keys => text(&value).map(Value::from),
    };
    typed.unwrap_or(value)
}

/// The text of a value that is no list and no table.
pub(crate) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(_) => Err("expected one value, not several".to_owned()),
        Value::Table(_) => Err("expected a value, not a table".to_owned()),
        value => Ok(value.to_string()),
    }
}

/// The entries of an array, or of a text that separates them.
pub(crate) fn texts(kind: Kind, value: &Value) -> Result<Vec<String>, String> {
    let texts = match (value, kind) {
        (Value::Array(entries), _) => entries.iter().map(text).collect::<Result<Vec<_>, _>>()?,
        (value, Kind::Urls(_)) => urls(&text(value)?),
        (value, _) => text(value)?.split(',').map(str::to_owned).collect(),
    };
    Ok(texts.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect())
}

/// Whether a value was written without any content. An empty array is content: the list without entries.
pub(crate) fn is_blank(kind: Kind, value: &Value) -> bool {
    match (value, kind) {
        (Value::String(text), Kind::List(_) | Kind::Urls(_)) => {
            texts(kind, value).map_or(text.trim().is_empty(), |texts| texts.is_empty())
        }
        (Value::String(text), _) => text.trim().is_empty(),
        (Value::Array(entries), _) => {
            !entries.is_empty() && texts(kind, value).is_ok_and(|texts| texts.is_empty())
        }
        _ => false,
    }
}

/// The URLs of a text. A comma or a blank separates two URLs only if a scheme follows, because commas
/// also separate the hosts of one URL, and the path of a file can contain blanks.
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
