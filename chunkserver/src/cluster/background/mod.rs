//! What happens without being asked: one file per loop.
//!
//! | loop | runs at | period key | trigger | what it may change |
//! |---|---|---|---|---|
//! | [`lead`] | every member | - | a leadership begins or ends | starts and stops the loops of the leader |
//! | [`openings`] | leader | - | - | uploads: open |
//! | [`publish`] | leader | - | a seal; a second has passed | sealed versions: published, refused |
//! | [`registry`] | leader | `registry_period` | - | versions: released; uploads: abandoned, reported; the view of the names layer |
//! | [`presence`] | leader | `heartbeat_period` | - | nodes: suspect, dead |
//! | [`reclaim`] | leader | `reclaim_period` | a release | chunks: marked, doomed, spared |
//! | [`silence`] | leader | a twentieth of `upload_silence_max` | - | uploads: heard, abandoned, forgotten |
//! | [`keys`] | leader | a tenth of `key_period` | - | data-plane keys |
//!
//! Loops that serve this node, whether it leads or not, are in [`crate::control`].
//!
//! Invariant: a loop of the leader ends with the epoch it began in and commits under that epoch alone (P7). Steps are
//! idempotent: a loop that dies between two of them is carried on by the next leader.

pub(crate) mod lead;

pub(crate) mod keys;
pub(crate) mod openings;
pub(crate) mod presence;
pub(crate) mod publish;
pub(crate) mod reclaim;
pub(crate) mod registry;
pub(crate) mod silence;

use std::time::Duration;

use common::time::Clock;
use tokio::sync::Notify;

/// Waits for `trigger`, at most for `period`; returns whether the time was up.
async fn wait(clock: &Clock, period: Duration, trigger: &Notify) -> bool {
    clock.timeout(period, trigger.notified()).await.is_none()
}
