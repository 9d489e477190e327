//! Hints by PostgreSQL's NOTIFY, on a connection of their own, never in a transaction that writes: up
//! to the end of its commit such a one holds a lock of the whole database.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::poll_fn};
use tokio::{task::JoinSet, time::timeout};
use tokio_postgres::{AsyncMessage, Client};

use super::{Inbox, LinkStatus, Outbox, count_told};
use crate::{DatabaseUrl, postgres};

const CHANNEL: &str = "vaultsync_heads";

/// How long telling may take; a connection that takes longer is given up.
const TELL_MAX: Duration = Duration::from_secs(5);

const ADVICE: &str = "is there a pooler between? Then give `notify_database` an address past it, or \
                      use `nats_url`";

/// One connection, from its making to its end. `Ok` where there will be no more changes.
pub(super) async fn session(
    url: &DatabaseUrl,
    inbox: &Inbox,
    changes: &mut Outbox,
    status: &LinkStatus,
) -> Result<(), String> {
    let (client, mut connection) = postgres::open_raw(url).await?;
    let mut hearing = JoinSet::new();
    let receiver = inbox.clone();
    hearing.spawn(async move {
        let mut messages = poll_fn(move |context| connection.poll_message(context));
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notification(hint)) => {
                    let text = hint.payload().as_bytes();
                    let message = base64_simd::STANDARD.decode_to_vec(text).unwrap_or_default();
                    receiver.receive(&message);
                }
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
        "the connection was closed".to_owned()
    });
    send(&client, &format!("listen {CHANNEL}")).await?;
    status.ends();
    let telling = async {
        while let Some(entries) = changes.coalesce().await {
            for message in inbox.messages(&entries) {
                send(&client, &notification(&message)).await?;
            }
            count_told(&entries);
        }
        Ok(())
    };
    let greeting = async {
        greet(url, inbox).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = hearing.join_next() => Err(ended.and_then(Result::ok).unwrap_or_default()),
        told = telling => told,
        () = greeting => Ok(()),
    }
}

/// Sends a greeting and waits for it, on another connection: a pooler may well run it on the very
/// connection that listens, and then hands it to whoever sent it.
async fn greet(url: &DatabaseUrl, inbox: &Inbox) {
    let greeted = async {
        let client = postgres::open_plain(url).await.map_err(|error| error.to_string())?;
        send(&client, &notification(&inbox.greeting())).await
    };
    match greeted.await {
        Ok(()) => inbox.expect_echo(ADVICE).await,
        Err(error) => {
            tracing::debug!(error, "whether hints arrive could not be tried");
            inbox.notifier.notify_all();
        }
    }
}

async fn send(client: &Client, statement: &str) -> Result<(), String> {
    let sent = timeout(TELL_MAX, client.batch_execute(statement)).await;
    let sent = sent.map_err(|_| "the database did not answer in time".to_owned())?;
    sent.map_err(|error| error.to_string())
}

/// The statement that sends a message. Base64 has no quotes.
fn notification(message: &[u8]) -> String {
    format!("notify {CHANNEL}, '{}'", base64_simd::STANDARD.encode_to_string(message))
}
