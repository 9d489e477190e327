//! The name of a vault's history.

use std::fmt;

use uuid::Uuid;

/// Names one history of a vault: a restored or fenced vault has another one.
///
/// To a client it is opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(Uuid);

impl Epoch {
    /// The epoch of that name. Whoever starts a history draws the name at random.
    pub const fn new(name: Uuid) -> Self {
        Self(name)
    }

    /// The name's bytes, as the store keeps them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The epoch with these bytes as its name.
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

/// The epoch that a client sends back: 1 to 64 bytes that name a history, perhaps another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEpoch(Box<str>);

impl KnownEpoch {
    /// The longest text that is taken for an epoch.
    pub const BYTES_MAX: usize = 64;

    pub(crate) const RULE: &'static str = "must be the epoch of an earlier answer, 1 to 64 bytes";

    /// Takes a client's text; `None` where it is empty or longer than [`Self::BYTES_MAX`].
    pub fn new(text: &str) -> Option<Self> {
        (1..=Self::BYTES_MAX).contains(&text.len()).then(|| Self(text.into()))
    }

    /// Whether the client means `epoch`.
    pub fn names(&self, epoch: Epoch) -> bool {
        *self.0 == *epoch.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_known_by_its_name_alone() {
        let epoch = Epoch::from_bytes([0xab; 16]);
        let name = "abababab-abab-abab-abab-abababababab";
        assert_eq!(epoch.to_string(), name);
        let names = |text: &str| KnownEpoch::new(text).unwrap().names(epoch);
        assert!(names(name));
        assert!(!names(&name.to_uppercase()));
        assert!(!names(&name[1..]));
    }
}
