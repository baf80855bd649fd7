//! Channels to processes of ours.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::net::Network;
use common::tls::{self, Role};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::gather::Gather;
use super::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};

/// TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel to the process of `role` at `address` (`host:port`). Connects at the first call and again after a loss;
/// until then calls fail with `UNAVAILABLE`. Must be called inside a tokio runtime, which will carry the channel.
///
/// `config` comes from [`common::tls::Identity::client_config`] (between nodes) or [`common::tls::client_config`]
/// (clients), with [`common::tls::ALPN_CONTROL`].
///
/// # Errors
/// The role's cluster name cannot stand in a certificate.
pub fn connect(
    network: &Network,
    address: &str,
    role: &Role,
    config: Arc<ClientConfig>,
) -> Result<Channel, tls::Error> {
    let name = tls::expected_name(role)?;
    let reach = Reach {
        network: network.clone(),
        address: address.to_owned(),
        name,
        connector: TlsConnector::from(config),
    };
    let connector = tower::service_fn(move |_: Uri| {
        let reach = reach.clone();
        async move { reach.open().await.map(Gather::new).map(TokioIo::new) }
    });
    // The URI only fills HTTP/2's `:authority`; where to connect and whom to trust is the connector's matter.
    Ok(Endpoint::from_static("https://dbfs.internal")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect_with_connector_lazy(connector))
}

#[derive(Clone)]
struct Reach {
    network: Network,
    address: String,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Reach {
    async fn open(self) -> io::Result<TlsStream<common::net::Connection>> {
        let stream = self.network.connect(&self.address).await?;
        self.connector.connect(self.name, stream).await
    }
}
