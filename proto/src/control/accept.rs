//! The accept loop of the control plane.
//!
//! Invariant: a peer that is slow, silent or hostile during its handshake costs one bounded slot for a bounded time
//! and never delays the next connection. Connections without a certificate of the installation cannot take the
//! places of those with one, so that a crowd of clients does not cut the nodes off from each other (P10).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use common::net::{Connection, Listen};
use common::shutdown::Shutdown;
use common::time::Clock;
use common::tls::{self, Reloadable, Role};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, Server};

use super::gather::Gather;
use super::routes::Routes;
use super::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};

/// Pause after an accept error such as "too many open files", so that the loop does not spin.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What one control server takes on at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that showed a certificate of the installation.
    pub peer_connections_max: usize,
    /// Connections that showed none.
    pub client_connections_max: usize,
    /// Handshakes under way. Beyond it, new connections wait in the kernel's backlog.
    pub handshakes_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Calls under way on one connection.
    pub calls_per_connection_max: u32,
    /// How long calls under way may go on after the shutdown signal.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peer_connections_max: 1024,
            client_connections_max: 4096,
            handshakes_max: 128,
            handshake_timeout: Duration::from_secs(5),
            calls_per_connection_max: 1024,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// The other end of a connection; among the extensions of every request that came over it.
#[derive(Clone, Debug)]
pub struct Peer {
    certificates: Arc<[CertificateDer<'static>]>,
    address: Arc<str>,
}

impl Peer {
    /// Who sent `request`; `None` when it did not come through [`serve`].
    pub fn of<T>(request: &tonic::Request<T>) -> Option<&Peer> {
        request.extensions().get()
    }

    /// Whether the other end proved to be a process of `role`. Handlers for other nodes begin with this.
    pub fn has_role(&self, role: &Role) -> bool {
        tls::peer_has_role(Some(&self.certificates), role)
    }

    /// Where it connects from (`host:port`), for logs and limits by source.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Serves `routes` on `listener` until `shutdown` is given; then calls under way get `shutdown_grace` to end.
/// Requests carry their [`Peer`] among their extensions.
///
/// # Errors
/// The server broke down; the listener is closed.
pub async fn serve(
    listener: Box<dyn Listen>,
    tls: Reloadable,
    routes: Routes,
    shutdown: Shutdown,
    clock: Clock,
    limits: Limits,
) -> Result<(), tonic::transport::Error> {
    let (ready, accepted) = mpsc::channel(limits.handshakes_max.max(1));
    let cut = Shutdown::new();
    let acceptor = Acceptor {
        tls,
        clock: clock.clone(),
        limits,
        handshakes: Arc::new(Semaphore::new(limits.handshakes_max)),
        peers: Arc::new(Semaphore::new(limits.peer_connections_max)),
        clients: Arc::new(Semaphore::new(limits.client_connections_max)),
        ready,
        cut: cut.clone(),
    };
    let accepting = tokio::spawn(accept_until(listener, acceptor, shutdown.clone()));
    let incoming = futures::stream::unfold(accepted, |mut accepted| async move {
        let next = accepted.recv().await?;
        Some((Ok::<Accepted, io::Error>(next), accepted))
    });
    let serving = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits.calls_per_connection_max)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .serve_with_incoming_shutdown(routes, incoming, shutdown.triggered());
    let overdue = async {
        shutdown.triggered().await;
        clock.sleep(limits.shutdown_grace).await;
    };
    let outcome = tokio::select! {
        outcome = serving => outcome,
        () = overdue => Ok(()),
    };
    accepting.abort();
    cut.trigger();
    outcome
}

struct Acceptor {
    tls: Reloadable,
    clock: Clock,
    limits: Limits,
    handshakes: Arc<Semaphore>,
    peers: Arc<Semaphore>,
    clients: Arc<Semaphore>,
    ready: mpsc::Sender<Accepted>,
    /// Ends the connections that outlive the grace.
    cut: Shutdown,
}

async fn accept_until(mut listener: Box<dyn Listen>, acceptor: Acceptor, shutdown: Shutdown) {
    let acceptor = Arc::new(acceptor);
    loop {
        let Ok(slot) = Arc::clone(&acceptor.handshakes).acquire_owned().await else {
            return;
        };
        let Some(next) = shutdown.guard(listener.accept()).await else {
            return;
        };
        match next {
            Ok((stream, from)) => {
                let acceptor = Arc::clone(&acceptor);
                let handshake = async move {
                    acceptor.admit(stream, from).await;
                    drop(slot);
                };
                let shutdown = shutdown.clone();
                tokio::spawn(async move { shutdown.guard(handshake).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control connection");
                acceptor.clock.sleep(ACCEPT_ERROR_PAUSE).await;
            }
        }
    }
}

impl Acceptor {
    async fn admit(&self, stream: Connection, from: String) {
        let handshake = TlsAcceptor::from(self.tls.current()).accept(stream);
        let stream = match self.clock.timeout(self.limits.handshake_timeout, handshake).await {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => {
                tracing::debug!(%from, %error, "control handshake failed");
                return;
            }
            None => {
                tracing::debug!(%from, "control handshake took too long");
                return;
            }
        };
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates: Arc<[_]> = shown.iter().map(|shown| shown.clone().into_owned()).collect();
        let places = if certificates.is_empty() {
            &self.clients
        } else {
            &self.peers
        };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            tracing::warn!(%from, "control connection refused: the connection limit is reached");
            return;
        };
        let peer = Peer {
            certificates,
            address: from.into(),
        };
        let cut = self.cut.clone();
        let accepted = Accepted {
            stream: Gather::new(Box::new(stream)),
            peer,
            cut: Box::pin(async move { cut.triggered().await }),
            _place: place,
        };
        // The receiver is gone when the server has ended.
        let _ = self.ready.send(accepted).await;
    }
}

/// One connection after its handshake; holds its place among the counted connections until it is closed.
struct Accepted {
    stream: Gather<Box<TlsStream<Connection>>>,
    peer: Peer,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Accepted {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            // Not polled again: the error makes the server drop the connection.
            self.cut = Box::pin(std::future::pending());
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
