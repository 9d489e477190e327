//! Signals: SIGTERM and SIGINT stop the server. SIGHUP stops it if its terminal is closed, and is ignored
//! otherwise.
//!
//! They are handled before anything else happens, and on a thread of their own. The first process of a
//! container does not receive a signal that it does not handle, and a busy server must stop too.

use std::{
    io::IsTerminal as _,
    sync::{Arc, OnceLock},
    thread,
};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::logging;

/// The handled signals.
pub(crate) struct Signals {
    serving: Arc<OnceLock<CancellationToken>>,
}

impl Signals {
    /// Handles signals from now on. Until the server serves, a signal to stop ends the process.
    pub(crate) fn handle() -> anyhow::Result<Self> {
        let handled = || -> anyhow::Result<_> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            let entered = runtime.enter();
            let received = Received::register()?;
            drop(entered);
            let serving = Arc::default();
            let stop = act(received, Arc::clone(&serving));
            thread::Builder::new()
                .name("signals".to_owned())
                .spawn(move || runtime.block_on(stop))?;
            Ok(Self { serving })
        };
        handled().context("cannot handle signals")
    }

    /// From now on, the first signal to stop cancels the token that this returns.
    pub(crate) fn stop_requested(&self) -> CancellationToken {
        self.serving.get_or_init(CancellationToken::new).clone()
    }
}

/// What a signal asks for.
enum Request {
    Stop,
    Reload,
}

/// Does what signals ask for, forever. Acts first and logs then.
async fn act(mut received: Received, serving: Arc<OnceLock<CancellationToken>>) {
    loop {
        match (received.next().await, serving.get()) {
            (Request::Reload, _) => tracing::info!(
                "SIGHUP is ignored: settings are read at start, so restart the server to change them"
            ),
            (Request::Stop, None) => {
                tracing::info!("stopped before the server was ready");
                exit(0);
            }
            (Request::Stop, Some(stop)) if stop.is_cancelled() => {
                tracing::warn!("second signal: exiting without waiting for requests in flight");
                exit(1);
            }
            (Request::Stop, Some(stop)) => stop.cancel(),
        }
    }
}

fn exit(code: i32) -> ! {
    logging::flush();
    std::process::exit(code)
}

#[cfg(unix)]
struct Received {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    /// Whether SIGHUP means that the terminal was closed. Otherwise an operator or a script sends it and
    /// expects that the server reads its settings again.
    has_terminal: bool,
}

#[cfg(unix)]
impl Received {
    fn register() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            has_terminal: std::io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hangup.recv() => {
                if self.has_terminal { Request::Stop } else { Request::Reload }
            }
        }
    }
}

#[cfg(not(unix))]
struct Received(tokio::signal::windows::CtrlC);

#[cfg(not(unix))]
impl Received {
    fn register() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) -> Request {
        self.0.recv().await;
        Request::Stop
    }
}
