//! The PostgreSQL backend: NOTIFY and LISTEN on a connection of their own.
//!
//! Never in a transaction that writes: until the end of its commit, a transaction that notifies holds a
//! lock of the whole database.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::poll_fn};
use tokio::{task::JoinSet, time::timeout};
use tokio_postgres::{AsyncMessage, Client};

use super::{
    inbox::Inbox,
    link_status::LinkStatus,
    message,
    outbox::{Outbox, count_published},
};
use crate::{
    DatabaseUrl,
    postgres_client::{RawConnection, connect, connect_raw},
};

const CHANNEL: &str = "vaultsync_heads";

/// How long a statement may take before the connection counts as lost.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

const ADVICE: &str = "if a pooler is in front of the database, set `notify_database` to an address \
                      of the database itself, or use `nats_url`";

/// Publishes and receives on one connection, until it is lost. `Ok` if the store closes and no change is
/// left.
pub(super) async fn session(
    url: &DatabaseUrl,
    inbox: &Inbox,
    outbox: &mut Outbox,
    status: &LinkStatus,
) -> Result<(), String> {
    let (client, connection) = connect_raw(url).await?;
    let mut receiving = JoinSet::new();
    receiving.spawn(receive(connection, inbox.clone()));
    // The statement of a session that was given up must end, too.
    let millis = STATEMENT_TIMEOUT.as_millis();
    run_statement(&client, &format!("set statement_timeout = {millis}")).await?;
    run_statement(&client, &format!("listen {CHANNEL}")).await?;
    status.mark_up();
    let publishing = async {
        while let Some(entries) = outbox.coalesce().await {
            for message in message::encode_all(inbox.sender, &entries) {
                run_statement(&client, &notify_statement(&message)).await?;
            }
            count_published(&entries);
        }
        Ok(())
    };
    let probing = async {
        probe(url, inbox).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = receiving.join_next() => Err(match ended {
            Some(Ok(reason)) => reason,
            _ => "the task that receives notifications panicked".to_owned(),
        }),
        ended = publishing => ended,
        () = probing => Ok(()),
    }
}

/// Polls the connection and receives its notifications, until it ends. Returns why it ended.
async fn receive(mut connection: RawConnection, inbox: Inbox) -> String {
    let mut messages = poll_fn(move |context| connection.poll_message(context));
    while let Some(message) = messages.next().await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => {
                let text = notification.payload().as_bytes();
                let message = base64_simd::STANDARD.decode_to_vec(text).unwrap_or_default();
                inbox.receive(&message);
            }
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
    "the connection was closed".to_owned()
}

/// Sends the loopback probe on another connection, and waits for it. A pooler could run it on the very
/// server connection that listens, and would then deliver it to the sender.
async fn probe(url: &DatabaseUrl, inbox: &Inbox) {
    let sent = async {
        let client = connect(url).await.map_err(|error| error.to_string())?;
        run_statement(&client, &notify_statement(&message::probe(inbox.sender))).await
    };
    match sent.await {
        Ok(()) => inbox.expect_probe(ADVICE).await,
        Err(error) => {
            tracing::debug!(error, "the test notification could not be sent");
            inbox.notifier.notify_all();
        }
    }
}

async fn run_statement(client: &Client, statement: &str) -> Result<(), String> {
    let sent = timeout(STATEMENT_TIMEOUT, client.batch_execute(statement)).await;
    let sent = sent.map_err(|_| "the database did not respond in time".to_owned())?;
    sent.map_err(|error| error.to_string())
}

/// The statement that sends a message. Base64 contains no quotes.
fn notify_statement(message: &[u8]) -> String {
    format!("notify {CHANNEL}, '{}'", base64_simd::STANDARD.encode_to_string(message))
}
