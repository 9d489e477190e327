//! `vaultsync serve`: the server, from its settings to its end.
//!
//! Not here: routes, sign-in, SQL.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use http::HeaderValue;
use tokio::{
    net::{TcpListener, TcpSocket},
    signal,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vaultsync_protocol::Epoch;
use vaultsync_server::{
    App, Clock, Parts, SystemClock, admin_router,
    auth::{Authenticator, Issuer, LocalKey},
    install_metrics, router, serve,
};
use vaultsync_store::{Store, StoreOptions};

use crate::{
    banner, data_dir,
    settings::{Database, Settings, SignIn},
};

/// Who the token in the banner is for, and how long it is good.
const GREETED_USER: &str = "demo";
const GREETED_TTL: Duration = Duration::from_secs(3600);

/// After how many turns the runtime looks for what other threads woke: the pushes that SQLite's writing
/// thread is done with. By default that is up to a hundred, and where five times as many pushes came as the
/// server could take, the 99th of 100 that it accepted was answered after 10 s; now that is 0.7 s.
const ANSWERS_EVERY: u32 = 1;

/// How long the database may take to finish what it has begun when all requests are answered or cut.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until the process is told to stop, and then lets requests in flight finish.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .global_queue_interval(ANSWERS_EVERY)
        .build()?;
    let served = runtime.block_on(serve_until_stopped(settings));
    // Not by dropping it: that waits for a database that hangs.
    runtime.shutdown_timeout(CLOSE_TIMEOUT);
    served
}

async fn serve_until_stopped(settings: Settings) -> anyhow::Result<()> {
    data_dir::create(&settings.data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let store = open(&settings).await?;
    let key = local_key(&settings)?;
    let listener = bind(settings.listen, "listen")?;
    let admin = match settings.admin_listen {
        Some(address) => Some(bind(address, "admin_listen")?),
        None => None,
    };
    let banner = banner(&settings, &listener, admin.as_ref(), key.as_ref(), &*clock)?;

    let stop = CancellationToken::new();
    let issuers = issuers(settings.sign_in, key.as_ref())?;
    let origins = settings.cors_origins.iter().map(|origin| HeaderValue::from_str(origin));
    let app = App::new(Parts {
        authenticator: Authenticator::new(issuers, settings.limits.token_bytes_max, clock.clone()),
        store,
        clock,
        cors_origins: origins.collect::<Result<_, _>>()?,
        trusted_proxies: settings.trusted_proxies,
        log_key: data_dir::log_key(&settings.data_dir)?,
        metrics: install_metrics()?,
        stop: stop.clone(),
        limits: settings.limits,
    });
    stop_on_signal(stop)?;
    tokio::spawn(app.clone().tidy());
    tokio::spawn(app.clone().watch());
    if let Some(admin) = admin {
        tokio::spawn(serve(app.clone(), admin, admin_router(app.clone())));
    }
    tracing::info!(address = %listener.local_addr()?, "listening");
    // Where nobody reads it, the server serves all the same.
    let _ = std::io::stdout().write_all(banner.as_bytes());
    serve(app.clone(), listener, router(app.clone())).await;
    if tokio::time::timeout(CLOSE_TIMEOUT, app.close()).await.is_err() {
        tracing::warn!("the database did not close in time");
    }
    tracing::info!("stopped");
    Ok(())
}

async fn open(settings: &Settings) -> anyhow::Result<Store> {
    let options = StoreOptions {
        page_bytes_max: settings.limits.page_bytes_max,
        new_epoch: || Epoch::new(Uuid::new_v4()),
    };
    match &settings.database {
        Database::Sqlite(path) => Ok(Store::open_sqlite(path.clone(), options)?),
        Database::Postgres(postgres) => Ok(Store::open_postgres(postgres.clone(), options).await?),
    }
}

fn local_key(settings: &Settings) -> anyhow::Result<Option<LocalKey>> {
    settings.sign_in.local.then(|| Ok(LocalKey::load_or_create(&settings.data_dir)?)).transpose()
}

fn issuers(sign_in: SignIn, key: Option<&LocalKey>) -> anyhow::Result<Vec<Issuer>> {
    let clerk = sign_in.clerk.map(Issuer::clerk).transpose()?;
    let oidc = sign_in.oidc.map(Issuer::oidc).transpose()?;
    Ok(clerk.into_iter().chain(oidc).chain(key.map(Issuer::local)).collect())
}

/// How many connections wait to be taken. Past it the system forgets some that their clients hold for open,
/// and those wait for longer than any deadline says. Linux allows as many where it is set to nothing else.
const BACKLOG: u32 = 4096;

fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let listen = || -> io::Result<TcpListener> {
        let socket: TcpSocket =
            if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // So that a server that starts again need not wait for the connections of the last one. Elsewhere
        // it would mean that two may listen at a time.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("cannot listen on {address} (setting `{setting}`)"))
}

fn banner(
    settings: &Settings,
    listener: &TcpListener,
    admin: Option<&TcpListener>,
    key: Option<&LocalKey>,
    clock: &dyn Clock,
) -> anyhow::Result<String> {
    let address = listener.local_addr()?;
    // A token on a screen is for trying out on one's own machine.
    let token = key
        .filter(|_| address.ip().is_loopback())
        .map(|key| key.mint(GREETED_USER, clock.now(), GREETED_TTL))
        .transpose()?;
    Ok(banner::text(&banner::Banner {
        address,
        admin: admin.map(TcpListener::local_addr).transpose()?,
        database: place(&settings.database)?,
        local_issuer: key.is_some(),
        token,
    }))
}

/// Where the records are, so that they are found from anywhere.
fn place(database: &Database) -> anyhow::Result<String> {
    match database {
        Database::Sqlite(path) => Ok(std::path::absolute(path)?.display().to_string()),
        Database::Postgres(_) => Ok(database.to_string()),
    }
}

/// Stops the server at the first SIGTERM or SIGINT, and the process at the second.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    // Both from here on, and not from when the task first runs: until then the default would hold.
    #[cfg(unix)]
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    #[cfg(unix)]
    let mut interrupt = signal::unix::signal(signal::unix::SignalKind::interrupt())?;
    tokio::spawn(async move {
        for times in 1.. {
            #[cfg(unix)]
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            #[cfg(not(unix))]
            let _ = signal::ctrl_c().await;
            if times > 1 {
                tracing::warn!("told to stop again: not waiting for requests in flight");
                std::process::exit(1);
            }
            tracing::info!("stopping: requests in flight may finish");
            stop.cancel();
        }
    });
    Ok(())
}
