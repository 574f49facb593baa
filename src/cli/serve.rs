//! `daybook serve`.

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Mode, Runtime, say};
use crate::{
    app::AppState,
    config::Settings,
    dns::TxtLookup,
    eventstore::StoreSettings,
    ledger::HeadCopy,
    tenancy::migrate,
    tls,
    workers::{self, Workers},
};

pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = Runtime::open(settings, Mode::Server, StoreSettings::default()).await?;
    let scheme = if runtime.settings.tls_certificate.is_some() { "https" } else { "http" };
    serve(runtime, |address| say(format_args!("listening on {scheme}://{address}"))).await
}

/// Serves until the process is told to stop; then in-flight requests finish, queued commands are answered, and a
/// private PostgreSQL stops with us.
pub async fn serve(runtime: Runtime, ready: impl FnOnce(std::net::SocketAddr)) -> anyhow::Result<()> {
    // Before anything is said to be ready.
    tls::acceptor(&runtime.settings).context("serve with TLS")?;
    migrate::all(runtime.store.database(), |_, _| {}).await?;
    let listener = TcpListener::bind(runtime.settings.listen)
        .await
        .with_context(|| format!("listen on {}", runtime.settings.listen))?;
    let address = listener.local_addr().context("read the address listened on")?;
    // Whoever is told that it listens may tell it to stop at once; then the workers have to end, and a private PostgreSQL.
    let told_to_stop = shutdown_signal();
    let stop = CancellationToken::new();
    let supervisor = tokio::spawn({
        let guard = runtime.host.guard.clone();
        async move { guard.supervise().await }
    });
    let mut workers =
        Workers::start(&runtime.store, &runtime.directory, workers_settings(&runtime.settings), &stop);
    let state = AppState::new(runtime.store.clone(), runtime.directory.clone(), &runtime.settings)?;
    let mail = state.mail_worker().context("set up how mail is sent")?;
    workers.start_mailer(mail, &stop);
    let log = state.masquerade_log();
    let ledger_copy =
        HeadCopy::open(&runtime.settings.ledger_copy()).context("keep a copy of the log of heads")?;
    let settings = workers::WorkerSettings { ledger_copy, ..workers_settings(&runtime.settings) };
    workers.start_masquerade_sweep(&runtime.store, &runtime.directory, log, settings.clone(), &stop);
    workers.start_ledger(state.ledger(), &runtime.directory, settings, &stop);
    ready(address);
    tracing::info!(%address, "serving");
    crate::serve::serve(listener, state, told_to_stop).await?;
    tracing::info!("stopping");
    stop.cancel();
    workers.join().await;
    supervisor.abort();
    runtime.close().await
}

fn workers_settings(settings: &Settings) -> workers::WorkerSettings {
    workers::WorkerSettings {
        projection_poll: settings.projection_poll_interval,
        hold_sweep: settings.hold_sweep_interval,
        domain_recheck: settings.domain_recheck_interval,
        sample_reset: settings.sample_reset_time,
        spare_schemas: settings.spare_schemas,
        masquerade_sweep: settings.masquerade_sweep_interval,
        ledger_seal: settings.ledger_seal_interval,
        ledger_sign: settings.ledger_sign_interval,
        head_log: settings.head_log_interval,
        txt_lookup: TxtLookup::new(settings.dns_server),
        ..workers::WorkerSettings::default()
    }
}

/// Ctrl-C or SIGTERM, from now on: also one that comes before the answer is awaited.
fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = signal(SignalKind::terminate())
        .and_then(|terminate| signal(SignalKind::interrupt()).map(|interrupt| (terminate, interrupt)));
    async move {
        let Ok((mut terminate, mut interrupt)) = signals else {
            // Without a handler they end the process at once, which loses nothing that was acknowledged.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
