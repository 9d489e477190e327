//! Hints by PostgreSQL's NOTIFY, on a connection of their own, never in a transaction that writes: up
//! to the end of its commit such a one holds a lock of the whole database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::poll_fn};
use tokio::task::JoinSet;
use tokio_postgres::AsyncMessage;

use super::{Changes, count_told, gather, hear, message};
use crate::{DatabaseUrl, Heads, postgres};

const CHANNEL: &str = "vaultsync_heads";

/// Between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// How long one's own hint may take to come back, before somebody is told that none does.
const ECHO_MAX: Duration = Duration::from_secs(5);

/// How long telling may take; a connection that takes longer is given up.
const TELL_MAX: Duration = Duration::from_secs(5);

/// Tells `changes` to all who listen, and `heads` what others tell, for as long as it is let.
pub(super) async fn relay(url: DatabaseUrl, heads: Heads, mut changes: Changes) {
    let mut is_told = false;
    loop {
        match session(&url, &heads, &mut changes, &mut is_told).await {
            Ok(()) => return,
            Err(error) if !is_told => {
                tracing::warn!(%url, error, "hints to and from other nodes are interrupted");
                is_told = true;
            }
            Err(error) => tracing::debug!(%url, error, "hints are still interrupted"),
        }
        let pause = tokio::time::sleep(PAUSE);
        tokio::pin!(pause);
        // What nobody can be told now is forgotten, so that it does not wait for a later day.
        while let Some(Some(_)) = tokio::select! {
            change = changes.recv() => Some(change),
            () = &mut pause => None,
        } {}
    }
}

/// One connection, from its making to its end. `Ok` where there will be no more changes.
async fn session(
    url: &DatabaseUrl,
    heads: &Heads,
    changes: &mut Changes,
    is_told: &mut bool,
) -> Result<(), String> {
    let (client, mut connection) = postgres::open_raw(url).await?;
    let echo = Arc::new(AtomicBool::new(false));
    let mut hearing = JoinSet::new();
    let (heard, listeners) = (echo.clone(), heads.clone());
    hearing.spawn(async move {
        let mut messages = poll_fn(move |context| connection.poll_message(context));
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notification(hint)) => {
                    heard.store(true, Ordering::Relaxed);
                    let text = hint.payload().as_bytes();
                    let message = base64_simd::STANDARD.decode_to_vec(text).unwrap_or_default();
                    hear(&listeners, &message);
                }
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
        "the connection was closed".to_owned()
    });
    let send = async |statement: &str| {
        let sent = tokio::time::timeout(TELL_MAX, client.batch_execute(statement)).await;
        let sent = sent.map_err(|_| "the database did not answer in time".to_owned())?;
        sent.map_err(|error| error.to_string())
    };
    send(&format!("listen {CHANNEL}")).await?;
    send(&notification(&message::encode(&[]))).await?;
    if std::mem::take(is_told) {
        tracing::info!(%url, "hints to and from other nodes are back");
    }
    // Something may have been told while nobody listened.
    heads.wake_all();
    let telling = async {
        while let Some(entries) = gather(changes).await {
            count_told(entries.len());
            for entries in entries.chunks(message::ENTRIES_MAX) {
                send(&notification(&message::encode(entries))).await?;
            }
        }
        Ok(())
    };
    let looking_for_echo = async {
        tokio::time::sleep(ECHO_MAX).await;
        if !echo.load(Ordering::Relaxed) {
            tracing::warn!(
                %url,
                "hints sent here do not come back: is there a pooler between? Then give \
                 `notify_database` an address past it, or use `nats_url`"
            );
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = hearing.join_next() => Err(ended.and_then(Result::ok).unwrap_or_default()),
        told = telling => told,
        () = looking_for_echo => Ok(()),
    }
}

/// The statement that sends a message. Base64 has no quotes.
fn notification(message: &[u8]) -> String {
    format!("notify {CHANNEL}, '{}'", base64_simd::STANDARD.encode_to_string(message))
}
