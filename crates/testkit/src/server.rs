//! A whole server on a free port, and the responses it gives.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusHandle;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vaultsync_protocol::Epoch;
use vaultsync_server::{
    App, Clock, Limits, Parts, SystemClock,
    auth::{Authenticator, Issuer, LocalKey},
};

use crate::{Backend, TestDatabase};

/// A server that listens on a free port, with its own database. It stops when dropped.
pub struct TestServer {
    /// The address it listens on.
    pub address: SocketAddr,
    /// Its local issuer's key.
    pub key: LocalKey,
    /// Its application state.
    pub app: App,
    stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
    client: reqwest::Client,
    _database: TestDatabase,
}

/// The settings that a test may change before its server starts.
pub struct Setup {
    /// The kind of its database.
    pub backend: Backend,
    /// The limits; rate limits are off unless a test sets them.
    pub limits: Limits,
    /// Issuers in addition to the local one.
    pub issuers: Vec<Issuer>,
    /// A clock that replaces the machine's.
    pub clock: Option<Arc<dyn Clock>>,
    /// Send buffer of each connection in bytes, instead of the system's default: with a small buffer, the
    /// server soon waits for a client that does not read.
    pub send_buffer_bytes: Option<u32>,
    /// Authenticator that replaces the local issuer and `issuers`.
    pub authenticator: Option<Authenticator>,
    /// See [`Parts`].
    pub cors_origins: Vec<&'static str>,
    /// Page that errors link to.
    pub docs_url: Option<String>,
    /// See [`Parts`].
    pub trusted_proxies: Vec<&'static str>,
}

impl Setup {
    /// A server without rate limits that accepts tokens of its local issuer. There is no default backend, so
    /// that no case runs on another backend than its name says.
    pub fn on(backend: Backend) -> Self {
        Self {
            backend,
            limits: Limits { rate_limit: 0, ..Limits::default() },
            issuers: Vec::new(),
            clock: None,
            send_buffer_bytes: None,
            authenticator: None,
            cors_origins: Vec::new(),
            docs_url: None,
            trusted_proxies: Vec::new(),
        }
    }
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub text: String,
}

impl Answer {
    /// The body as JSON; fails the test if it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header, or an empty string.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl TestServer {
    /// Starts a server without rate limits that accepts tokens of its local issuer.
    pub async fn start(backend: Backend) -> Self {
        Self::start_with(Setup::on(backend)).await
    }

    /// Starts a server with the settings of `setup`. Set `rate_limit` to have rate limits.
    pub async fn start_with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = LocalKey::load_or_create(folder.path()).expect("a key");
        let clock = setup.clock.unwrap_or_else(|| Arc::new(SystemClock::start()));
        let limits = setup.limits;
        let options = limits.store_options(|| Epoch::new(Uuid::new_v4()));
        let database = TestDatabase::new(setup.backend);
        let store = database.open(options).await;
        let mut issuers = setup.issuers;
        issuers.push(Issuer::local(&key));
        let authenticator = setup
            .authenticator
            .unwrap_or_else(|| Authenticator::new(issuers, limits.token_bytes_max, clock.clone()));
        let stop = CancellationToken::new();
        let app = App::new(Parts {
            store,
            authenticator,
            limits,
            clock,
            cors_origins: setup
                .cors_origins
                .iter()
                .map(|origin| origin.parse().expect("an origin"))
                .collect(),
            trusted_proxies: setup
                .trusted_proxies
                .iter()
                .map(|network| network.parse().expect("a network"))
                .collect(),
            docs_url: setup.docs_url,
            log_key: [7; 32],
            metrics: metrics(),
            stop: stop.clone(),
        });
        let listener = listen(setup.send_buffer_bytes).await;
        let address = listener.local_addr().expect("a bound address");
        let router = vaultsync_server::router(app.clone());
        let serving = Some(tokio::spawn(vaultsync_server::serve(app.clone(), listener, router)));
        // They end when the server stops.
        tokio::spawn(app.clone().finish_erasures());
        tokio::spawn(app.clone().collect_garbage());
        let client = reqwest::Client::new();
        Self { address, key, app, stop, serving, client, _database: database }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A token of `user` that is valid for an hour.
    pub fn token(&self, user: &str) -> String {
        let now = SystemClock::start().now();
        self.key.mint(user, now, Duration::from_secs(3600)).expect("a token")
    }

    /// A request to a path, which the test completes.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// Pushes a JSON body as `user`.
    pub async fn push(&self, user: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, "/api/sync/push").bearer_auth(self.token(user));
        send(request.json(body)).await
    }

    /// Pulls as `user` with a query such as `?limit=7`, or an empty one.
    pub async fn pull(&self, user: &str, query: &str) -> Answer {
        let path = format!("/api/sync/pull{query}");
        send(self.request(Method::GET, &path).bearer_auth(self.token(user))).await
    }

    /// Stops the server, and waits until it has drained.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.expect("the server ends without a panic");
        }
        self.app.close().await;
    }

    /// Starts to stop the server, and does not wait.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Listens on a free port. Connections inherit the buffer size of the listener.
async fn listen(send_buffer_bytes: Option<u32>) -> TcpListener {
    let Some(bytes) = send_buffer_bytes else {
        return TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    };
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(bytes).expect("a buffer of that size");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    socket.listen(16).expect("a listener")
}

/// Sends a request, and reads the whole response.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("a response");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.expect("a body") }
}

/// One operation of a push, as JSON. An empty `ciphertext` makes a tombstone.
pub fn operation(record_id: &str, base_version: Option<u64>, ciphertext: &[u8]) -> Value {
    json!({
        "recordId": record_id,
        "baseVersion": base_version,
        "ciphertext": base64_simd::STANDARD.encode_to_string(ciphertext),
        "deleted": ciphertext.is_empty(),
    })
}

/// A push of these operations, as JSON.
pub fn push_of(operations: impl IntoIterator<Item = Value>) -> Value {
    json!({ "operations": operations.into_iter().collect::<Vec<_>>() })
}

/// The metrics recorder of the process: there can be only one, so all tests share it.
fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| vaultsync_server::install_metrics().expect("the first recorder")).clone()
}
