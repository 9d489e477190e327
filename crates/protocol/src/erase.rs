//! Erasures: requests that name what is to be erased, so that nothing is erased by mistake.

use std::borrow::Cow;

use crate::{Issue, Issues, KnownEpoch, query};

/// The parameter of both requests.
const CONFIRM: &str = "confirm";

const MISSING: &str = "must be present: it names what is to be erased";

/// Request to erase a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseVault {
    /// The vault's epoch.
    pub epoch: KnownEpoch,
}

impl EraseVault {
    /// Parses the query of a request, without its `?`. Unknown parameters are ignored.
    pub fn from_query(query: &str) -> Result<Self, Vec<Issue>> {
        let mut epoch = None;
        query::parse(query, [CONFIRM], |_, value| {
            epoch = Some(KnownEpoch::new(value).ok_or("must be the epoch of the vault")?);
            Ok(())
        })?;
        epoch.map(|epoch| Self { epoch }).ok_or_else(missing)
    }
}

/// Request to erase all vaults of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseAccount {
    /// What the client takes to be the user's name at the issuer.
    pub subject: String,
}

impl EraseAccount {
    /// Parses the query of a request of the user with this subject, without its `?`. Unknown parameters are
    /// ignored.
    pub fn from_query(query: &str, subject: &str) -> Result<Self, Vec<Issue>> {
        let mut confirmed = None;
        query::parse(query, [CONFIRM], |_, value| {
            if value != subject {
                return Err(Cow::Borrowed("must be the subject of the token"));
            }
            confirmed = Some(value.to_owned());
            Ok(())
        })?;
        confirmed.map(|subject| Self { subject }).ok_or_else(missing)
    }
}

fn missing() -> Vec<Issue> {
    let mut issues = Issues::default();
    issues.add(CONFIRM, MISSING);
    issues.into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_confirmed_by_its_epoch() {
        let parsed = EraseVault::from_query("x=1&confirm=8a0f6c3e");
        assert_eq!(parsed.unwrap().epoch, KnownEpoch::new("8a0f6c3e").unwrap());
        for query in ["", "confirm=", "confirm=a&confirm=a", "Confirm=a"] {
            let issues = EraseVault::from_query(query).expect_err(query);
            assert_eq!(issues[0].path, "confirm", "{query}");
        }
        assert!(EraseVault::from_query(&format!("confirm={}", "e".repeat(65))).is_err());
    }

    #[test]
    fn an_account_is_confirmed_by_its_subject() {
        assert!(EraseAccount::from_query("confirm=ada%20l", "ada l").is_ok());
        for query in ["", "confirm=", "confirm=Ada+l", "confirm=ada", "confirm=ada+l&confirm=ada+l"]
        {
            let issues = EraseAccount::from_query(query, "ada l").expect_err(query);
            assert_eq!(issues[0].path, "confirm", "{query}");
        }
    }
}
