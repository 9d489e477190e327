//! Erasures: requests that name what is to be erased, so that nothing is erased by mistake.

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
        epoch.map(|epoch| Self { epoch }).ok_or_else(|| issue(MISSING))
    }
}

/// Request to erase all vaults of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseAccount {
    /// What the client takes to be the user's name at the issuer.
    subject: String,
}

impl EraseAccount {
    /// Parses the query of a request, without its `?`. Unknown parameters are ignored.
    pub fn from_query(query: &str) -> Result<Self, Vec<Issue>> {
        let mut subject = None;
        query::parse(query, [CONFIRM], |_, value| {
            subject = Some(value.to_owned());
            Ok(())
        })?;
        subject.map(|subject| Self { subject }).ok_or_else(|| issue(MISSING))
    }

    /// Checks that the client takes the user for the one who has sent the request.
    pub fn check(&self, subject: &str) -> Result<(), Vec<Issue>> {
        if self.subject == subject {
            Ok(())
        } else {
            Err(issue("must be the subject of the token"))
        }
    }
}

fn issue(message: &'static str) -> Vec<Issue> {
    let mut issues = Issues::default();
    issues.add(CONFIRM, message);
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
        let check = |query| EraseAccount::from_query(query)?.check("ada l");
        assert!(check("confirm=ada%20l").is_ok());
        for query in ["", "confirm=", "confirm=Ada+l", "confirm=ada", "confirm=ada+l&confirm=ada+l"]
        {
            let issues = check(query).expect_err(query);
            assert_eq!(issues[0].path, "confirm", "{query}");
        }
    }
}
