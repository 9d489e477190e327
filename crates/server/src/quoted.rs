//! Text that a caller chose, for log lines and messages: in quotes, escaped and cut.

/// Number of characters that are shown.
const CHARS_MAX: usize = 200;

/// Quotes `text` as a Rust literal would, so that it can neither end a line nor hide its end.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?} (cut)", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn text_of_a_caller_is_escaped_and_cut() {
        assert_eq!(quoted("https://a.example"), r#""https://a.example""#);
        assert_eq!(quoted("a\n\"\u{1b}[31m"), r#""a\n\"\u{1b}[31m""#);
        let cut = quoted(&"\u{e9}".repeat(201));
        assert_eq!(cut, format!("\"{}\" (cut)", "\u{e9}".repeat(200)));
    }
}
