//! Requests for event streams.

use std::collections::BTreeSet;

use crate::{Issue, VaultName, query};

/// Request for a stream of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsRequest {
    /// Named vaults of the user that the stream follows beside that of its path. `None` if the request does not
    /// name any: its events then do not name their vault.
    pub vaults: Option<BTreeSet<VaultName>>,
}

impl EventsRequest {
    /// Parses the query of a request, without its `?`. Unknown parameters are ignored. An empty `vaults` counts as
    /// absent.
    pub fn from_query(query: &str) -> Result<Self, Vec<Issue>> {
        let mut vaults = None;
        query::parse(query, ["vaults"], |_, value| {
            if !value.is_empty() {
                let names = value.split(',').map(VaultName::new).collect::<Option<_>>();
                vaults = Some(names.ok_or_else(rule)?);
            }
            Ok(())
        })?;
        Ok(Self { vaults })
    }
}

fn rule() -> String {
    format!("must be names of vaults with commas between them, each of which {}", VaultName::RULE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vaults(query: &str) -> Result<Option<Vec<String>>, Vec<Issue>> {
        let names = EventsRequest::from_query(query)?.vaults;
        Ok(names.map(|names| names.iter().map(|name| name.as_str().to_owned()).collect()))
    }

    #[test]
    fn vaults_are_names_with_commas_between_them() {
        for query in ["", "vaults=", "x=1"] {
            assert_eq!(vaults(query), Ok(None), "{query}");
        }
        let names = |names: &[&str]| Ok(Some(names.iter().map(|&name| name.to_owned()).collect()));
        assert_eq!(vaults("vaults=notes"), names(&["notes"]));
        assert_eq!(vaults("vaults=b,a%2Ca"), names(&["a", "b"]));
        for query in ["vaults=,", "vaults=a,", "vaults=A", "vaults=a b", "vaults=a&vaults=b"] {
            assert_eq!(vaults(query).expect_err(query)[0].path, "vaults", "{query}");
        }
    }
}
