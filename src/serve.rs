//! The accept loop: `axum::serve` knows neither a header timeout nor TLS, so connections are driven here.

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::{
    access_log,
    app::AppState,
    http::client_address::{LimitKey, Peer, limit_key},
    tls,
};

/// Bounds of the accept loop.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// The most connections at once; more wait to be accepted.
    pub max_connections: usize,
    /// The most from one address, or IPv6 network; more are closed at once. Proxies of ours are one address for
    /// everybody: where there are any, this does not count.
    pub per_address: usize,
    /// How long a client may take none of an answer that waits for it.
    pub write_timeout: Duration,
    /// How long a client may take to send a request's head, which also ends idle connections; and for TLS to begin.
    pub header_timeout: Duration,
    /// How long requests in flight may take once the server stops.
    pub grace: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            max_connections: 8_192,
            per_address: usize::MAX,
            write_timeout: Duration::from_secs(30),
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
    let settings = state.settings();
    let per_address = match (settings.trusted_proxy_hops, settings.connections_per_address) {
        (0, most) if most > 0 => most,
        _ => usize::MAX,
    };
    let limits =
        ServeLimits { header_timeout: settings.header_timeout, per_address, ..ServeLimits::default() };
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
    let addresses = Addresses::default();
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
                    // Told nothing: an answer would be one more that waits for a reader.
                    let Some(place) = addresses.enter(peer, limits.per_address) else { continue };
                    let (router, secure, watcher) = (router.clone(), secure.clone(), graceful.watcher());
                    let (time, write_timeout) = (limits.header_timeout, limits.write_timeout);
                    connections.spawn(async move {
                        // Given back once the connection has ended.
                        let _held = (permit, place);
                        // Small answers must not wait for acknowledgements.
                        let _ = stream.set_nodelay(true);
                        let mut stream = Box::pin(TimeoutStream::new(stream));
                        stream.as_mut().set_write_timeout_pinned(Some(write_timeout));
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
    state.closing().cancel();
    if timeout(limits.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests in flight did not finish in time");
    }
    connections.shutdown().await;
    state.store().shutdown().await;
    state.security_log().flush().await;
    state.masquerade_log().flush().await;
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

/// How many connections each address has.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<LimitKey, usize>>>);

/// One connection of an address; given back when it is dropped.
struct Place {
    addresses: Addresses,
    address: LimitKey,
}

impl Addresses {
    /// One more connection of an address, unless it has as many as it may.
    fn enter(&self, peer: Peer, most: usize) -> Option<Place> {
        let address = limit_key(peer.0.ip());
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            tracing::debug!("an address has as many connections as it may");
            return None;
        }
        *count += 1;
        Some(Place { addresses: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    secure: TlsAcceptor,
    stream: S,
    time: Duration,
) -> Option<tokio_rustls::server::TlsStream<S>> {
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
