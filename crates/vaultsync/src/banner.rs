//! Text that a started server prints to standard output: its addresses and commands to try.

use std::{fmt, net::SocketAddr};

/// The banner. Each command is on a line of its own and works as pasted.
pub(crate) struct Banner {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) database: String,
    pub(crate) local_issuer: bool,
    /// Token of the commands. Without one, no commands are printed.
    pub(crate) token: Option<String>,
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, database, .. } = self;
        writeln!(f, "Vaultsync {} is listening on http://{address}\n", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  database  {database}")?;
        writeln!(f, "  API docs  http://{address}/docs/")?;
        if let Some(admin) = self.admin {
            writeln!(f, "  metrics   http://{admin}/metrics")?;
        }
        if self.local_issuer {
            writeln!(f, "  sign-in   `vaultsync token --user NAME` prints a token")?;
        }
        let Some(token) = &self.token else { return Ok(()) };
        writeln!(
            f,
            "\nPush a record and pull it again (the token expires in an hour):\n\n\
             curl -sS http://{address}/api/sync/push -H 'Authorization: Bearer {token}' \
             -H 'Content-Type: application/json' \
             -d '{{\"operations\":[{{\"recordId\":\"hello\",\"baseVersion\":null,\
             \"ciphertext\":\"aGVsbG8=\",\"deleted\":false}}]}}'\n\n\
             curl -sS http://{address}/api/sync/pull -H 'Authorization: Bearer {token}'\n",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(token: Option<&str>) -> String {
        let banner = Banner {
            address: "127.0.0.1:8787".parse().unwrap(),
            admin: Some("127.0.0.1:9464".parse().unwrap()),
            database: "/srv/vaultsync-data/vaultsync.sqlite3".to_owned(),
            local_issuer: true,
            token: token.map(str::to_owned),
        };
        banner.to_string()
    }

    #[test]
    fn the_banner_shows_addresses_and_commands() {
        insta::assert_snapshot!(banner(Some("e30.e30.c2ln")));
    }

    #[test]
    fn without_a_token_no_command_is_shown() {
        assert!(!banner(None).contains("curl"));
    }
}
