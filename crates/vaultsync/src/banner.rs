//! What a started server says on standard output: where it is, and what to try.

use std::{fmt::Write as _, net::SocketAddr};

/// What there is to say.
pub(crate) struct Banner {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) database: String,
    pub(crate) local_issuer: bool,
    /// A token to try with, where one may be shown.
    pub(crate) token: Option<String>,
}

/// The banner, each command on a line of its own that works as pasted.
pub(crate) fn text(facts: &Banner) -> String {
    let Banner { address, database, .. } = facts;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "Vaultsync {} listens on http://{address}\n\n  records   {database}\n  API page  http://{address}/docs/\n",
        env!("CARGO_PKG_VERSION"),
    );
    if let Some(admin) = facts.admin {
        let _ = writeln!(text, "  metrics   http://{admin}/metrics");
    }
    if facts.local_issuer {
        let _ =
            writeln!(text, "  sign-in   local issuer: `vaultsync token --user NAME` makes tokens");
    }
    if let Some(token) = &facts.token {
        let _ = write!(
            text,
            "\nPush a record, and pull it again (this token is good for an hour):\n\n\
             curl -sS http://{address}/api/sync/push -H 'Authorization: Bearer {token}' \
             -H 'Content-Type: application/json' \
             -d '{{\"operations\":[{{\"recordId\":\"hello\",\"baseVersion\":null,\
             \"ciphertext\":\"aGVsbG8=\",\"deleted\":false}}]}}'\n\n\
             curl -sS http://{address}/api/sync/pull -H 'Authorization: Bearer {token}'\n\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(token: Option<&str>) -> Banner {
        Banner {
            address: "127.0.0.1:8787".parse().unwrap(),
            admin: Some("127.0.0.1:9464".parse().unwrap()),
            database: "/srv/vaultsync-data/vaultsync.sqlite3".to_owned(),
            local_issuer: true,
            token: token.map(str::to_owned),
        }
    }

    #[test]
    fn the_banner_shows_addresses_and_commands_to_paste() {
        insta::assert_snapshot!(text(&facts(Some("e30.e30.c2ln"))));
    }

    #[test]
    fn without_a_token_there_is_nothing_to_paste() {
        assert!(!text(&facts(None)).contains("curl"));
    }
}
