//! Over loopback with real certificates: who may come in, what is counted, how it ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use common::net::Network;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::tls::{self, ALPN_CONTROL, Authority, Identity, Reloadable, Role};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::transport::Channel;

use super::{Limits, Peer, Routes, connect, serve};

/// Answers every call with the name of the role that its peer proved.
#[derive(Clone)]
struct WhoAmI;

impl NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl Service<Request<Body>> for WhoAmI {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        Box::pin(async move {
            let who = match peer {
                Some(peer) if peer.has_role(&Role::Supernode) => "supernode",
                Some(_) => "client",
                None => "nobody",
            };
            Ok(tonic::Status::already_exists(who).into_http())
        })
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    address: String,
    shutdown: Shutdown,
    server: tokio::task::JoinHandle<()>,
}

impl Fixture {
    async fn start(limits: Limits) -> Self {
        tls::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(directory.path()).unwrap();
        authority
            .issue(&Role::Supernode, &[], &directory.path().join("s"))
            .unwrap();
        let identity = Identity::load(&directory.path().join("s")).unwrap();
        let listener = Network::tcp(None).bind("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let shutdown = Shutdown::new();
        let serving = serve(
            listener,
            Reloadable::new(identity.server_config(ALPN_CONTROL).unwrap()),
            Routes::new().with(WhoAmI),
            shutdown.clone(),
            Clock::real(),
            limits,
        );
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            directory,
            address,
            shutdown,
            server,
        }
    }

    fn channel(&self, with_certificate: bool, role: &Role) -> Channel {
        let config = if with_certificate {
            let identity = Identity::load(&self.directory.path().join("s")).unwrap();
            identity.client_config(ALPN_CONTROL).unwrap()
        } else {
            let ca = std::fs::read_to_string(self.directory.path().join("ca.pem")).unwrap();
            tls::client_config(&ca, ALPN_CONTROL).unwrap()
        };
        connect(&Network::tcp(None), &self.address, role, Arc::new(config)).unwrap()
    }
}

async fn call(channel: &Channel, path: &str) -> tonic::Status {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    if let Err(error) = grpc.ready().await {
        return tonic::Status::unavailable(error.to_string());
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = path.parse().unwrap();
    let answer = grpc.unary(tonic::Request::new(()), path, codec).await;
    answer.map(|_| ()).unwrap_err()
}

#[tokio::test]
async fn peers_are_told_from_clients_and_services_by_name() {
    let fixture = Fixture::start(Limits::default()).await;
    let peer = fixture.channel(true, &Role::Supernode);
    let client = fixture.channel(false, &Role::Supernode);
    assert_eq!(call(&peer, "/test.WhoAmI/Ask").await.message(), "supernode");
    assert_eq!(call(&client, "/test.WhoAmI/Ask").await.message(), "client");
    let unknown = call(&peer, "/test.Nobody/Ask").await;
    assert_eq!(unknown.code(), tonic::Code::Unimplemented);
    let impostor = fixture.channel(true, &Role::Chunkserver("alpha".to_owned()));
    assert_eq!(
        call(&impostor, "/test.WhoAmI/Ask").await.code(),
        tonic::Code::Unavailable
    );
}

#[tokio::test]
async fn a_crowd_of_clients_leaves_places_for_peers() {
    let limits = Limits {
        client_connections_max: 1,
        ..Limits::default()
    };
    let fixture = Fixture::start(limits).await;
    let first = fixture.channel(false, &Role::Supernode);
    assert_eq!(call(&first, "/test.WhoAmI/Ask").await.message(), "client");
    let second = fixture.channel(false, &Role::Supernode);
    let refused = call(&second, "/test.WhoAmI/Ask").await;
    assert_ne!(refused.message(), "client");
    let peer = fixture.channel(true, &Role::Supernode);
    assert_eq!(call(&peer, "/test.WhoAmI/Ask").await.message(), "supernode");
}

#[tokio::test]
async fn silent_connections_block_nobody_and_shutdown_ends() {
    let limits = Limits {
        handshakes_max: 2,
        handshake_timeout: Duration::from_millis(50),
        shutdown_grace: Duration::from_millis(50),
        ..Limits::default()
    };
    let fixture = Fixture::start(limits).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(tokio::net::TcpStream::connect(&fixture.address).await.unwrap());
    }
    let peer = fixture.channel(true, &Role::Supernode);
    assert_eq!(call(&peer, "/test.WhoAmI/Ask").await.message(), "supernode");
    fixture.shutdown.trigger();
    fixture.server.await.unwrap();
    assert_eq!(
        call(&peer, "/test.WhoAmI/Ask").await.code(),
        tonic::Code::Unavailable
    );
}
