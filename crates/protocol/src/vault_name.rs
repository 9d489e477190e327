//! Names of a user's vaults.

/// Name of a vault beside the user's default vault: 1 to 64 bytes of `a-z`, `0-9`, `.`, `_` and `-`, of which the
/// first is a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultName(String);

impl VaultName {
    /// Maximum length in bytes.
    pub const BYTES_MAX: usize = 64;

    /// The rule, as the end of a sentence about a name.
    pub const RULE: &str = "must have 1 to 64 characters of a-z, 0-9, '.', '_' and '-', and begin with a \
                            letter or a digit";

    /// The name, if it follows the rule.
    pub fn new(name: &str) -> Option<Self> {
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_valid = (1..=Self::BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| is_first(byte) || b"._-".contains(&byte))
            && name.bytes().next().is_some_and(is_first);
        is_valid.then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for name in ["a", "0", "notes", "app.example_1-x", &"z".repeat(64)] {
            assert_eq!(VaultName::new(name).expect("a name").as_str(), name);
        }
        for name in
            ["", ".", "-a", "_a", "Notes", "a b", "a/b", "a\0", "ä", "a%20", &"z".repeat(65)]
        {
            assert_eq!(VaultName::new(name), None, "{name:?}");
        }
    }
}
