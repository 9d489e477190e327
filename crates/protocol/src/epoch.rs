//! Epochs: the names of a vault's histories.

use std::fmt;

use uuid::Uuid;

/// Name of one history of a vault; restoring or fencing a vault starts a new epoch.
///
/// Opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(Uuid);

impl Epoch {
    /// Creates an epoch from its name, which the caller draws at random when a history starts.
    pub const fn new(name: Uuid) -> Self {
        Self(name)
    }

    /// Bytes of the name, as the store saves them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Creates an epoch from the bytes of its name.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for Epoch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Epoch that a client sends, 1 to 64 bytes. It may name a history that no longer exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEpoch(Box<str>);

impl KnownEpoch {
    /// Maximum length of the text.
    pub const BYTES_MAX: usize = 64;

    pub(crate) const RULE: &'static str = "must be the epoch of an earlier response, 1 to 64 bytes";

    /// Wraps a client's text; `None` if it is empty or longer than [`Self::BYTES_MAX`].
    pub fn new(text: &str) -> Option<Self> {
        (1..=Self::BYTES_MAX).contains(&text.len()).then(|| Self(text.into()))
    }

    /// The epoch that the text names, if it can be one.
    pub fn parse(&self) -> Option<Epoch> {
        Uuid::parse_str(&self.0).ok().map(Epoch).filter(|epoch| self.names(*epoch))
    }

    /// Whether the client's text is the name of `epoch`.
    pub fn names(&self, epoch: Epoch) -> bool {
        *self.0 == *epoch.to_string()
    }
}

impl From<Epoch> for KnownEpoch {
    fn from(epoch: Epoch) -> Self {
        Self(epoch.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_name_matches_an_epoch() {
        let epoch = Epoch::from_bytes([0xab; 16]);
        let name = "abababab-abab-abab-abab-abababababab";
        assert_eq!(epoch.to_string(), name);
        let names = |text: &str| KnownEpoch::new(text).unwrap().names(epoch);
        assert!(names(name));
        assert!(!names(&name.to_uppercase()));
        assert!(!names(&name[1..]));
        let parse = |text: &str| KnownEpoch::new(text).unwrap().parse();
        assert_eq!(parse(name), Some(epoch));
        for other in [&name.to_uppercase(), &name[1..], &name.replace('-', ""), "x"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
