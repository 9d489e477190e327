//! Vaults: the default one of each user of an issuer, and any named ones.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};
use vaultsync_protocol::VaultName;

/// Key of a vault: the first 16 bytes of SHA-256(issuer, 0x00, subject) for a user's default vault, and of
/// SHA-256(issuer, 0x00, subject, 0x00, name) for a named one.
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

/// A user: the key of the user's default vault, in a type of its own. Rates, memory and waits are by user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(VaultId);

/// In hexadecimal.
impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A user's vault. It may not exist in the database yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vault {
    id: VaultId,
    user: UserId,
    issuer: Arc<str>,
    subject: Arc<str>,
    name: Option<VaultName>,
}

impl Vault {
    /// The default vault of an issuer's user. The key contains both, so that one issuer cannot name the
    /// users of another.
    pub fn of(issuer: impl Into<Arc<str>>, subject: impl Into<Arc<str>>) -> Self {
        let (issuer, subject) = (issuer.into(), subject.into());
        let id = key(&[&issuer, &subject]);
        Self { id, user: UserId(id), issuer, subject, name: None }
    }

    /// The user's vault of this name. Neither an issuer nor a subject contains NUL, so no key has two
    /// meanings.
    #[must_use]
    pub fn named(self, name: VaultName) -> Self {
        let id = key(&[&self.issuer, &self.subject, name.as_str()]);
        Self { id, name: Some(name), ..self }
    }

    /// The vault's key.
    pub const fn id(&self) -> VaultId {
        self.id
    }

    /// The vault's user.
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// The issuer that authenticates the user.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The issuer's name for the user.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The vault's name; empty for the default vault.
    pub fn name(&self) -> &str {
        self.name.as_ref().map_or("", VaultName::as_str)
    }
}

/// The first 16 bytes of the SHA-256 of the parts, with NUL between them.
fn key(parts: &[&str]) -> VaultId {
    let mut sha = Sha256::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            sha.update([0]);
        }
        sha.update(part.as_bytes());
    }
    let mut id = [0; 16];
    id.copy_from_slice(&sha.finalize()[..16]);
    VaultId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_digest_of_issuer_and_subject() {
        // printf 'https://a\0u' | sha256sum | head -c 32
        let vault = Vault::of("https://a", "u");
        assert_eq!(vault.id().to_string(), "7d4981fb0440866340ab62f2338f2a5d");
        assert_eq!(vault.user().to_string(), vault.id().to_string());
        assert_ne!(vault.id(), Vault::of("https://b", "u").id());
        assert_ne!(Vault::of("a", "bc").id(), Vault::of("ab", "c").id());
    }

    #[test]
    fn a_named_vault_has_a_key_of_its_own_and_the_same_user() {
        let named = |name| Vault::of("https://a", "u").named(VaultName::new(name).unwrap());
        // printf 'https://a\0u\0notes' | sha256sum | head -c 32
        assert_eq!(named("notes").id().to_string(), "48d68d7c28108ea62af5f3b5921ddc80");
        assert_ne!(named("notes").id(), named("note").id());
        assert_eq!(named("notes").user(), Vault::of("https://a", "u").user());
        assert_eq!((named("notes").name(), Vault::of("a", "u").name()), ("notes", ""));
    }
}
