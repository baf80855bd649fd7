//! Connections to the data planes of clusters, kept for reuse by every transfer of a client.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::ids::ClusterId;
use common::tls;
use parking_lot::Mutex;
use proto::bulk::dial::{Deadlines, Dialer};
use proto::bulk::pool::{self, Pool};
use rustls::ClientConfig;

use crate::error::Error;
use crate::settings::Settings;

/// Clusters whose connections are kept at most.
const POOLS_MAX: usize = 64;
/// Connections to the nodes of one cluster.
const CONNECTIONS_PER_CLUSTER_MAX: usize = 128;

/// One pool of connections per cluster.
pub(super) struct DataPlane {
    tls: Arc<ClientConfig>,
    pools: Mutex<BTreeMap<ClusterId, Pool>>,
}

impl DataPlane {
    pub(super) fn new(ca_pem: &str) -> Result<Self, Error> {
        Ok(Self {
            tls: Arc::new(tls::client_config(ca_pem, tls::ALPN_BULK)?),
            pools: Mutex::default(),
        })
    }

    /// The connections to the nodes of one cluster.
    pub(super) fn pool(&self, settings: &Settings, id: ClusterId, name: &str) -> Result<Pool, Error> {
        if let Some(pool) = self.pools.lock().get(&id) {
            return Ok(pool.clone());
        }
        let seams = &settings.seams;
        let deadlines = Deadlines {
            connect: settings
                .limits
                .data_stall_timeout
                .min(Deadlines::default().connect),
            frame: settings.limits.data_stall_timeout,
            answer: settings.limits.data_stall_timeout.saturating_mul(2),
        };
        let dialer = Dialer::new(
            seams.network.clone(),
            Arc::clone(&self.tls),
            name,
            id,
            None,
            seams.clock.clone(),
        )?
        .with_deadlines(deadlines);
        let limits = pool::Limits {
            connections_max: CONNECTIONS_PER_CLUSTER_MAX,
            ..pool::Limits::default()
        };
        let mut pools = self.pools.lock();
        if pools.len() >= POOLS_MAX {
            pools.pop_first();
        }
        Ok(pools
            .entry(id)
            .or_insert_with(|| Pool::new(dialer, limits))
            .clone())
    }
}
