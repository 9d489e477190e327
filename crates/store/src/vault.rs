//! Vaults: one for each user of an issuer.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};

/// Key of a vault: the first 16 bytes of SHA-256(issuer, 0x00, subject).
///
/// It is known without reading the database, and evenly distributed over shards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultId([u8; 16]);

impl VaultId {
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// In hexadecimal.
impl fmt::Display for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultId({self})")
    }
}

/// A user's vault. It may not exist in the database yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vault {
    id: VaultId,
    issuer: Arc<str>,
    subject: Arc<str>,
}

impl Vault {
    /// The vault of an issuer's user. The key contains both, so that one issuer cannot name the users of
    /// another.
    pub fn of(issuer: impl Into<Arc<str>>, subject: impl Into<Arc<str>>) -> Self {
        let (issuer, subject) = (issuer.into(), subject.into());
        let digest = Sha256::new()
            .chain_update(issuer.as_bytes())
            .chain_update([0])
            .chain_update(subject.as_bytes())
            .finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self { id: VaultId(id), issuer, subject }
    }

    /// The vault's key.
    pub const fn id(&self) -> VaultId {
        self.id
    }

    /// The issuer that authenticates the user.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The issuer's name for the user.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_digest_of_issuer_and_subject() {
        // printf 'https://a\0u' | sha256sum | head -c 32
        let id = Vault::of("https://a", "u").id();
        assert_eq!(id.to_string(), "7d4981fb0440866340ab62f2338f2a5d");
        assert_ne!(id, Vault::of("https://b", "u").id());
        assert_ne!(Vault::of("a", "bc").id(), Vault::of("ab", "c").id());
    }
}
