//! Digest of a record's ciphertext.

use std::fmt;

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The first 16 bytes of the SHA-256 of a ciphertext. Two ciphertexts with the same digest count as the
/// same.
///
/// Serialized as 32 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordDigest([u8; Self::BYTES]);

impl RecordDigest {
    /// Length in bytes.
    pub const BYTES: usize = 16;

    /// The digest of a ciphertext.
    pub fn of(ciphertext: &[u8]) -> Self {
        let mut first = [0; Self::BYTES];
        first.copy_from_slice(&Sha256::digest(ciphertext)[..Self::BYTES]);
        Self(first)
    }

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// In hexadecimal.
impl fmt::Display for RecordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordDigest({self})")
    }
}

impl Serialize for RecordDigest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_half_of_the_sha_256() {
        // printf hello | sha256sum | head -c 32
        let digest = RecordDigest::of(b"hello");
        assert_eq!(digest.to_string(), "2cf24dba5fb0a30e26e83b2ac5b9e29e");
        assert_eq!(
            serde_json::to_string(&digest).unwrap(),
            r#""2cf24dba5fb0a30e26e83b2ac5b9e29e""#
        );
        assert_eq!(RecordDigest::from_bytes(*digest.as_bytes()), digest);
    }
}
