//! A data folder as Kubernetes provides it with `fsGroup`: it belongs to root and a group, which the user of the
//! server is in, and everything in it belongs to that group.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use anyhow::ensure;
use vaultsync_testkit::process::ServerProcess;

use super::{
    nodes::{TRUSTED, configure},
    trial::Trial,
};
use crate::{Scenario, ScenarioContext, ScenarioReport, shell, verify::Database};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "group-folder",
    shows: "a server whose data folder is root's, with access for a group (fsGroup of Kubernetes)",
    needs_root: true,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// The user of the server, and the group of the volume. Neither has to exist.
const USER: u32 = 61_101;
const GROUP: u32 = 61_102;

async fn run(mut context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    // The user may neither enter the scenario's folder nor that of the program.
    fs::set_permissions(context.folder(), Permissions::from_mode(0o711))?;
    let program = context.folder().join("vaultsync");
    fs::copy(&context.program, &program)?;
    context.program = program;
    let volume = context.data_dir();
    fs::create_dir(&volume)?;
    chown(&volume, Some(0), Some(GROUP))?;
    fs::set_permissions(&volume, Permissions::from_mode(0o2770))?;

    let database = Database::Sqlite(volume.join("vaultsync.sqlite3"));
    let mut config = configure(context.server(&database), TRUSTED);
    let (user, group) = (USER.to_string(), GROUP.to_string());
    config.wrapper =
        ["setpriv", "--reuid", &user, "--regid", &user, "--groups", &group, "--no-new-privs", "--"]
            .map(str::to_owned)
            .into();
    let mut servers = [ServerProcess::start(config).await?];
    let util_linux = shell::run("setpriv", &["--version"])?;
    let mut trial = Trial::new(&context, servers[0].url(), &servers, util_linux)?;
    trial.check().await?;
    let owner = fs::metadata(volume.join("vaultsync.sqlite3"))?;
    let (user, group) = (owner.uid(), owner.gid());
    ensure!((user, group) == (USER, GROUP), "the database belongs to {user}:{group}");

    // A start after which Kubernetes has changed nothing, as with `fsGroupChangePolicy: OnRootMismatch`.
    let status = servers[0].stop().await?;
    trial.expect(status.success(), || format!("the server stopped with {status}"));
    servers[0].start_again().await?;

    // With `Always`, the default, Kubernetes gives the group access to every file, also to the local issuer's
    // key. The server says what to do.
    servers[0].stop().await?;
    share(&volume)?;
    let refused = servers[0].start_again().await;
    let reason = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    trial.expect(reason.contains("fsGroupChangePolicy"), || format!("the start ended: {reason}"));
    // All other files may stay as they are.
    fs::set_permissions(volume.join("local-issuer.key"), Permissions::from_mode(0o600))?;
    servers[0].start_again().await?;
    trial.finish(&servers, &database)
}

/// Gives the group access to the files of a folder, as Kubernetes does.
fn share(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        chown(&path, None, Some(GROUP))?;
        let mode = fs::metadata(&path)?.mode() | 0o660;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}
