//! A network on which a node goes on hearing, but is not heard.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use common::net::{Connection, Listen, Network, Pending, Transport};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Holds back what one node answers on connections that others opened to it.
#[derive(Clone, Default)]
pub(crate) struct Hush(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    is_held: bool,
    waiting: Vec<Waker>,
}

impl Hush {
    /// `tcp` as the node sees it.
    pub(crate) fn network(&self, tcp: Network) -> Network {
        Network::from_transport(Arc::new(Hushed {
            tcp,
            hush: self.clone(),
        }))
    }

    /// From now on answers wait.
    pub(crate) fn hold(&self) {
        self.0.lock().is_held = true;
    }

    /// What waited is sent.
    pub(crate) fn let_go(&self) {
        let mut held = self.0.lock();
        held.is_held = false;
        held.waiting.drain(..).for_each(Waker::wake);
    }
}

struct Hushed {
    tcp: Network,
    hush: Hush,
}

impl Transport for Hushed {
    fn bind<'a>(&'a self, address: &'a str) -> Pending<'a, io::Result<Box<dyn Listen>>> {
        Box::pin(async move {
            let listener = self.tcp.bind(address).await?;
            let hush = self.hush.clone();
            Ok(Box::new(HushedListener { listener, hush }) as Box<dyn Listen>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> Pending<'a, io::Result<Connection>> {
        Box::pin(self.tcp.connect(address))
    }
}

struct HushedListener {
    listener: Box<dyn Listen>,
    hush: Hush,
}

impl Listen for HushedListener {
    fn accept(&mut self) -> Pending<'_, io::Result<(Connection, String)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            let hush = self.hush.clone();
            Ok((Box::new(HushedStream { stream, hush }) as Connection, from))
        })
    }

    fn address(&self) -> String {
        self.listener.address()
    }
}

struct HushedStream {
    stream: Connection,
    hush: Hush,
}

impl AsyncRead for HushedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for HushedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        {
            let mut held = self.hush.0.lock();
            if held.is_held {
                held.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
