//! The data plane over loopback and TLS: real nodes in one process, real stores.

mod harness;

mod faults;
mod limits;
mod permits;
mod transfers;

use common::net::Network;
use dbfs_chunkserver::store::Store;
use dbfs_chunkserver::transfer::settings::DataPlaneSettings;
use harness::Cluster;

/// Nodes with empty stores.
async fn cluster(count: u64) -> Cluster {
    cluster_with(count, DataPlaneSettings::default()).await
}

async fn cluster_with(count: u64, settings: DataPlaneSettings) -> Cluster {
    settings.validate().unwrap();
    let stores = (0..count).map(|_| Store::default()).collect();
    Cluster::start(count, settings, Network::tcp(None), stores).await
}
