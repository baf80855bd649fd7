//! The accept loop of the data listener.
//!
//! Invariant (P10): a connection that is slow or silent in its handshake holds one of a bounded number of places for a
//! bounded time. Clients and nodes are counted apart.

use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::net::{Connection as Stream, Duplex, Listen};
use common::shutdown::Shutdown;
use common::tls::{Reloadable, peer_has_role};
use proto::bulk::activity::Activity;
use proto::bulk::frame::RequestNumber;
use proto::bulk::handshake;
use proto::bulk::message::{Goodbye, Hello};
use proto::bulk::transport::{FrameReader, FrameWriter};
use tokio::io::{AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::answers;
use super::connection::{Connection, Peer};
use super::plane::DataPlane;

/// Pause after an accept error such as "too many open files", so that the loop does not spin.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);
/// How long puts that have all their blocks may go on after the shutdown signal.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Serves the data plane on `listener` until `shutdown` is given. Requests that wait for blocks end at once then, those
/// that wait for a disk get a moment.
pub async fn serve(mut listener: Box<dyn Listen>, tls: Reloadable, plane: DataPlane, shutdown: Shutdown) {
    let settings = plane.settings();
    let doorman = Arc::new(Doorman {
        clients: Arc::new(Semaphore::new(settings.client_connections_max as usize)),
        nodes: Arc::new(Semaphore::new(settings.peer_connections_max as usize)),
        tls,
        plane: plane.clone(),
        shutdown: shutdown.clone(),
    });
    let handshakes = Arc::new(Semaphore::new(settings.handshakes_max as usize));
    let tracker = TaskTracker::new();
    loop {
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else {
            break;
        };
        let Some(next) = shutdown.guard(listener.accept()).await else {
            break;
        };
        match next {
            Ok((stream, from)) => {
                let doorman = Arc::clone(&doorman);
                tracker.spawn(async move { doorman.receive(stream, &from, handshake).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a data connection");
                plane.clock().sleep(ACCEPT_ERROR_PAUSE).await;
            }
        }
    }
    tracker.close();
    // What is left when the time is up is dropped with the runtime; nothing of it was acknowledged.
    let _ = plane.clock().timeout(SHUTDOWN_GRACE, tracker.wait()).await;
}

struct Doorman {
    tls: Reloadable,
    plane: DataPlane,
    clients: Arc<Semaphore>,
    nodes: Arc<Semaphore>,
    shutdown: Shutdown,
}

/// A connection after its handshake.
struct Met {
    peer: Peer,
    activity: Activity,
    reader: FrameReader<ReadHalf<Box<dyn Duplex>>>,
    writer: FrameWriter<WriteHalf<Box<dyn Duplex>>>,
}

impl Doorman {
    async fn receive(&self, stream: Stream, from: &str, handshake: OwnedSemaphorePermit) {
        let limit = self.plane.settings().handshake_timeout.get();
        let meeting = self.plane.clock().timeout(limit, self.meet(stream));
        let met = match self.shutdown.guard(meeting).await {
            Some(Some(Ok(met))) => met,
            Some(Some(Err(error))) => {
                tracing::debug!(from, %error, "a data connection did not come about");
                return;
            }
            Some(None) => {
                tracing::debug!(from, "a data connection took too long to come about");
                return;
            }
            None => return,
        };
        drop(handshake);
        let Met {
            peer,
            activity,
            reader,
            mut writer,
        } = met;
        let places = match peer {
            Peer::Client => &self.clients,
            Peer::Node(_) => &self.nodes,
        };
        let Ok(_place) = Arc::clone(places).try_acquire_owned() else {
            tracing::warn!(from, ?peer, "a data connection was refused: the limit is reached");
            let refusing = refuse(&mut writer, self.plane.settings().busy_retry_after.get());
            let _ = self.plane.clock().timeout(limit, refusing).await;
            return;
        };
        let connections = &self.plane.counters().connections;
        connections.inc();
        let gone = Shutdown::new();
        let answers = answers::start(
            writer,
            activity.clone(),
            self.plane.clock().clone(),
            self.plane.settings().progress_timeout.get(),
            self.plane.counters().clone(),
            gone.clone(),
        );
        Connection::new(self.plane.clone(), peer, activity, reader, answers)
            .run(&gone, &self.shutdown)
            .await;
        // The place is held until the last answer is written or cannot be.
        gone.triggered().await;
        connections.dec();
    }

    async fn meet(&self, stream: Stream) -> Result<Met, handshake::Error> {
        let acceptor = TlsAcceptor::from(self.tls.current());
        let stream = acceptor
            .accept(stream)
            .await
            .map_err(proto::bulk::transport::Error::from)?;
        let is_node = peer_has_role(stream.get_ref().1.peer_certificates(), self.plane.role());
        let stream: Box<dyn Duplex> = Box::new(stream);
        let (reading, writing) = tokio::io::split(stream);
        let activity = Activity::default();
        let mut reader = FrameReader::new(reading).counting(&activity);
        let mut writer = FrameWriter::new(writing).counting(&activity);
        let ours = Hello::of(self.plane.context().cluster_id(), Some(self.plane.me()));
        let theirs = handshake::answer(&mut reader, &mut writer, &ours).await?;
        let peer = match theirs.node {
            Some(node) if is_node => Peer::Node(node),
            _ => Peer::Client,
        };
        Ok(Met {
            peer,
            activity,
            reader,
            writer,
        })
    }
}

async fn refuse<W: AsyncWrite + Unpin>(
    writer: &mut FrameWriter<W>,
    retry_after: Duration,
) -> std::io::Result<()> {
    let goodbye = Goodbye {
        retry_after,
        ..Goodbye::new(
            Kind::Busy,
            "E_CONNECTIONS_BUSY",
            "this node has as many connections as it may have",
        )
    };
    writer.control(RequestNumber::CONNECTION, &goodbye);
    writer.flush().await?;
    writer.close().await
}
