//! Hints by NATS: for many nodes, and for databases or poolers without LISTEN.

use std::{
    fmt, io,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use futures_util::StreamExt as _;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Inbox, LinkStatus, Outbox, count_told, link_status};

const SUBJECT: &str = "vaultsync.heads";

/// How often the server is asked whether it is there. At the fourth time without an answer it is not.
const PING_INTERVAL: Duration = Duration::from_secs(5);

const ADVICE: &str = "may this user publish and subscribe to `vaultsync.heads`?";

/// The address of a NATS server: `nats://HOST:PORT`, or `tls://`, with a token or a user and password
/// before the host. It prints without them.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl(ServerAddr);

impl FromStr for NatsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "expected nats://HOST:PORT or tls://HOST:PORT";
        // The library would put the scheme before it.
        if !text.contains("://") {
            return Err(form.to_owned());
        }
        let address: ServerAddr = text.parse().map_err(|error: io::Error| match error.kind() {
            // The text itself may hold a token.
            io::ErrorKind::InvalidInput => form.to_owned(),
            _ => format!("{form}: {}", error.kind()),
        })?;
        if !["nats", "tls"].contains(&address.scheme()) || address.host().is_empty() {
            return Err(form.to_owned());
        }
        Ok(Self(address))
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.0.scheme(), self.0.host(), self.0.port())
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsUrl({self})")
    }
}

/// One client, which connects by itself, now or later, and again and again. `Ok` where there will be no
/// more changes.
pub(super) async fn session(
    urls: &[NatsUrl],
    inbox: &Inbox,
    changes: &mut Outbox,
    status: &Arc<LinkStatus>,
) -> Result<(), String> {
    let (client, mut line) = connect(urls, status.clone()).await?;
    let mut messages = client.subscribe(SUBJECT).await.map_err(|error| error.to_string())?;
    let greeting = greet(&client, inbox, line.clone());
    let hearing = async {
        while let Some(message) = messages.next().await {
            inbox.receive(&message.payload);
        }
        Err("the subscription ended".to_owned())
    };
    let telling = async {
        let closing = changes.closing.clone();
        // What cannot be told yet waits among the changes, which are bounded, and not in the client.
        while is_up(&mut line, &closing).await {
            let Some(entries) = changes.coalesce().await else { break };
            for message in inbox.messages(&entries) {
                let told = client.publish(SUBJECT, message.into()).await;
                told.map_err(|error| error.to_string())?;
            }
            count_told(&entries);
        }
        client.flush().await.map_err(|error| error.to_string())
    };
    tokio::select! {
        ended = hearing => ended,
        told = telling => told,
        () = greeting => Ok(()),
    }
}

/// Which of the connections of a client is up, by number.
type Line = watch::Receiver<Option<u64>>;

/// Waits for a connection; whether there is one before the store closes.
async fn is_up(line: &mut Line, closing: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        up = line.wait_for(Option::is_some) => up.is_ok(),
        () = closing.cancelled() => false,
    }
}

/// Sends a greeting on each new connection. The server takes it after the subscription, so when it is
/// back nothing is missed any more.
async fn greet(client: &Client, inbox: &Inbox, mut line: Line) {
    let mut greeted = None;
    while let Ok(up) = line.wait_for(|up| up.is_some() && *up != greeted).await.map(|up| *up) {
        greeted = up;
        if client.publish(SUBJECT, inbox.greeting().into()).await.is_err() {
            break;
        }
        tokio::select! {
            () = inbox.expect_echo(ADVICE) => {}
            _ = line.wait_for(|now| *now != up) => {}
        }
    }
    // The line ends with the client.
    std::future::pending::<()>().await;
}

async fn connect(urls: &[NatsUrl], status: Arc<LinkStatus>) -> Result<(Client, Line), String> {
    let (up, line) = watch::channel(None);
    let made = AtomicU64::new(0);
    let told = move |event: &Event| match event {
        Event::Connected => {
            status.ends();
            up.send_replace(Some(made.fetch_add(1, Ordering::Relaxed)));
        }
        Event::Disconnected => {
            up.send_replace(None);
            status.begins("the connection was lost");
        }
        Event::ClientError(error) if up.borrow().is_none() => {
            status.begins(&error.to_string());
        }
        event => tracing::debug!(%event, "NATS"),
    };
    let told = Arc::new(told);
    let mut options = ConnectOptions::new()
        .name("vaultsync")
        .retry_on_initial_connect()
        .ping_interval(PING_INTERVAL)
        .tls_client_config(tls()?)
        // At once at first, since another server of the cluster may well be there.
        .reconnect_delay_callback(|attempt| match attempt {
            0 | 1 => Duration::ZERO,
            attempt => link_status::pauses().nth(attempt.min(10) - 2).unwrap_or_default(),
        })
        .event_callback(move |event| {
            let told = told.clone();
            async move { told(&event) }
        });
    // All servers of one cluster take the same.
    let first = urls.first().map(|url| url.0.clone().into_inner());
    if let Some(url) = first.filter(|url| !url.username().is_empty()) {
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
        };
        options = match url.password() {
            Some(password) => options.user_and_password(decoded(url.username()), decoded(password)),
            None => options.token(decoded(url.username())),
        };
    }
    let addresses: Vec<_> = urls.iter().map(|url| url.0.clone()).collect();
    let client = options.connect(addresses).await.map_err(|error| error.to_string())?;
    Ok((client, line))
}

fn tls() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_prints_without_its_secrets() {
        for (text, shown) in [
            ("nats://n.example", "nats://n.example:4222"),
            ("nats://s3cret@n.example:1", "nats://n.example:1"),
            ("tls://me:s3cret@n.example", "tls://n.example:4222"),
        ] {
            let url: NatsUrl = text.parse().unwrap();
            assert_eq!(
                (url.to_string(), format!("{url:?}")),
                (shown.into(), format!("NatsUrl({shown})"))
            );
        }
        for text in ["http://s3cret@h", "ws://s3cret@h", "nats://", "s3cret@h:x", "s3cret@h"] {
            let error = text.parse::<NatsUrl>().unwrap_err();
            assert!(error.contains("expected nats://") && !error.contains("s3cret"), "{error}");
        }
    }
}
