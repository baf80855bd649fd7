//! Whether the group is complete enough to keep what `durability: full` promises.
//!
//! Invariant (P1): under `full` nothing is planned or sealed while the loss of one voter could lose metadata. A group
//! grows by one voter at a time after it was founded; until there are three it says so and asks to be tried again.

use common::error::Kind;
use proto::error::RpcError;

use crate::cluster::Cluster;
use crate::config::Durability;

/// Voters without which the loss of one would lose metadata, or stop the group.
const VOTERS_MIN: usize = 3;

impl Cluster {
    /// Refuses while the group is too small for what the configuration promises.
    ///
    /// # Errors
    /// Retry: voters are still to join.
    pub(crate) fn check_formed(&self) -> Result<(), RpcError> {
        let voters = self.group.voters();
        if self.config.durability == Durability::Reduced || voters >= VOTERS_MIN {
            return Ok(());
        }
        let message =
            format!("{voters} of the {VOTERS_MIN} voters that the cluster's metadata needs have joined");
        Err(RpcError::new(Kind::Retry, "E_NOT_ENOUGH_NODES", message)
            .hint("start three chunkservers, or allow less with `durability: reduced`"))
    }

    /// Whether less than the promised durability is allowed or in force.
    pub(crate) fn is_reduced(&self) -> bool {
        self.config.durability == Durability::Reduced || self.group.voters() < VOTERS_MIN
    }
}
