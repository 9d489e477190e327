//! The writers and followers of a run.

use std::{ffi::OsString, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Eraser, Follower, Service, Writer};

/// How long followers may take to read everything that was written, on a busy machine.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);

/// Writers and followers that run until they are stopped.
#[derive(Debug, Default)]
pub struct Clients {
    stop: CancellationToken,
    written: CancellationToken,
    writers: JoinSet<()>,
    followers: JoinSet<usize>,
}

impl Clients {
    /// Starts a writer.
    pub fn start_writer<S: Service + 'static>(&mut self, writer: Writer<S>) {
        self.writers.spawn(writer.run(self.stop.clone()));
    }

    /// Starts an eraser, which stops with the writers.
    pub fn start_eraser<S: Service + 'static>(&mut self, eraser: Eraser<S>) {
        self.writers.spawn(eraser.run(usize::MAX, self.stop.clone()));
    }

    /// Starts a follower.
    pub fn start_follower<S: Service + 'static>(&mut self, follower: Follower<S>) {
        let written = self.written.clone();
        self.followers.spawn(async { follower.run(written).await.woken });
    }

    /// Stops the writers once their last pushes are settled, lets the followers read to the end, and
    /// returns how many pulls were woken by a change.
    pub async fn finish(mut self) -> anyhow::Result<usize> {
        self.stop.cancel();
        while let Some(ended) = self.writers.join_next().await {
            ended.context("a writer panicked")?;
        }
        self.written.cancel();
        let catch_up = async {
            let mut woken = 0;
            while let Some(ended) = self.followers.join_next().await {
                woken += ended.context("a follower panicked")?;
            }
            Ok(woken)
        };
        let caught_up = tokio::time::timeout(CATCH_UP_MAX, catch_up).await;
        caught_up.context("the followers do not reach the end of what was written")?
    }
}

/// A token of the local issuer whose key is in `data_dir`, minted by the built program.
pub fn local_token(
    program: &Path,
    data_dir: &Path,
    user: &str,
    variables: &[(&'static str, OsString)],
) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(["token", "--ttl", "1d", "--user", user, "--data-dir"])
        .arg(data_dir)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
