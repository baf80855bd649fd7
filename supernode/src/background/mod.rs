//! What a supernode does by itself. Every loop runs on every supernode; only the leader's changes the names group, and what it
//! proposes is refused once its leadership is over.
//!
//! | loop | period | trigger | may change |
//! |---|---|---|---|
//! | `signing_keys` | 1 s | | the keys in memory; as leader: a new signing key when there is none, or `timings.signing_key_period` is over |
//! | `admin_bootstrap` | 1 s until done | | the first administrator |
//! | `cluster_watch` | 1 s | | nothing that lasts: gauges and the log |
//! | `trash_expiry` | `timings.tidy_period` | a permanent deletion | releases what is due |
//! | `certificates` | 5 s | SIGHUP | the identity shown to new connections |
//! | `openings` | 500 ms | | makes rows of sessions that last |
//! | `session_expiry` | `timings.tidy_period` | | aborts silent sessions, forgets old ones |

use std::sync::Arc;
use std::time::Duration;

use common::ids::Epoch;
use common::shutdown::Shutdown;
use tokio::task::JoinSet;

use crate::context::Context;

mod admin_bootstrap;
mod certificates;
mod cluster_watch;
mod openings;
mod session_expiry;
mod signing_keys;
mod trash_expiry;

/// The period of the loops that only look.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How often a loop looks whether this supernode leads by now, where its own period is longer.
const LEADING_PERIOD: Duration = Duration::from_millis(250);

/// Starts every loop; they end with `shutdown`.
pub(crate) fn start(context: &Arc<Context>, shutdown: &Shutdown) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    let mut spawn = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let shutdown = shutdown.clone();
        loops.spawn(async move {
            shutdown.guard(work).await;
        });
    };
    spawn(Box::pin(signing_keys::run(Arc::clone(context))));
    spawn(Box::pin(admin_bootstrap::run(Arc::clone(context))));
    spawn(Box::pin(cluster_watch::run(Arc::clone(context))));
    spawn(Box::pin(trash_expiry::run(Arc::clone(context))));
    spawn(Box::pin(certificates::run(Arc::clone(context))));
    spawn(Box::pin(openings::run(Arc::clone(context))));
    spawn(Box::pin(session_expiry::run(Arc::clone(context))));
    loops
}

/// Waits until this supernode leads.
async fn until_leading(context: &Context) -> Epoch {
    loop {
        if let Some(epoch) = context.group.epoch() {
            return epoch;
        }
        context.clock.sleep(LEADING_PERIOD).await;
    }
}
