//! `vaultsync serve`: the server, from its settings to its end.
//!
//! Not here: routes, sign-in, SQL.

use crate::settings::Settings;

/// Says where the server would listen; the server itself is not wired in yet.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    tracing::info!(
        listen = %settings.listen,
        database = %settings.database,
        "would listen; the server is not part of this build yet"
    );
    Ok(())
}
