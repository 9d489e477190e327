//! Hints by NATS: for many nodes, and for databases or poolers without LISTEN.

use std::{fmt, io, str::FromStr, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, connection::State};
use futures_util::StreamExt as _;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use super::{Changes, count_told, gather, hear, message};
use crate::Heads;

const SUBJECT: &str = "vaultsync.heads";

/// The longest pause between two tries to connect.
const PAUSE_MAX: Duration = Duration::from_secs(1);

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

/// Tells `changes` to all who subscribe, and `heads` what others tell, for as long as it is let.
pub(super) async fn relay(urls: Vec<NatsUrl>, heads: Heads, mut changes: Changes) {
    let client = match connect(&urls, heads.clone()).await {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(error, "no hints go to or come from other nodes");
            return;
        }
    };
    let telling = async {
        while let Some(entries) = gather(&mut changes).await {
            tell(&client, &entries).await;
        }
    };
    tokio::select! {
        () = hear_always(&client, &heads) => {}
        () = telling => {}
    }
}

/// Hears what others tell, and subscribes again where that has ended.
async fn hear_always(client: &Client, heads: &Heads) {
    loop {
        match client.subscribe(SUBJECT).await {
            Ok(mut messages) => {
                while let Some(message) = messages.next().await {
                    hear(heads, &message.payload);
                }
                tracing::warn!("hints from other nodes have ended; subscribing again");
            }
            Err(error) => tracing::warn!(%error, "NATS takes no subscription to hints"),
        }
        tokio::time::sleep(PAUSE_MAX).await;
        heads.wake_all();
    }
}

async fn tell(client: &Client, entries: &[(crate::VaultId, vaultsync_protocol::Timestamp)]) {
    if client.connection_state() != State::Connected {
        // What nobody can be told now is forgotten, so that it does not wait for a later day.
        metrics::counter!("vaultsync_hints_dropped_total").increment(entries.len() as u64);
        return;
    }
    count_told(entries.len());
    for entries in entries.chunks(message::ENTRIES_MAX) {
        let message = message::encode(entries);
        if let Err(error) = client.publish(SUBJECT, message.into()).await {
            tracing::debug!(%error, "a hint is lost");
        }
    }
}

/// A client that connects by itself, now or later, and again and again.
async fn connect(urls: &[NatsUrl], heads: Heads) -> Result<Client, String> {
    let mut options = ConnectOptions::new()
        .name("vaultsync")
        .no_echo()
        .retry_on_initial_connect()
        .tls_client_config(tls()?)
        .reconnect_delay_callback(|attempts| {
            let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(16);
            let doubled = Duration::from_millis(50) * 2_u32.pow(doublings);
            doubled.min(PAUSE_MAX)
        })
        .event_callback(move |event| {
            let heads = heads.clone();
            async move { tell_of(&event, &heads) }
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
    options.connect(addresses).await.map_err(|error| error.to_string())
}

fn tell_of(event: &Event, heads: &Heads) {
    match event {
        Event::Connected => {
            tracing::info!("hints go to and come from other nodes, by NATS");
            // Something may have been told while nobody heard.
            heads.wake_all();
        }
        Event::Disconnected => tracing::warn!("hints to and from other nodes are interrupted"),
        event => tracing::debug!(%event, "NATS"),
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
