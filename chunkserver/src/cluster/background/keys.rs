//! Replaces the data-plane key from time to time.

use std::sync::Arc;

use proto::cluster_log::v1::{RotateKeys, command::Command as C};
use proto::error::RpcError;

use crate::cluster::Cluster;
use crate::cluster::leadership::Leadership;
use crate::cluster::store::keys;

/// Keys that stay known: receipts of long uploads are checked with old ones, nodes accept the newest two.
const KEYS_KEPT_MAX: u32 = 8;

pub(super) async fn run(cluster: Arc<Cluster>, leadership: Arc<Leadership>) {
    let period = cluster.config.timings.key_period.get();
    loop {
        cluster.clock.sleep(period / 10).await;
        let newest = match cluster.read_local(keys::all).await {
            Ok(rows) => rows.first().map(|row| row.made),
            Err(error) => {
                tracing::warn!(%error, "cannot read the keys");
                continue;
            }
        };
        let is_due = newest.is_none_or(|made| cluster.group.now().since(made) >= period);
        if is_due && let Err(error) = rotate(&cluster, &leadership).await {
            tracing::warn!(%error, "cannot replace the data-plane key");
        }
    }
}

/// Makes a new key the current one.
pub(super) async fn rotate(cluster: &Cluster, leadership: &Leadership) -> Result<(), RpcError> {
    let secret = cluster.random.bytes::<{ keys::SECRET_BYTES }>();
    let command = RotateKeys {
        secret: secret.to_vec().into(),
        kept_max: KEYS_KEPT_MAX,
    };
    cluster.commit(leadership.epoch, C::RotateKeys(command)).await?;
    let rows = cluster.read_local(keys::all).await?;
    leadership.replace_keys(keys::usable(&rows));
    tracing::info!(key = ?rows.first().map(|row| row.id), "new data-plane key");
    Ok(())
}
