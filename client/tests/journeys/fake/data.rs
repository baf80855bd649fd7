//! The data plane of one fake node: keeps chunks in memory, copies them to the delegate by itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::digest::ChunkHasher;
use common::error::Kind;
use common::ids::{AttemptId, DiskId, KeyId, NodeId, UploadNumber, VersionId};
use common::net::Network;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::tls::Reloadable;
use common::units::BLOCK_BYTES;
use parking_lot::Mutex;
use proto::bulk::frame::{DATA_BYTES_MAX, DataHead, FrameType, RequestNumber};
use proto::bulk::message::{Failure, GetEnd, GetRequest, Hello, PutBegin, PutEnd};
use proto::bulk::receipt::{Copy, Receipt, Statement};
use proto::bulk::transport::{Error, Frame, FrameReader, FrameWriter};
use proto::bulk::{blocks, grant, handshake};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::world::{CLUSTER, World};

/// What goes wrong with one put.
pub(crate) enum PutFault {
    /// The connection breaks after so many data frames.
    BreakAfter(usize),
    /// The node says that this other node failed.
    DelegateFails(u64),
    /// The node refuses with this kind.
    Refuse(Kind),
    /// The node stores nothing and says nothing.
    Silence,
}

/// What goes wrong with every get.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum GetFault {
    /// One byte of every block run is flipped.
    FlipByte,
    /// The connection breaks after the first data frame.
    BreakAfterFirst,
    /// Whole blocks with good checksums, of other content.
    OtherContent,
    /// The node has not heard the key of the grant yet.
    KeyUnknown,
}

/// A chunk at a node.
#[derive(Clone)]
pub(crate) enum Kept {
    Bytes(Bytes),
    /// Forgotten; so many zeros stand for it.
    Zeros(u64),
}

impl Kept {
    fn length(&self) -> u64 {
        match self {
            Kept::Bytes(bytes) => bytes.len() as u64,
            Kept::Zeros(length) => *length,
        }
    }

    fn part(&self, from: u64, to: u64) -> Vec<u8> {
        match self {
            Kept::Bytes(bytes) => bytes[from as usize..to as usize].to_vec(),
            Kept::Zeros(_) => vec![0; (to - from) as usize],
        }
    }
}

/// A chunk on its way in.
struct Intake {
    kept: Option<Vec<u8>>,
    length: u64,
    hasher: ChunkHasher,
}

pub(crate) struct Node {
    pub(crate) number: u64,
    pub(crate) address: String,
    world: Arc<World>,
    chunks: Mutex<BTreeMap<AttemptId, Kept>>,
    lost: Mutex<BTreeMap<AttemptId, Kept>>,
    pub(crate) put_faults: Mutex<VecDeque<PutFault>>,
    pub(crate) get_fault: Mutex<Option<GetFault>>,
    /// Connections are refused.
    pub(crate) down: AtomicBool,
    pub(crate) puts: AtomicUsize,
    pub(crate) gets: AtomicUsize,
    /// Connections that were accepted.
    pub(crate) connections: AtomicUsize,
    /// Every data frame of a put takes so long.
    pub(crate) slowness: Mutex<Duration>,
    /// Content is forgotten, and reads as zeros.
    forgetful: AtomicBool,
}

impl Node {
    pub(crate) async fn start(number: u64, world: Arc<World>, tls: Reloadable, stop: Shutdown) -> Arc<Self> {
        let mut listener = Network::tcp(None).bind("127.0.0.1:0").await.unwrap();
        let node = Arc::new(Self {
            number,
            address: listener.address(),
            world,
            chunks: Mutex::default(),
            lost: Mutex::default(),
            put_faults: Mutex::default(),
            get_fault: Mutex::default(),
            down: AtomicBool::new(false),
            puts: AtomicUsize::new(0),
            gets: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            slowness: Mutex::default(),
            forgetful: AtomicBool::new(false),
        });
        let serving = Arc::clone(&node);
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = stop.guard(listener.accept()).await {
                if serving.down.load(Ordering::SeqCst) {
                    continue;
                }
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let (node, tls, stop) = (Arc::clone(&serving), tls.current(), stop.clone());
                tokio::spawn(async move {
                    let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else {
                        return;
                    };
                    let (reading, writing) = tokio::io::split(stream);
                    // However a connection ends, the test looks at what the client makes of it.
                    let serving = node.serve(FrameReader::new(reading), FrameWriter::new(writing));
                    let _ = stop.guard(Box::pin(serving)).await;
                });
            }
        });
        node
    }

    pub(crate) fn has(&self, attempt: AttemptId) -> bool {
        self.chunks.lock().contains_key(&attempt)
    }

    /// From now on only lengths are kept; content reads as zeros.
    pub(crate) fn keep_nothing(&self) {
        self.forgetful.store(true, Ordering::SeqCst);
    }

    /// Loses everything.
    pub(crate) fn wipe(&self) {
        *self.lost.lock() = std::mem::take(&mut self.chunks.lock());
    }

    /// Finds what was lost.
    pub(crate) fn unwipe(&self) {
        self.chunks.lock().append(&mut self.lost.lock());
    }

    pub(crate) fn content(&self, attempt: AttemptId) -> Option<Vec<u8>> {
        let kept = self.chunks.lock().get(&attempt).cloned();
        kept.map(|kept| kept.part(0, kept.length()))
    }

    /// Hides a chunk.
    pub(crate) fn take(&self, attempt: AttemptId) -> Option<Kept> {
        self.chunks.lock().remove(&attempt)
    }

    /// Shows it again.
    pub(crate) fn give(&self, attempt: AttemptId, content: Option<Kept>) {
        self.chunks
            .lock()
            .extend(content.map(|content| (attempt, content)));
    }

    async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &self,
        mut reader: FrameReader<R>,
        mut writer: FrameWriter<W>,
    ) -> Result<(), Error> {
        let ours = Hello::of(CLUSTER, Some(NodeId::new(self.number)));
        if handshake::answer(&mut reader, &mut writer, &ours).await.is_err() {
            return Ok(());
        }
        while let Some(frame) = reader.next().await? {
            let more = match frame.frame_type {
                FrameType::PutBegin => self.put(&frame, &mut reader, &mut writer).await?,
                FrameType::Get => self.get(&frame, &mut writer).await?,
                _ => true,
            };
            if !more || self.down.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn put<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &self,
        first: &Frame,
        reader: &mut FrameReader<R>,
        writer: &mut FrameWriter<W>,
    ) -> Result<bool, Error> {
        let begin: PutBegin = first.decode()?;
        let fault = self.put_faults.lock().pop_front();
        let index = u32::from_be_bytes(begin.grant[16..20].try_into().unwrap());
        let chunk_bytes = self.world.state().chunk_bytes;
        let mut intake = Intake {
            kept: (!self.forgetful.load(Ordering::SeqCst)).then(Vec::new),
            length: 0,
            hasher: ChunkHasher::new(u64::from(index) * chunk_bytes),
        };
        let mut frame_content = Vec::new();
        let mut frames = 0;
        let end: PutEnd = loop {
            let Some(frame) = reader.next().await? else {
                return Ok(false);
            };
            match frame.frame_type {
                FrameType::Data => {
                    let head = DataHead::decode(&frame.body)?;
                    frame_content.resize(frame.data_length, 0);
                    reader.data(&mut frame_content).await?;
                    assert_eq!(
                        u64::from(head.first_block) * BLOCK_BYTES as u64,
                        intake.length,
                        "no gap"
                    );
                    blocks::verify(begin.attempt, head.first_block, &frame_content, &head.checksums).unwrap();
                    intake.length += frame.data_length as u64;
                    intake.hasher.update(&frame_content);
                    if let Some(kept) = &mut intake.kept {
                        kept.extend_from_slice(&frame_content);
                    }
                    frames += 1;
                    let slowness = *self.slowness.lock();
                    if !slowness.is_zero() {
                        Clock::real().sleep(slowness).await;
                    }
                    if matches!(fault, Some(PutFault::BreakAfter(after)) if after == frames) {
                        return Ok(false);
                    }
                }
                FrameType::PutEnd => break frame.decode()?,
                FrameType::Cancel => return Ok(true),
                _ => return Ok(false),
            }
        };
        let fail =
            |node: u64, kind: Kind| Failure::new(NodeId::new(node), kind, "E_FAKE", "as the test asked");
        let failure = match fault {
            Some(PutFault::Silence) => std::future::pending().await,
            Some(PutFault::DelegateFails(node)) => Some(fail(node, Kind::Retry)),
            Some(PutFault::Refuse(kind)) => Some(fail(self.number, kind)),
            Some(PutFault::BreakAfter(_)) => return Ok(false),
            None => self.expired(&begin.grant),
        };
        self.answer_put(first.request, &begin, &end, intake, failure, writer)
            .await?;
        Ok(true)
    }

    async fn answer_put<W: AsyncWrite + Unpin>(
        &self,
        request: RequestNumber,
        begin: &PutBegin,
        end: &PutEnd,
        intake: Intake,
        failure: Option<Failure>,
        writer: &mut FrameWriter<W>,
    ) -> Result<(), Error> {
        match failure {
            Some(failure) => writer.control(request, &failure),
            None => {
                let receipt = self.store(begin, end, intake);
                writer.control(request, &receipt);
            }
        }
        Ok(writer.flush().await?)
    }

    fn expired(&self, grant: &[u8]) -> Option<Failure> {
        let number = u64::from_be_bytes(grant[..8].try_into().unwrap());
        (number < self.world.state().grants_valid_from).then(|| {
            Failure::new(
                NodeId::new(self.number),
                Kind::Stale,
                "E_GRANT_EXPIRED",
                "expired",
            )
        })
    }

    fn store(&self, begin: &PutBegin, end: &PutEnd, intake: Intake) -> Receipt {
        let upload = u64::from_be_bytes(begin.grant[8..16].try_into().unwrap());
        let index = u32::from_be_bytes(begin.grant[16..20].try_into().unwrap());
        assert_eq!(end.length, intake.length);
        assert!(begin.length_hint.is_none_or(|hint| hint == end.length));
        assert_eq!(
            intake.hasher.finish(),
            end.digest,
            "the digest is of what was sent"
        );
        let content = intake
            .kept
            .map_or(Kept::Zeros(intake.length), |kept| Kept::Bytes(kept.into()));
        self.puts.fetch_add(1, Ordering::SeqCst);
        let nodes = self.world.nodes.get().unwrap();
        let copies = self.world.state().copies;
        // As planned: the delegate is the next node that the plan named; any other than this will do here.
        let plans = self.delegate_of(begin.attempt);
        let keepers: Vec<u64> = std::iter::once(self.number).chain(plans).take(copies).collect();
        for keeper in &keepers {
            nodes[*keeper as usize - 1]
                .chunks
                .lock()
                .insert(begin.attempt, content.clone());
        }
        let copy = |node: u64| Copy {
            node: NodeId::new(node),
            disk: DiskId::new([node as u8; 16]),
            key: KeyId::new(1),
            mac: [0; 32],
        };
        Receipt {
            statement: Statement {
                upload: UploadNumber::new(upload),
                version: VersionId::new(upload),
                index,
                attempt: begin.attempt,
                length: end.length,
                digest: end.digest,
            },
            copies: keepers.into_iter().map(copy).collect(),
        }
    }

    fn delegate_of(&self, attempt: AttemptId) -> Option<u64> {
        self.world.state().delegates.get(&attempt).copied()
    }

    async fn get<W: AsyncWrite + Unpin>(
        &self,
        first: &Frame,
        writer: &mut FrameWriter<W>,
    ) -> Result<bool, Error> {
        let asked: GetRequest = first.decode()?;
        self.gets.fetch_add(1, Ordering::SeqCst);
        let found = self.chunks.lock().get(&asked.attempt).cloned();
        let refusal = self.expired(&asked.grant).or_else(|| {
            let missing = Failure::new(NodeId::new(self.number), Kind::NotFound, "E_NO_CHUNK", "not here");
            found.is_none().then_some(missing)
        });
        let fault = *self.get_fault.lock();
        let refusal = refusal.or_else(|| {
            let unknown = grant::Error::UnknownKey;
            let failure = Failure::new(
                NodeId::new(self.number),
                unknown.kind(),
                unknown.code(),
                unknown.to_string(),
            );
            (fault == Some(GetFault::KeyUnknown)).then_some(failure)
        });
        if let Some(refusal) = refusal {
            writer.control(first.request, &refusal);
            writer.flush().await?;
            return Ok(true);
        }
        let kept = found.unwrap();
        let block = BLOCK_BYTES as u64;
        let mut at = asked.offset / block * block;
        let end = (asked.offset + asked.length)
            .next_multiple_of(block)
            .min(kept.length());
        while at < end {
            let next = (at + DATA_BYTES_MAX as u64 / 4).min(end);
            let mut run = kept.part(at, next);
            if fault == Some(GetFault::OtherContent) && at == 0 {
                run[0] ^= 1;
            }
            let first_block = (at / block) as u32;
            let sums = blocks::checksums(asked.attempt, first_block, &run);
            if fault == Some(GetFault::FlipByte) {
                run[0] ^= 1;
            }
            writer.data(first.request, first_block, &sums, &run).await?;
            if fault == Some(GetFault::BreakAfterFirst) {
                writer.flush().await?;
                return Ok(false);
            }
            at = next;
        }
        let chunk_length = kept.length();
        writer.control(first.request, &GetEnd { chunk_length });
        writer.flush().await?;
        Ok(true)
    }
}
