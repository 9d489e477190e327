//! `vaultsync user`: what operators do for a single user, beside a running server.
//!
//! Not here: the command line (`cli.rs`).

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use vaultsync_protocol::{ExportRequest, KnownEpoch, VaultName, VaultSummary};
use vaultsync_server::{Clock as _, SystemClock, auth::LOCAL_ISSUER};
use vaultsync_store::{
    EraseOutcome, OpenError, OperatorStore, SqliteReader, Store, UserSummary, Vault,
};

use crate::{settings::Settings, stores, user_export};

/// How long `erase` waits for the server that has the file open. It looks for requests every 10 seconds.
const ERASE_WAIT: Duration = Duration::from_mins(3);
const ERASE_WAIT_STEP: Duration = Duration::from_millis(500);

/// A user, as named on the command line.
#[derive(Clone, Debug)]
pub(crate) struct UserName {
    pub(crate) subject: String,
    /// Needed only if several issuers are configured.
    pub(crate) issuer: Option<String>,
}

/// What to do, and for whom.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    List,
    Show(UserName),
    Usage(UserName),
    Export {
        user: UserName,
        /// Only this vault; `None` exports all.
        vault: Option<VaultName>,
        request: ExportRequest,
        /// The folder for the files.
        folder: PathBuf,
    },
    Erase {
        user: UserName,
        /// Only this vault; `None` erases all.
        vault: Option<VaultName>,
        /// The user's name again.
        confirm: String,
    },
}

/// Runs the command. `is_json` prints a JSON object a line.
pub(crate) fn run(settings: &Settings, request: &Request, is_json: bool) -> anyhow::Result<()> {
    stores::block_on(async {
        match request {
            Request::List => list(settings, is_json).await,
            Request::Show(user) => show(settings, user, is_json).await,
            Request::Usage(user) => usage(settings, user, is_json).await,
            Request::Export { user, vault, request, folder } => {
                export(settings, user, vault.as_ref(), *request, folder, is_json).await
            }
            Request::Erase { user, vault, confirm } => {
                ensure!(
                    *confirm == user.subject,
                    "--confirm must repeat the user's name: an erasure cannot be undone"
                );
                erase(settings, user, vault.as_ref()).await
            }
        }
    })
}

/// The user's default vault, which stands for the user.
fn vault_of(settings: &Settings, user: &UserName) -> anyhow::Result<Vault> {
    let issuer = match &user.issuer {
        Some(issuer) => issuer.clone(),
        None => only_issuer(settings)?,
    };
    Ok(Vault::of(issuer, user.subject.as_str()))
}

fn only_issuer(settings: &Settings) -> anyhow::Result<String> {
    let sign_in = &settings.sign_in;
    let clerk = sign_in.clerk_issuer().map(|issuer| issuer.name().to_owned());
    let oidc = sign_in.oidc_issuer().map(|issuer| issuer.name().to_owned());
    let local = sign_in.local.then(|| LOCAL_ISSUER.to_owned());
    let issuers: Vec<_> = [clerk, oidc, local].into_iter().flatten().collect();
    match &issuers[..] {
        [only] => Ok(only.clone()),
        [] => bail!("no issuer is configured: name the user's with --issuer"),
        several => {
            bail!("several issuers are configured: name one with --issuer: {}", several.join(", "))
        }
    }
}

fn print(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{line}").context("cannot write to standard output")
}

async fn list(settings: &Settings, is_json: bool) -> anyhow::Result<()> {
    let store = stores::open_beside(settings).await?;
    if !is_json {
        print("issuer\tsubject\tvaults\trecords\tbytes\tlast change")?;
    }
    let mut last: Option<UserSummary> = None;
    loop {
        let users = store.users(last.as_ref()).await?;
        for user in &users {
            let UserSummary { issuer, subject, vaults, records, bytes, head } = user;
            print(&if is_json {
                json!({
                    "issuer": issuer,
                    "subject": subject,
                    "vaults": vaults,
                    "records": records,
                    "bytes": bytes,
                    "head": head,
                })
                .to_string()
            } else {
                format!("{issuer}\t{subject}\t{vaults}\t{records}\t{bytes}\t{head}")
            })?;
        }
        match users.into_iter().last() {
            Some(user) => last = Some(user),
            None => return close(store).await,
        }
    }
}

async fn show(settings: &Settings, user: &UserName, is_json: bool) -> anyhow::Result<()> {
    let user = vault_of(settings, user)?;
    let store = stores::open_beside(settings).await?;
    let vaults = vaults(&store, &user).await?;
    if is_json {
        print(
            &json!({ "issuer": user.issuer(), "subject": user.subject(), "vaults": vaults })
                .to_string(),
        )?;
    } else {
        print(&format!("{} of {}", user.subject(), user.issuer()))?;
        for VaultSummary { name, epoch, head, records, bytes } in &vaults {
            let name = name.as_deref().unwrap_or("(default)");
            let (records, bytes) = (count(*records), count(*bytes));
            print(&format!(
                "{name}\tepoch {epoch}\thead {head}\t{records} records\t{bytes} bytes"
            ))?;
        }
    }
    close(store).await
}

async fn usage(settings: &Settings, user: &UserName, is_json: bool) -> anyhow::Result<()> {
    let user = vault_of(settings, user)?;
    let store = stores::open_beside(settings).await?;
    for summary in vaults(&store, &user).await? {
        let usage = store.usage(&named(&user, &summary)?).await?;
        if is_json {
            print(&json!({ "vault": summary.name, "usage": usage }).to_string())?;
            continue;
        }
        let name = summary.name.as_deref().unwrap_or("(default)");
        let [records, tombstones, bytes] =
            [usage.records, usage.tombstones, usage.bytes].map(count);
        let history = usage.history_bytes;
        print(&format!(
            "{name}\t{records} records\t{tombstones} tombstones\t{bytes} bytes\t{history} bytes of history"
        ))?;
    }
    close(store).await
}

fn count(count: Option<i64>) -> String {
    count.map_or_else(|| "not counted yet".to_owned(), |count| count.to_string())
}

/// The user's vaults, of which there must be one.
async fn vaults(store: &OperatorStore, user: &Vault) -> anyhow::Result<Vec<VaultSummary>> {
    let vaults = store.vaults(user).await?;
    ensure!(!vaults.is_empty(), "{} of {} has no vault", user.subject(), user.issuer());
    Ok(vaults)
}

/// The user's vault of this name, or all, with what is known of them.
async fn chosen(
    store: &OperatorStore,
    user: &Vault,
    only: Option<&VaultName>,
) -> anyhow::Result<Vec<(Vault, VaultSummary)>> {
    let mut chosen = Vec::new();
    for summary in vaults(store, user).await? {
        if only.is_none_or(|only| summary.name.as_deref() == Some(only.as_str())) {
            chosen.push((named(user, &summary)?, summary));
        }
    }
    ensure!(!chosen.is_empty(), "the user has no vault of this name");
    Ok(chosen)
}

fn named(user: &Vault, summary: &VaultSummary) -> anyhow::Result<Vault> {
    let Some(name) = &summary.name else { return Ok(user.clone()) };
    let name = VaultName::new(name).context("the database has a vault whose name is not valid")?;
    Ok(user.clone().named(name))
}

async fn close(store: OperatorStore) -> anyhow::Result<()> {
    if let OperatorStore::Postgres(store) = store {
        store.close().await;
    }
    Ok(())
}

async fn export(
    settings: &Settings,
    user: &UserName,
    only: Option<&VaultName>,
    request: ExportRequest,
    folder: &Path,
    is_json: bool,
) -> anyhow::Result<()> {
    let user = vault_of(settings, user)?;
    let store = stores::open_beside(settings).await?;
    let now = SystemClock::start().now();
    for (vault, summary) in chosen(&store, &user, only).await? {
        let path = user_export::export(&store, &vault, request, folder, now).await?;
        print(&if is_json {
            json!({ "vault": summary.name, "file": path }).to_string()
        } else {
            path.display().to_string()
        })?;
    }
    close(store).await
}

async fn erase(
    settings: &Settings,
    user: &UserName,
    only: Option<&VaultName>,
) -> anyhow::Result<()> {
    let user = vault_of(settings, user)?;
    let beside = stores::open_beside(settings).await?;
    let chosen = chosen(&beside, &user, only).await?;
    let store = match beside {
        OperatorStore::Postgres(store) => *store,
        OperatorStore::Sqlite(reader) => match stores::open_current(settings).await {
            Err(OpenError::InUse(_)) => return request_erasure(&reader, &user, &chosen).await,
            opened => opened?,
        },
    };
    let erased = erase_in(&store, &chosen).await;
    store.close().await;
    erased?;
    print(&format!("erased: {} vaults", chosen.len()))
}

async fn erase_in(store: &Store, vaults: &[(Vault, VaultSummary)]) -> anyhow::Result<()> {
    let now = SystemClock::start().now();
    for (vault, summary) in vaults {
        let epoch = KnownEpoch::from(summary.epoch);
        let outcome = store.erase(vault, &epoch, now).await?;
        ensure!(outcome == EraseOutcome::Erased, "the vault has changed meanwhile: try again");
    }
    store.finish_erasures(now).await?;
    Ok(())
}

/// Leaves the erasure to the server that has the file open, and waits for it.
async fn request_erasure(
    reader: &SqliteReader,
    user: &Vault,
    vaults: &[(Vault, VaultSummary)],
) -> anyhow::Result<()> {
    let requested = vaults.iter().map(|(vault, summary)| (vault.clone(), summary.epoch));
    let requested: Vec<_> = requested.collect();
    reader.request_erasure(&requested)?;
    print("the server that has the file open erases it within a few seconds")?;
    let erased = async {
        loop {
            let left = reader.vaults(user)?;
            if !vaults.iter().any(|(_, summary)| left.iter().any(|one| one.epoch == summary.epoch))
            {
                return anyhow::Ok(());
            }
            tokio::time::sleep(ERASE_WAIT_STEP).await;
        }
    };
    match tokio::time::timeout(ERASE_WAIT, erased).await {
        Ok(erased) => erased?,
        Err(_) => bail!("the server has not erased it yet, and will when it can"),
    }
    print(&format!("erased: {} vaults", vaults.len()))
}
