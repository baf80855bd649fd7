//! What the wire alone can do: the same bytes in the same frames through two TLS hops, as from client to primary to
//! delegate, where nobody checks or stores anything. In this process, so that it uses the same cores as everyone else.

use std::io;
use std::sync::Arc;

use client::Seams;
use client::cli::context::Context;
use client::cli::failure::{Exit, Failure};
use common::ids::AttemptId;
use common::net::{Connection, Listen, Network};
use common::tls::{ALPN_BULK, Authority, Identity, Role, expected_name};
use common::units::ByteCount;
use proto::bulk::blocks::checksums;
use proto::bulk::frame::{DATA_BYTES_MAX, DataHead, RequestNumber};
use proto::bulk::transport::{FrameReader, FrameWriter};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Connections at once: as many as a client has chunks of one upload under way.
const CONNECTIONS: u64 = 4;
const BYTES_MAX: u64 = 4 << 30;
const BYTES_MIN: u64 = 64 << 20;
const CLUSTER: &str = "bench";

/// Bytes per second.
///
/// # Errors
/// The loopback network does not do what it should.
pub(super) async fn measure(
    context: &Context,
    bytes: ByteCount,
    congestion: Option<String>,
) -> Result<f64, Failure> {
    context.console.note("baseline: the wire alone");
    let seams = Seams {
        network: Network::tcp(congestion),
        ..context.seams.clone()
    };
    let keys = Keys::new()?;
    let frames = bytes.get().clamp(BYTES_MIN, BYTES_MAX) / CONNECTIONS / DATA_BYTES_MAX as u64;
    let began = seams.clock.moment();
    run(&seams, &keys, frames).await.map_err(|error| {
        Failure::new(
            Exit::Other,
            "E_TRANSPORT",
            format!("the baseline of the wire broke down: {error}"),
        )
    })?;
    let elapsed = seams.clock.moment().since(began);
    Ok((frames * CONNECTIONS * DATA_BYTES_MAX as u64) as f64 / elapsed.as_secs_f64().max(1e-9))
}

/// Both ends' TLS.
struct Keys {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Keys {
    fn new() -> Result<Self, Failure> {
        let place = std::env::temp_dir();
        let directory = tempfile::tempdir()
            .map_err(|error| Failure::local("cannot create a directory in", &place, &error))?;
        let authority = Authority::open_or_create(directory.path())?;
        let identity = directory.path().join("identity");
        authority.issue(&Role::Chunkserver(CLUSTER.to_owned()), &[], &identity)?;
        let identity = Identity::load(&identity)?;
        Ok(Self {
            server: Arc::new(identity.server_config(ALPN_BULK)?),
            client: Arc::new(identity.client_config(ALPN_BULK)?),
        })
    }
}

async fn run(seams: &Seams, keys: &Keys, frames: u64) -> io::Result<()> {
    let mut last = seams.network.bind("127.0.0.1:0").await?;
    let mut first = seams.network.bind("127.0.0.1:0").await?;
    let (last_address, first_address) = (last.address(), first.address());
    let mut sinks = tokio::task::JoinSet::new();
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (network, tls, address) = (
            seams.network.clone(),
            Arc::clone(&keys.client),
            first_address.clone(),
        );
        senders.spawn(async move { send(connect(&network, &address, tls).await?, frames).await });
        let upstream = accept(first.as_mut(), &keys.server).await?;
        let (network, tls, address) = (
            seams.network.clone(),
            Arc::clone(&keys.client),
            last_address.clone(),
        );
        sinks.spawn(async move { pass_on(upstream.await?, connect(&network, &address, tls).await?).await });
        let end = accept(last.as_mut(), &keys.server).await?;
        sinks.spawn(async move { discard(end.await?).await });
    }
    while let Some(ended) = senders.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    while let Some(ended) = sinks.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(())
}

async fn connect(
    network: &Network,
    address: &str,
    tls: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<Connection>> {
    let name = expected_name(&Role::Chunkserver(CLUSTER.to_owned())).map_err(io::Error::other)?;
    TlsConnector::from(tls)
        .connect(name, network.connect(address).await?)
        .await
}

/// Accepts a connection now; the handshake is for the future that it returns.
async fn accept(
    listener: &mut dyn Listen,
    tls: &Arc<ServerConfig>,
) -> io::Result<tokio_rustls::Accept<Connection>> {
    let (connection, _) = listener.accept().await?;
    Ok(TlsAcceptor::from(Arc::clone(tls)).accept(connection))
}

/// Sends, and waits until the last hop has read everything: it closes its side then, and so does the first.
async fn send(stream: impl AsyncRead + AsyncWrite + Unpin, frames: u64) -> io::Result<()> {
    let (mut read, write) = tokio::io::split(stream);
    let mut writer = FrameWriter::new(write);
    let data = vec![0x5a; DATA_BYTES_MAX];
    // Made once: frames have a place for them, and nobody here checks them.
    let checksums = checksums(AttemptId::default(), 0, &data);
    for _ in 0..frames {
        writer.data(RequestNumber::new(1), 0, &checksums, &data).await?;
    }
    writer.close().await?;
    read.read_to_end(&mut Vec::new()).await.map(drop)
}

async fn pass_on(
    upstream: impl AsyncRead + AsyncWrite + Unpin,
    downstream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let (read, mut answer) = tokio::io::split(upstream);
    let (mut end, write) = tokio::io::split(downstream);
    let (mut reader, mut writer) = (FrameReader::new(read), FrameWriter::new(write));
    let mut buffer = vec![0; DATA_BYTES_MAX];
    while let Some(frame) = reader.next().await.map_err(io::Error::other)? {
        let part = buffer.get_mut(..frame.data_length).unwrap_or_default();
        reader.data(part).await.map_err(io::Error::other)?;
        let head = DataHead::decode(&frame.body).map_err(io::Error::other)?;
        writer
            .data(frame.request, head.first_block, &head.checksums, part)
            .await?;
    }
    writer.close().await?;
    end.read_to_end(&mut Vec::new()).await?;
    answer.shutdown().await
}

async fn discard(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let (read, mut answer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read);
    let mut buffer = vec![0; DATA_BYTES_MAX];
    while let Some(frame) = reader.next().await.map_err(io::Error::other)? {
        let part = buffer.get_mut(..frame.data_length).unwrap_or_default();
        reader.data(part).await.map_err(io::Error::other)?;
    }
    answer.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_bytes_arrive() {
        common::tls::install_provider();
        run(&Seams::real(), &Keys::new().unwrap(), 3).await.unwrap();
    }
}
