//! `husk daemon`: the Docker Engine API over the engine, on a unix socket.
//!
//! `server` accepts and limits connections, `route` names what a request is about, `endpoint`
//! answers it. No container logic lives here.

mod auth;
mod endpoint;
mod filter;
mod hangup;
mod query;
mod readiness;
mod reply;
mod route;
mod server;
mod settings;
mod socket;
mod version;

use std::process::ExitCode;

use anyhow::Context as _;
use husk_engine::Engine;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use self::readiness::Readiness;
use self::settings::Settings;
use self::socket::SocketLock;
use crate::args::DaemonArgs;
use crate::printer;

/// Runs the daemon until a termination signal.
pub(crate) fn run(args: &DaemonArgs, host: Option<&str>) -> ExitCode {
    match start(args, host) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::error_line(&format!("husk daemon: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start(args: &DaemonArgs, host: Option<&str>) -> anyhow::Result<()> {
    if args.new_session {
        // Fails only for a session leader, which is detached already.
        let _ = rustix::process::setsid();
    }
    let settings = Settings::resolve(args, host)?;
    log_to_stderr(&settings.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(settings, Readiness::new(args.ready_fd)));
    runtime.shutdown_background();
    result
}

async fn serve(settings: Settings, readiness: Readiness) -> anyhow::Result<()> {
    let lock = SocketLock::acquire(&settings.socket)?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch for SIGINT")?;
    let engine = Engine::open(settings.engine.clone())
        .await
        .with_context(|| format!("failed to open {}", settings.engine.data_root.display()))?;
    let socket = lock.listen()?;
    tracing::info!(socket = %settings.socket.display(), "serving the Engine API");
    readiness.announce();
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let signal_name = server::serve(socket.listener(), engine.clone(), stop).await;
    tracing::info!(signal = signal_name, "shutting down; running microVMs stay");
    drop(socket);
    engine.shutdown().await;
    Ok(())
}

/// Logs to standard error, so that whoever started the daemon decides where they go.
fn log_to_stderr(level: &str) {
    use std::io::IsTerminal as _;
    let filter = EnvFilter::new(format!("{level},hyper=warn,hyper_util=warn,rustls=warn,h2=warn"));
    let result = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    debug_assert!(result.is_ok(), "the only subscriber of this process");
}
