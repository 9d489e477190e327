//! `vaultsync serve`: starts the server and stops it on a signal.
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
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use vaultsync_server::{
    App, Clock, Parts, SystemClock,
    auth::{Authenticator, Issuer, LocalKey},
    install_metrics, router, serve, serve_admin,
};
use vaultsync_tasks::Task;

use crate::{
    banner::Banner,
    data_dir, descriptors,
    logging::LostLines,
    settings::{Database, Settings, SignIn},
    signals::Signals,
    stores,
};

/// User and lifetime of the token in the banner.
const BANNER_USER: &str = "demo";
const BANNER_TTL: Duration = Duration::from_secs(3600);

/// Number of tasks that a worker of the runtime polls between checks of the global queue. Tasks woken by
/// another thread wait in that queue: pushes that SQLite's writer thread has finished, for example. With
/// tokio's default, up to a hundred, the p99 latency of accepted pushes at five times the load that the
/// server could take was 10 s; with 1 it is 0.7 s.
const GLOBAL_QUEUE_INTERVAL: u32 = 1;

/// Time that the database has to finish its work after the last request.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until the process receives a signal to stop, then drains requests in flight.
pub(crate) fn run(
    settings: Settings,
    signals: &Signals,
    lost_lines: LostLines,
) -> anyhow::Result<()> {
    let files_max = descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
        .build()?;
    let served = runtime.block_on(serve_until_stopped(settings, files_max, signals, lost_lines));
    // Dropping the runtime instead would wait for a database that hangs.
    runtime.shutdown_timeout(CLOSE_TIMEOUT);
    served
}

async fn serve_until_stopped(
    mut settings: Settings,
    files_max: Option<usize>,
    signals: &Signals,
    lost_lines: LostLines,
) -> anyhow::Result<()> {
    data_dir::create(&settings.data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let store = stores::open(&settings).await?;
    descriptors::cap_connections(&mut settings.limits, files_max, store.files_max())?;
    let key = local_key(&settings)?;
    let listener = bind(settings.listen, "listen")?;
    let admin = match settings.admin_listen {
        Some(address) => Some(bind(address, "admin_listen")?),
        None => None,
    };
    let banner = banner(&settings, &listener, admin.as_ref(), key.as_ref(), &*clock)?;

    let issuers = issuers(settings.sign_in, key.as_ref())?;
    let origins = settings.cors_origins.iter().map(|origin| HeaderValue::from_str(origin));
    let app = App::new(Parts {
        authenticator: Authenticator::new(issuers, settings.limits.token_bytes_max, clock.clone()),
        store,
        clock,
        cors_origins: origins.collect::<Result<_, _>>()?,
        docs_url: settings.docs_url,
        trusted_proxies: settings.trusted_proxies,
        log_key: data_dir::log_key(&settings.data_dir)?,
        metrics: install_metrics()?,
        stop: CancellationToken::new(),
        limits: settings.limits,
    });
    let _tasks = start_tasks(&app, admin, lost_lines)?;
    let stop_requested = signals.stop_requested();
    let drain = async {
        stop_requested.cancelled().await;
        app.drain().await;
    };
    tracing::info!(address = %listener.local_addr()?, "listening");
    print(banner);
    tokio::join!(serve(app.clone(), listener, router(app.clone())), drain);
    if tokio::time::timeout(CLOSE_TIMEOUT, app.close()).await.is_err() {
        tracing::warn!("the database did not close within {CLOSE_TIMEOUT:?}");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Starts the tasks that live as long as the server.
fn start_tasks(
    app: &App,
    admin: Option<TcpListener>,
    lost_lines: LostLines,
) -> anyhow::Result<Vec<Task>> {
    let mut tasks = Vec::from(app.start_tasks());
    tasks.push(app.tasks().spawn("log-watch", move || lost_lines.clone().watch()));
    if let Some(admin) = admin {
        // The listener stays open if the task is started again.
        let (served, admin) = (app.clone(), admin.into_std()?);
        tasks.push(app.tasks().spawn("admin-listener", move || {
            let (app, listener) =
                (served.clone(), admin.try_clone().and_then(TcpListener::from_std));
            async move {
                let listener = listener.expect("a descriptor for the admin address");
                serve_admin(app, listener).await;
            }
        }));
    }
    Ok(tasks)
}

/// Prints the banner on a thread of its own. A banner that cannot be written, or that is not read, is no
/// reason not to serve.
fn print(banner: Banner) {
    std::thread::spawn(move || {
        let _ = write!(io::stdout(), "{banner}");
    });
}

fn local_key(settings: &Settings) -> anyhow::Result<Option<LocalKey>> {
    settings.sign_in.local.then(|| Ok(LocalKey::load_or_create(&settings.data_dir)?)).transpose()
}

fn issuers(sign_in: SignIn, key: Option<&LocalKey>) -> anyhow::Result<Vec<Issuer>> {
    let clerk = sign_in.clerk.map(Issuer::clerk).transpose()?;
    let oidc = sign_in.oidc.map(Issuer::oidc).transpose()?;
    Ok(clerk.into_iter().chain(oidc).chain(key.map(Issuer::local)).collect())
}

/// Maximum number of connections that wait to be accepted. Beyond it the system drops connections that
/// their clients consider open, and those clients wait longer than any deadline. Linux allows this many
/// by default.
const BACKLOG: u32 = 4096;

fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let listen = || -> io::Result<TcpListener> {
        let socket: TcpSocket =
            if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Lets a restarted server listen while connections of the last one linger. On other systems the
        // option would let two servers listen at the same time.
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
) -> anyhow::Result<Banner> {
    let address = listener.local_addr()?;
    // A token is printed only to try the server on the same machine.
    let token = key
        .filter(|_| address.ip().is_loopback())
        .map(|key| key.mint(BANNER_USER, clock.now(), BANNER_TTL))
        .transpose()?;
    Ok(Banner {
        address,
        admin: admin.map(TcpListener::local_addr).transpose()?,
        database: address_of(&settings.database)?,
        local_issuer: key.is_some(),
        token,
    })
}

/// Address of the database. The path of a file is absolute, so that it is valid in any directory.
fn address_of(database: &Database) -> anyhow::Result<String> {
    match database {
        Database::Sqlite(path) => Ok(std::path::absolute(path)?.display().to_string()),
        Database::Postgres(_) => Ok(database.to_string()),
    }
}
