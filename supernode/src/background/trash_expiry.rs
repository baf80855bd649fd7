//! Releases what has been in the trash for its time, a bounded step at a time.

use std::sync::Arc;

use common::ids::Epoch;
use common::lifecycle::VersionEvent;
use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;

use super::until_leading;
use crate::arrow::{after, before};
use crate::context::Context;
use crate::store::trash;

/// Rows that one command touches. Small, so that requests are not kept waiting.
const ROWS_PER_STEP: u32 = 500;

pub(super) async fn run(context: Arc<Context>) {
    loop {
        let epoch = until_leading(&context).await;
        if let Err(error) = expire(&context, epoch).await {
            tracing::debug!(%error, "the trash could not be emptied");
        }
        let period = context.config.timings.tidy_period.get();
        tokio::select! {
            () = context.clock.sleep(period) => {}
            () = context.trash_due.notified() => {}
        }
    }
}

async fn expire(context: &Context, epoch: Epoch) -> Result<(), RpcError> {
    let now = context.now();
    let due = context
        .read_local(move |tables| Ok(trash::due(tables, now)?.is_some()))
        .await?;
    let mut more = due;
    let (mut files, mut bytes) = (0_u64, 0_u64);
    while more {
        before(VersionEvent::Release.arrow());
        let command = log::ExpireTrash { limit: ROWS_PER_STEP };
        let Reply::Worked(worked) = context.propose_in(epoch, Command::ExpireTrash(command)).await? else {
            break;
        };
        after(VersionEvent::Release.arrow());
        context.metrics.versions_released.inc_by(worked.count);
        files = files.saturating_add(worked.count);
        bytes = bytes.saturating_add(worked.bytes);
        more = worked.more;
    }
    if files > 0 {
        tracing::info!(files, bytes, "released from the trash");
    }
    Ok(())
}
