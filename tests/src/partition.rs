//! A network that can be cut between members, connections under way included.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use common::net::{Connection, Listen, Network, Pending, Transport};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

type Pair = (String, String);

/// Which pairs (from, to) of control addresses are cut.
#[derive(Clone, Default)]
pub struct Cuts(
    Arc<Mutex<BTreeSet<Pair>>>,
    Arc<AtomicUsize>,
    Arc<Mutex<BTreeMap<Pair, Sent>>>,
);

/// What went from one to another.
#[derive(Clone, Copy, Default)]
struct Sent {
    bytes: u64,
    /// The connection breaks once when so many went.
    break_at: Option<u64>,
}

impl Cuts {
    /// The network as the member at `own` sees it.
    pub fn network(&self, own: &str) -> Network {
        Network::from_transport(Arc::new(Cuttable {
            own: own.to_owned(),
            cuts: self.clone(),
            tcp: Network::tcp(None),
        }))
    }

    /// Cuts `one` off from all of `others`, both ways.
    pub fn isolate<'a>(&self, one: &str, others: impl IntoIterator<Item = &'a String>) {
        let mut cuts = self.0.lock();
        for other in others {
            cuts.insert((one.to_owned(), other.clone()));
            cuts.insert((other.clone(), one.to_owned()));
        }
    }

    /// The connection over which `from` sends breaks once, when so many bytes went to `to`.
    pub fn break_after(&self, from: &str, to: &str, bytes: u64) {
        let mut sent = self.2.lock();
        sent.entry((from.to_owned(), to.to_owned())).or_default().break_at = Some(bytes);
    }

    /// Bytes that `from` sent to `to` over connections that it opened.
    pub fn sent(&self, from: &str, to: &str) -> u64 {
        let sent = self.2.lock();
        sent.get(&(from.to_owned(), to.to_owned()))
            .map_or(0, |sent| sent.bytes)
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        self.0.lock().clear();
    }

    /// How often anybody asked for a connection that is cut.
    pub fn refused(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.0.lock().contains(&(from.to_owned(), to.to_owned()))
    }
}

struct Cuttable {
    own: String,
    cuts: Cuts,
    tcp: Network,
}

impl Transport for Cuttable {
    fn bind<'a>(&'a self, address: &'a str) -> Pending<'a, io::Result<Box<dyn Listen>>> {
        Box::pin(self.tcp.bind(address))
    }

    fn connect<'a>(&'a self, address: &'a str) -> Pending<'a, io::Result<Connection>> {
        Box::pin(async move {
            if self.cuts.is_cut(&self.own, address) {
                self.cuts.1.fetch_add(1, Ordering::Relaxed);
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            let stream = CutStream {
                stream: self.tcp.connect(address).await?,
                from: self.own.clone(),
                to: address.to_owned(),
                cuts: self.cuts.clone(),
            };
            Ok(Box::new(stream) as Connection)
        })
    }
}

/// Breaks at the next use after a cut.
struct CutStream {
    stream: Connection,
    from: String,
    to: String,
    cuts: Cuts,
}

impl CutStream {
    fn check(&self) -> io::Result<()> {
        if self.cuts.is_cut(&self.from, &self.to) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        let mut all = self.cuts.2.lock();
        let sent = all.entry((self.from.clone(), self.to.clone())).or_default();
        sent.bytes += written as u64;
        if sent.break_at.is_some_and(|at| sent.bytes >= at) {
            sent.break_at = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
