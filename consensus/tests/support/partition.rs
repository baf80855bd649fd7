//! A network that can be cut between members, connections under way included.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use common::net::{Connection, Listen, Network, Pending, Transport};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Which pairs (from, to) of control addresses are cut.
#[derive(Clone, Default)]
pub struct Cuts(Arc<Mutex<BTreeSet<(String, String)>>>, Arc<AtomicUsize>);

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
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
