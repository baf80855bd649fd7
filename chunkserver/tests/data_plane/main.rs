//! The data plane over loopback and TLS: real nodes in one process, real stores.

// A test that meets something else than it expects has nothing better to do than to fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
// Giving a transfer up is what is tested, whatever its type does when dropped; sizes are written as what they mean.
#![allow(clippy::drop_non_drop, clippy::identity_op)]

mod harness;

mod crowd;
mod faults;
mod hanging;
mod limits;
mod permits;
mod slow;
mod transfers;

use common::net::Network;
use dbfs_chunkserver::transfer::settings::DataPlaneSettings;
use harness::Cluster;

/// Nodes with empty stores.
async fn cluster(count: u64) -> Cluster {
    cluster_with(count, DataPlaneSettings::default()).await
}

async fn cluster_with(count: u64, settings: DataPlaneSettings) -> Cluster {
    settings.validate().unwrap();
    Cluster::start(count, settings, Network::tcp(None), None).await
}
