//! The NATS backend: for many nodes, and for databases or poolers without LISTEN.

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

use super::{
    inbox::Inbox,
    link_status::{self, LinkStatus},
    message,
    outbox::{Outbox, count_published},
};

const SUBJECT: &str = "vaultsync.heads";

/// How often the client pings the server. After the fourth ping without a response the connection counts as
/// lost.
const PING_INTERVAL: Duration = Duration::from_secs(5);

const ADVICE: &str = "check that this NATS user may publish and subscribe to `vaultsync.heads`";

/// Address of a NATS server: `nats://HOST:PORT` or `tls://HOST:PORT`, with a token or a user and password
/// before the host. It prints without them.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl(ServerAddr);

impl FromStr for NatsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected nats://HOST:PORT or tls://HOST:PORT";
        // The library would add the scheme.
        if !text.contains("://") {
            return Err(expected.to_owned());
        }
        let address: ServerAddr = text.parse().map_err(|error: io::Error| match error.kind() {
            // The error quotes the text, which may contain a token.
            io::ErrorKind::InvalidInput => expected.to_owned(),
            _ => format!("{expected}: {}", error.kind()),
        })?;
        if !["nats", "tls"].contains(&address.scheme()) || address.host().is_empty() {
            return Err(expected.to_owned());
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

/// Publishes and receives with one client, which reconnects by itself. `Ok` if the store closes and no
/// change is left.
pub(super) async fn session(
    urls: &[NatsUrl],
    inbox: &Inbox,
    outbox: &mut Outbox,
    status: &Arc<LinkStatus>,
) -> Result<(), String> {
    let (client, mut link) = connect(urls, status.clone()).await?;
    let mut messages = client.subscribe(SUBJECT).await.map_err(|error| error.to_string())?;
    let probing = probe(&client, inbox, link.clone());
    let receiving = async {
        while let Some(message) = messages.next().await {
            inbox.receive(&message.payload);
        }
        Err("the subscription ended".to_owned())
    };
    let publishing = async {
        let closing = outbox.closing.clone();
        // Without a connection, changes wait in the outbox, which is bounded, and not in the client.
        while is_up(&mut link, &closing).await {
            let Some(entries) = outbox.coalesce().await else { break };
            for message in message::encode_all(inbox.sender, &entries) {
                let published = client.publish(SUBJECT, message.into()).await;
                published.map_err(|error| error.to_string())?;
            }
            count_published(&entries);
        }
        client.flush().await.map_err(|error| error.to_string())
    };
    tokio::select! {
        ended = receiving => ended,
        ended = publishing => ended,
        () = probing => Ok(()),
    }
}

/// The number of the client's current connection. `None` while it is disconnected.
type Link = watch::Receiver<Option<u64>>;

/// Waits for a connection. Returns false if the store closes before there is one.
async fn is_up(link: &mut Link, closing: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        up = link.wait_for(Option::is_some) => up.is_ok(),
        () = closing.cancelled() => false,
    }
}

/// Sends the loopback probe on each new connection. The server handles it after the subscription, so once
/// it is back no notification is missed.
async fn probe(client: &Client, inbox: &Inbox, mut link: Link) {
    let mut probed = None;
    while let Ok(up) = link.wait_for(|up| up.is_some() && *up != probed).await.map(|up| *up) {
        probed = up;
        if client.publish(SUBJECT, message::probe(inbox.sender).into()).await.is_err() {
            break;
        }
        tokio::select! {
            () = inbox.expect_probe(ADVICE) => {}
            _ = link.wait_for(|now| *now != up) => {}
        }
    }
    // The link ends with the client.
    std::future::pending::<()>().await;
}

async fn connect(urls: &[NatsUrl], status: Arc<LinkStatus>) -> Result<(Client, Link), String> {
    let (up, link) = watch::channel(None);
    let connections = AtomicU64::new(0);
    let handle = move |event: &Event| match event {
        Event::Connected => {
            status.mark_up();
            up.send_replace(Some(connections.fetch_add(1, Ordering::Relaxed)));
        }
        Event::Disconnected => {
            up.send_replace(None);
            status.mark_down("the connection was lost");
        }
        Event::ClientError(error) if up.borrow().is_none() => {
            status.mark_down(&error.to_string());
        }
        event => tracing::debug!(%event, "NATS client event"),
    };
    let handle = Arc::new(handle);
    let options = ConnectOptions::new()
        .name("vaultsync")
        .retry_on_initial_connect()
        .ping_interval(PING_INTERVAL)
        .tls_client_config(tls()?)
        // Without delay at first, because another server of the cluster is probably up.
        .reconnect_delay_callback(|attempt| match attempt {
            0 | 1 => Duration::ZERO,
            attempt => link_status::retry_delays().nth(attempt.min(10) - 2).unwrap_or_default(),
        })
        .event_callback(move |event| {
            let handle = handle.clone();
            async move { handle(&event) }
        });
    let options = with_credentials(options, urls);
    let addresses: Vec<_> = urls.iter().map(|url| url.0.clone()).collect();
    let client = options.connect(addresses).await.map_err(|error| error.to_string())?;
    Ok((client, link))
}

/// Adds the credentials of the first address. All servers of a cluster accept the same ones.
fn with_credentials(options: ConnectOptions, urls: &[NatsUrl]) -> ConnectOptions {
    let first = urls.first().map(|url| url.0.clone().into_inner());
    let Some(url) = first.filter(|url| !url.username().is_empty()) else { return options };
    let decoded =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    match url.password() {
        Some(password) => options.user_and_password(decoded(url.username()), decoded(password)),
        None => options.token(decoded(url.username())),
    }
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
    fn an_address_prints_without_its_credentials() {
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
