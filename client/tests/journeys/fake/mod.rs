//! An installation in one process, on loopback, that keeps everything in memory and does wrong what a test asks for.
//!
//! It speaks the real protocols over real TLS: supernodes, one cluster with control and data planes. It is a stand-in
//! for the servers' contracts only; nothing in it is durable or replicated.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod data;
mod files;
mod names;
mod trash;
pub(crate) mod world;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Settings};
use common::net::Network;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::tls::{ALPN_BULK, ALPN_CONTROL, Authority, Identity, Reloadable, Role, install_provider};
use proto::control::{Limits, Routes, serve};
use proto::files::v1::files_server::FilesServer;
use proto::names::v1::names_server::NamesServer;
use proto::trash::v1::trash_server::TrashServer;

use data::Node;
use world::World;

pub(crate) const CLUSTER_NAME: &str = "alpha";

/// A running fake installation. Dropping it ends it.
pub(crate) struct Fake {
    pub(crate) world: Arc<World>,
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) directory: tempfile::TempDir,
    ca_pem: String,
    supernode_stops: Vec<Shutdown>,
    member_stops: Vec<Shutdown>,
    all: Shutdown,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.all.trigger();
    }
}

impl Fake {
    /// `supernodes` supernodes and one cluster of `nodes` nodes; the first of each leads.
    pub(crate) async fn start(supernodes: usize, nodes: usize) -> Self {
        install_provider();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(directory.path()).unwrap();
        let issue = |role: &Role, name: &str| {
            let own = directory.path().join(name);
            authority.issue(role, &["localhost".to_owned()], &own).unwrap();
            Identity::load(&own).unwrap()
        };
        let supernode_identity = issue(&Role::Supernode, "s");
        let node_identity = issue(&Role::Chunkserver(CLUSTER_NAME.to_owned()), "n");
        let all = Shutdown::new();
        let world = Arc::new(World::default());
        let mut fake_nodes = Vec::new();
        let mut member_stops = Vec::new();
        for number in 1..=nodes as u64 {
            let tls = Reloadable::new(node_identity.server_config(ALPN_BULK).unwrap());
            let node = Node::start(number, Arc::clone(&world), tls, all.child()).await;
            let routes = Routes::new().with(FilesServer::new(files::Member {
                world: Arc::clone(&world),
                me: fake_nodes.len(),
            }));
            let (control, stop) = control(&node_identity, routes, &all).await;
            world.state().members.push(control);
            world.state().data.push(node.address.clone());
            member_stops.push(stop);
            fake_nodes.push(node);
        }
        world.nodes.set(fake_nodes.clone()).ok().unwrap();
        let mut supernode_stops = Vec::new();
        for me in 0..supernodes {
            let routes = Routes::new().with(NamesServer::new(names::Supernode {
                world: Arc::clone(&world),
                me,
            }));
            let routes = routes.with(TrashServer::new(trash::Trash(Arc::clone(&world))));
            let (address, stop) = control(&supernode_identity, routes, &all).await;
            world.state().supernodes.push(address);
            supernode_stops.push(stop);
        }
        Self {
            world,
            nodes: fake_nodes,
            ca_pem: authority.certificate_pem().to_owned(),
            directory,
            supernode_stops,
            member_stops,
            all,
        }
    }

    /// Settings that know of the first supernode alone, and short waits.
    pub(crate) fn settings(&self) -> Settings {
        let first = self.world.state().supernodes.first().cloned();
        let mut settings = Settings::new(first.into_iter().collect(), self.ca_pem.clone());
        settings.limits.outcome_wait_max = Duration::from_secs(3);
        settings.limits.data_stall_timeout = Duration::from_secs(3);
        settings
    }

    /// A client that is logged in.
    pub(crate) async fn client(&self) -> Client {
        self.client_with(self.settings()).await
    }

    pub(crate) async fn client_with(&self, settings: Settings) -> Client {
        let client = Client::connect(settings).await.unwrap();
        client.login("me", "secret").await.unwrap();
        client
    }

    /// Ends one supernode: its connections break, its port is closed.
    pub(crate) fn stop_supernode(&self, number: usize) {
        self.supernode_stops[number].trigger();
    }

    /// Ends one member's control plane.
    pub(crate) fn stop_member(&self, number: usize) {
        self.member_stops[number].trigger();
    }
}

async fn control(identity: &Identity, routes: Routes, all: &Shutdown) -> (String, Shutdown) {
    let tls = Reloadable::new(identity.server_config(ALPN_CONTROL).unwrap());
    let listener = Network::tcp(None).bind("127.0.0.1:0").await.unwrap();
    let address = listener.address();
    let stop = all.child();
    let limits = Limits {
        shutdown_grace: Duration::from_millis(1),
        ..Limits::default()
    };
    tokio::spawn(serve(listener, tls, routes, stop.clone(), Clock::real(), limits));
    (address, stop)
}
