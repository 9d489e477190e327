//! Readiness: whether this node could serve a push now.
//!
//! The checks take no part in the load of real requests, so a busy node stays ready. They run at most once
//! in [`FRESH_FOR`], however many clients ask, and readiness is charged to no rate: requests for it
//! cannot load the database, and a load balancer always gets its response.
//!
//! To add a check, write its function and add it to [`CHECKS`].
//!
//! Not here: the route (`routes/health.rs`), what the store checks (`vaultsync-store`).

use std::{future::ready, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use vaultsync_store::{DISK_FREE_BYTES_MIN, StoreError};

use crate::app::App;

/// Time for which a result is returned again.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// A condition for serving a push.
struct Check {
    /// Its name in the log.
    name: &'static str,
    /// Returns why the condition does not hold, in sentences for the public; none if it does.
    run: fn(&App) -> Reasons<'_>,
    /// The reason if it does not return in time.
    late: &'static str,
}

type Reasons<'a> = Pin<Box<dyn Future<Output = Vec<String>> + Send + 'a>>;

const CHECKS: [Check; 4] = [
    Check {
        name: "keys",
        run: |app| Box::pin(keys(app)),
        late: "an issuer did not respond in time",
    },
    Check {
        name: "database",
        run: |app| Box::pin(database(app)),
        late: "the database did not respond in time",
    },
    Check {
        name: "pushes",
        run: |app| Box::pin(ready(pushes(app))),
        late: "the results of pushes are not available",
    },
    Check {
        name: "disk",
        run: |app| Box::pin(disk(app)),
        late: "the disk did not respond in time",
    },
];

async fn keys(app: &App) -> Vec<String> {
    app.authenticator.ready().await.err().unwrap_or_default()
}

async fn database(app: &App) -> Vec<String> {
    reasons("database", app.store.check().await, "the database is not available".to_owned())
}

fn pushes(app: &App) -> Vec<String> {
    let reason = "the latest pushes failed because of the database".to_owned();
    reasons("pushes", app.store.check_pushes(), reason)
}

async fn disk(app: &App) -> Vec<String> {
    let mebibytes = DISK_FREE_BYTES_MIN / (1024 * 1024);
    let reason = format!("the disk of the database has less than {mebibytes} MiB of free space");
    reasons("disk", app.store.check_disk().await, reason)
}

/// The public reason of a failed check. The error may name files and hosts, so only the log has it.
fn reasons(check: &str, result: Result<(), StoreError>, reason: String) -> Vec<String> {
    match result {
        Ok(()) => Vec::new(),
        Err(error) => {
            tracing::debug!(check, %error, "a readiness check failed");
            vec![reason]
        }
    }
}

/// The latest result of the checks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<Mutex<Option<Checked>>>);

/// A result.
#[derive(Clone, Debug)]
struct Checked {
    at: Instant,
    reasons: Vec<String>,
}

impl Readiness {
    /// Returns why this node could not serve a push now; nothing if it could.
    pub(crate) async fn reasons_against(&self, app: &App) -> Vec<String> {
        let mut reasons = self.latest(app).await;
        // Not part of the stored result, so that it takes effect at once.
        reasons.extend(known_reasons(app));
        reasons
    }

    /// The stored result, or a new one if it is too old.
    async fn latest(&self, app: &App) -> Vec<String> {
        // Clients wait here while checks run; one that goes away leaves nothing behind.
        let mut checked = Arc::clone(&self.0).lock_owned().await;
        if let Some(fresh) = checked.as_ref().filter(|last| last.at.elapsed() < FRESH_FOR) {
            return fresh.reasons.clone();
        }
        let app = app.clone();
        // In a task of its own: if each client that goes away ended the checks, the next one would begin
        // them again at once.
        let checking = tokio::spawn(async move {
            let reasons = run(&app).await;
            log_change(checked.as_ref(), &reasons);
            *checked = Some(Checked { at: Instant::now(), reasons: reasons.clone() });
            reasons
        });
        checking.await.unwrap_or_else(|_| vec!["the readiness checks failed".to_owned()])
    }
}

/// Reasons that this process knows without a check: it stops, one of its tasks is down, or the database takes
/// no pushes until an operator has repaired it.
fn known_reasons(app: &App) -> Vec<String> {
    let stopping = app.is_stopping().then(|| "the server is stopping".to_owned());
    let down = app.tasks().down().into_iter();
    let down = down.map(|task| format!("the task `{task}` failed and will be started again"));
    let health = app.store.health().problem().map(str::to_owned);
    stopping.into_iter().chain(down).chain(health).collect()
}

/// Runs all checks at the same time, each for at most the time of a request.
async fn run(app: &App) -> Vec<String> {
    let checks = CHECKS.iter().map(|check| async move {
        let late = |_| {
            tracing::debug!(check = check.name, "a readiness check took too long");
            vec![check.late.to_owned()]
        };
        timeout(app.limits.handler_seconds, (check.run)(app)).await.unwrap_or_else(late)
    });
    futures_util::future::join_all(checks).await.concat()
}

/// Logs when the result changes, and not each time that a probe asks.
fn log_change(last: Option<&Checked>, reasons: &[String]) {
    let before = last.map(|last| last.reasons.as_slice()).unwrap_or_default();
    if before == reasons {
        return;
    }
    if reasons.is_empty() {
        tracing::warn!("the server is ready again");
    } else {
        tracing::warn!(reasons = reasons.join("; "), "the server is not ready");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::Parts;

    /// An app whose only reason is that it has no issuer, and the folder of its database.
    fn app() -> (App, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (App::new(Parts::in_folder(folder.path())), folder)
    }

    #[tokio::test]
    async fn a_result_is_used_again_for_a_moment_and_then_renewed() {
        let (app, _folder) = app();
        let reasons = || app.readiness.reasons_against(&app);
        assert_eq!(reasons().await, ["no issuer is configured"]);
        app.store.close().await;
        assert_eq!(reasons().await, ["no issuer is configured"], "not asked again");
        if let Some(checked) = app.readiness.0.lock().await.as_mut() {
            checked.at -= FRESH_FOR;
        }
        assert_eq!(reasons().await, ["no issuer is configured", "the database is not available"]);
        app.stop.cancel();
        assert_eq!(reasons().await.last().unwrap(), "the server is stopping", "at once");
    }

    #[tokio::test]
    async fn names_of_checks_are_unique() {
        for check in &CHECKS {
            assert_eq!(CHECKS.iter().filter(|other| other.name == check.name).count(), 1);
        }
    }

    #[tokio::test]
    async fn a_check_goes_on_when_its_client_goes_away() {
        let (app, _folder) = app();
        let asked = app.readiness.reasons_against(&app).now_or_never();
        assert!(asked.is_none(), "the client does not wait");
        while app.readiness.0.lock().await.is_none() {
            tokio::task::yield_now().await;
        }
    }
}
