//! Watches which clusters are heard from, and says when one falls silent or comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::LOOK_PERIOD;
use crate::context::Context;

pub(super) async fn run(context: Arc<Context>) {
    let mut heard_before: BTreeSet<String> = BTreeSet::new();
    let mut leading_before = false;
    loop {
        let leadership = context.group.epoch();
        context.metrics.leading.set(i64::from(leadership.is_some()));
        if leadership.is_some() != leading_before {
            leading_before = leadership.is_some();
            tracing::info!(leading = leading_before, "names group leadership changed");
        }
        let status = context.group.status();
        let shown = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        context.metrics.wal_bytes.set(shown(status.wal_bytes));
        context.metrics.reads_held.set(shown(status.reads_held));
        let heard = match leadership {
            Some(epoch) => {
                context.board.enter(epoch);
                heard_lately(&context)
            }
            None => BTreeSet::new(),
        };
        context
            .metrics
            .clusters_heard
            .set(i64::try_from(heard.len()).unwrap_or(i64::MAX));
        if leadership.is_some() {
            for cluster in heard_before.difference(&heard) {
                tracing::warn!(cluster, "cluster is silent: it gets no new files");
            }
            for cluster in heard.difference(&heard_before) {
                tracing::info!(cluster, "cluster is heard");
            }
        }
        heard_before = heard;
        context.clock.sleep(LOOK_PERIOD).await;
    }
}

fn heard_lately(context: &Context) -> BTreeSet<String> {
    let policy = context.policy();
    let all = context.board.all(policy).into_values();
    all.filter(|shown| shown.age <= policy.silence_max)
        .map(|shown| shown.status.name.clone())
        .collect()
}
