//! `vaultsync serve`: the server, from its settings to its end.
//!
//! Not here: routes, sign-in, SQL.

use crate::settings::Settings;

/// Fails, and says where the server would listen: it is not wired in yet.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    let Settings { listen, database, .. } = settings;
    anyhow::bail!(
        "the server is not part of this build yet: it would listen on {listen} and keep records in {database}"
    )
}
