//! Writes of the writer thread that are no pushes.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::Sqlite;
use crate::{StoreError, VaultId};

/// What a task does in its transaction.
type Write = dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send;

/// A write in a transaction of its own.
pub(super) struct WriteTask {
    /// The vaults whose rows it may change: their cached heads are invalid afterwards.
    pub(super) vaults: Vec<VaultId>,
    pub(super) run: Box<Write>,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Sqlite {
    /// Runs a write on the writer thread, between two batches of pushes. It may be committed even if the outcome is
    /// an error, so it must be one that can be repeated.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        vaults: Vec<VaultId>,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.health.check()?;
        let (reply, outcome) = oneshot::channel();
        let result = Arc::new(Mutex::new(None));
        let written = Arc::clone(&result);
        let run = Box::new(move |connection: &Connection| {
            let value = write(connection)?;
            *written.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(())
        });
        self.writer.send_task(WriteTask { vaults, run, reply })?;
        let lost = || StoreError::Unavailable("the writer thread dropped a write".to_owned());
        outcome.await.map_err(|_| lost())??;
        let value = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        value.ok_or_else(lost)
    }
}
