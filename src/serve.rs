//! The accept loop: `axum::serve` knows neither a header timeout nor TLS, so connections are driven here.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::{access_log, app::AppState, http::client_address::Peer, tls};

/// Bounds of the accept loop.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// The most connections at once; more wait to be accepted.
    pub max_connections: usize,
    /// How long a client may take to send a request's head, which also ends idle connections; and for TLS to begin.
    pub header_timeout: Duration,
    /// How long requests in flight may take once the server stops.
    pub grace: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            max_connections: 8_192,
            header_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(20),
        }
    }
}

/// Serves with the limits of the settings. See [`serve_with`].
///
/// # Errors
/// When TLS is configured and cannot be had. Failures to accept are logged and waited out.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let limits = ServeLimits { header_timeout: state.settings().header_timeout, ..ServeLimits::default() };
    serve_with(listener, state, limits, shutdown).await
}

/// Serves until `shutdown` is done: then accepts no more, lets requests in flight finish within the grace time,
/// ends the writer lanes once what they have queued is durable, and writes the rest of the access log.
///
/// # Errors
/// When TLS is configured and cannot be had. Failures to accept are logged and waited out.
pub async fn serve_with(
    listener: TcpListener,
    state: AppState,
    limits: ServeLimits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let secure = tls::acceptor(state.settings()).map_err(io::Error::other)?;
    let router = crate::app::router(state.clone());
    let stop = CancellationToken::new();
    let access_log = tokio::spawn(access_log::run(state.access_log().clone(), stop.clone()));
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    let mut upkeep = interval(Duration::from_secs(5));
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ = upkeep.tick() => state.upkeep(),
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &permits) => match accepted {
                Ok((stream, peer, permit)) => {
                    let (router, secure, watcher) = (router.clone(), secure.clone(), graceful.watcher());
                    let time = limits.header_timeout;
                    connections.spawn(async move {
                        // Given back once the connection has ended.
                        let _permit = permit;
                        // Small answers must not wait for acknowledgements.
                        let _ = stream.set_nodelay(true);
                        match secure {
                            None => connection(stream, peer, router, time, watcher).await,
                            Some(secure) => {
                                if let Some(stream) = handshake(secure, stream, time).await {
                                    connection(stream, peer, router, time, watcher).await;
                                }
                            }
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, usually; a pause lets some be closed.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    if timeout(limits.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests in flight did not finish in time");
    }
    connections.shutdown().await;
    state.store().shutdown().await;
    state.security_log().flush().await;
    stop.cancel();
    access_log.await.map_err(io::Error::other)?;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, Peer(peer), permit))
}

async fn handshake(
    secure: TlsAcceptor,
    stream: TcpStream,
    time: Duration,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    match timeout(time, secure.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection did not become a TLS one");
            None
        }
        Err(_) => {
            tracing::debug!("a connection took too long to become a TLS one");
            None
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    header_timeout: Duration,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        // A router is always ready.
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(64 * 1024)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
