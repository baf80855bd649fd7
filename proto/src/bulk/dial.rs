//! Connecting to a node's data plane.
//!
//! Invariant: a [`Connection`] is proven to be with the node that was meant: the certificate says that it is of the
//! cluster, the hello says which node it is. A connection carries one put or get at a time; several at once use several
//! connections ([`super::pool`]), many small puts share one ([`super::pipeline`]).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use common::ids::{ClusterId, NodeId};
use common::net::{Duplex, Network};
use common::time::Clock;
use common::tls::{self, Role};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{ReadHalf, WriteHalf};
use tokio_rustls::TlsConnector;

use super::activity::{Activity, while_moving};
use super::error::Error;
use super::frame::{FrameType, Malformed, RequestNumber};
use super::handshake;
use super::message::Hello;
use super::transport::{self, Frame, FrameReader, FrameWriter};

/// How long the asking side waits.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For TLS and the hello together.
    pub connect: Duration,
    /// Without a byte moving, where one is due: to be taken, or to arrive.
    pub frame: Duration,
    /// Without a word from the node, from the end of a put to its receipt.
    pub answer: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            frame: Duration::from_secs(30),
            answer: Duration::from_secs(60),
        }
    }
}

/// A node and where it serves the data plane.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Target {
    /// Who.
    pub node: NodeId,
    /// `host:port`.
    pub address: String,
}

/// Connects to the nodes of one cluster. A cloneable handle.
#[derive(Clone)]
pub struct Dialer(Arc<Inner>);

struct Inner {
    network: Network,
    tls: ArcSwap<ClientConfig>,
    name: ServerName<'static>,
    hello: Hello,
    clock: Clock,
    deadlines: Deadlines,
}

impl Dialer {
    /// For the nodes of the cluster named `cluster_name` with the id `cluster`. `tls` offers
    /// [`tls::ALPN_BULK`]; where it shows a node's certificate, `as_node` says which node that is.
    ///
    /// # Errors
    /// The cluster's name cannot stand in a certificate.
    pub fn new(
        network: Network,
        tls: Arc<ClientConfig>,
        cluster_name: &str,
        cluster: ClusterId,
        as_node: Option<NodeId>,
        clock: Clock,
    ) -> Result<Self, tls::Error> {
        Ok(Self(Arc::new(Inner {
            network,
            tls: ArcSwap::new(tls),
            name: tls::expected_name(&Role::Chunkserver(cluster_name.to_owned()))?,
            hello: Hello::of(cluster, as_node),
            clock,
            deadlines: Deadlines::default(),
        })))
    }

    /// The same with other deadlines.
    #[must_use]
    pub fn with_deadlines(&self, deadlines: Deadlines) -> Self {
        Self(Arc::new(Inner {
            network: self.0.network.clone(),
            tls: ArcSwap::new(self.0.tls.load_full()),
            name: self.0.name.clone(),
            hello: self.0.hello.clone(),
            clock: self.0.clock.clone(),
            deadlines,
        }))
    }

    /// Replaces certificates and trust for connections to come.
    pub fn replace_tls(&self, tls: Arc<ClientConfig>) {
        self.0.tls.store(tls);
    }

    /// Connects, within the deadline.
    ///
    /// # Errors
    /// Nobody answers at the address, or not as the node that was meant.
    pub async fn connect(&self, target: &Target) -> Result<Connection, Error> {
        let inner = &self.0;
        let limit = inner.deadlines.connect;
        let meeting = inner.clock.timeout(limit, inner.meet(target));
        meeting.await.unwrap_or(Err(Error::Timeout {
            node: target.node,
            what: "answer a new connection",
            limit,
        }))
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dialer({:?})", self.0.hello.cluster)
    }
}

impl Inner {
    async fn meet(&self, target: &Target) -> Result<Connection, Error> {
        let unreachable = |source: io::Error| Error::Connect {
            node: target.node,
            address: target.address.clone(),
            source,
        };
        let stream = self.network.connect(&target.address).await.map_err(unreachable)?;
        let connector = TlsConnector::from(self.tls.load_full());
        let stream = connector
            .connect(self.name.clone(), stream)
            .await
            .map_err(unreachable)?;
        let stream: Box<dyn Duplex> = Box::new(stream);
        let (reading, writing) = tokio::io::split(stream);
        let activity = Activity::default();
        let mut reader = FrameReader::new(reading).counting(&activity);
        let mut writer = FrameWriter::new(writing).counting(&activity);
        let theirs = handshake::ask(&mut reader, &mut writer, &self.hello)
            .await
            .map_err(|error| match error {
                handshake::Error::Refused(goodbye) => Error::Refused {
                    node: target.node,
                    goodbye,
                },
                handshake::Error::Transport(error) => Error::of_transport(target.node, error),
            })?;
        match theirs.node {
            Some(node) if node == target.node => Ok(Connection {
                target: target.clone(),
                reader,
                writer,
                activity,
                clock: self.clock.clone(),
                deadlines: self.deadlines,
                request: RequestNumber::CONNECTION,
                idle: true,
                torn: false,
            }),
            found => Err(Error::WrongNode {
                node: target.node,
                found: found.unwrap_or_default(),
                address: target.address.clone(),
            }),
        }
    }
}

/// A connection to one node. Dropping it ends whatever is under way on it, at both ends.
pub struct Connection {
    pub(super) target: Target,
    pub(super) reader: FrameReader<ReadHalf<Box<dyn Duplex>>>,
    pub(super) writer: FrameWriter<WriteHalf<Box<dyn Duplex>>>,
    pub(super) activity: Activity,
    pub(super) clock: Clock,
    pub(super) deadlines: Deadlines,
    request: RequestNumber,
    /// No request is under way and nothing has failed.
    idle: bool,
    /// A frame is being written, or was written in part: the stream is out of step.
    pub(super) torn: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({:?}, idle: {})", self.target, self.idle)
    }
}

impl Connection {
    /// A connection over `stream`, whose other end a test plays.
    #[cfg(test)]
    pub(super) fn over(stream: Box<dyn Duplex>, node: NodeId, deadlines: Deadlines) -> Self {
        let (reading, writing) = tokio::io::split(stream);
        let activity = Activity::default();
        Self {
            target: Target {
                node,
                address: String::new(),
            },
            reader: FrameReader::new(reading).counting(&activity),
            writer: FrameWriter::new(writing).counting(&activity),
            activity,
            clock: Clock::real(),
            deadlines,
            request: RequestNumber::CONNECTION,
            idle: true,
            torn: false,
        }
    }

    /// Who is at the other end.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What moves on it.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Whether another request can be sent: the last one came to its end, and the server has neither said goodbye nor
    /// closed the connection meanwhile.
    pub fn is_reusable(&mut self) -> bool {
        // Nothing is due: whatever can be read now is a goodbye or the end.
        self.idle && !self.torn && self.reader.next_now().is_none()
    }

    /// Begins a request; the connection is not reusable until [`Connection::end_request`].
    pub(super) fn begin_request(&mut self) -> Result<RequestNumber, Error> {
        if !self.idle || self.torn {
            return Err(Error::Misuse {
                node: self.target.node,
                what: "the connection broke in an earlier request",
            });
        }
        self.idle = false;
        self.request = self.request.next();
        Ok(self.request)
    }

    pub(super) fn end_request(&mut self) {
        self.idle = true;
    }

    /// The next frame that concerns the request under way. A failure ends the request in good order.
    pub(super) async fn answer(&mut self, what: &'static str, limit: Duration) -> Result<Frame, Error> {
        loop {
            let count = || self.activity.read();
            let next = while_moving(&self.clock, limit, count, self.reader.next(), || {}).await;
            let node = self.target.node;
            let next = next.ok_or(Error::Timeout { node, what, limit })?;
            if let Some(frame) = self.sift(next)? {
                return Ok(frame);
            }
        }
    }

    /// Writes a data frame, or with no data what was gathered, for as long as bytes move; `None` where they do not.
    pub(super) async fn write(
        &mut self,
        first_block: u32,
        checksums: &[u64],
        data: &[u8],
    ) -> Option<io::Result<()>> {
        let (request, limit) = (self.request, self.deadlines.frame);
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let writing = async {
            if data.is_empty() {
                writer.flush().await
            } else {
                writer.data(request, first_block, checksums, data).await
            }
        };
        let count = || self.activity.moved();
        while_moving(&self.clock, limit, count, writing, || reader.poke()).await
    }

    /// Fills `into` with data of the last frame for as long as bytes move, and tells the other side that they do; `None`
    /// where they do not.
    pub(super) async fn receive(&mut self, into: &mut [u8]) -> Option<Result<(), transport::Error>> {
        let (reader, writer, activity) = (&mut self.reader, &mut self.writer, &self.activity);
        let mut told = activity.payload();
        let tell = || {
            let now = activity.payload();
            if now != told {
                told = now;
                writer.progress();
                // A stream that fails fails the read as well.
                let _ = writer.flush_now();
            }
        };
        let (limit, count) = (self.deadlines.frame, || activity.read());
        while_moving(&self.clock, limit, count, reader.data(into), tell).await
    }

    /// Judges what was read: a frame of the request under way, a goodbye, or a late frame of an earlier request.
    pub(super) fn sift(
        &mut self,
        next: Result<Option<Frame>, transport::Error>,
    ) -> Result<Option<Frame>, Error> {
        let node = self.target.node;
        let frame = next
            .map_err(|error| Error::of_transport(node, error))?
            .ok_or_else(|| Error::Broken {
                node,
                source: io::ErrorKind::UnexpectedEof.into(),
            })?;
        let malformed = |source: Malformed| Error::protocol(node, source);
        match frame.frame_type {
            FrameType::Goodbye => Err(Error::Refused {
                node,
                goodbye: frame.decode().map_err(malformed)?,
            }),
            _ if frame.request != self.request => Ok(None),
            FrameType::Failed => {
                let failure = frame.decode().map_err(malformed)?;
                self.end_request();
                Err(Error::Failed(failure))
            }
            FrameType::Stored | FrameType::Data | FrameType::GetEnd => Ok(Some(frame)),
            FrameType::Hello
            | FrameType::PutBegin
            | FrameType::PutEnd
            | FrameType::Cancel
            | FrameType::Progress
            | FrameType::Get => Err(malformed(Malformed::Unexpected(frame.frame_type))),
        }
    }
}
