//! Ends sessions that nobody asks about, and forgets sessions and replies that no key can ask for any more (P8).

use std::sync::Arc;

use common::ids::{Epoch, UploadId};
use common::lifecycle::SessionEvent;
use common::time::ClusterTime;
use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;

use super::until_leading;
use crate::arrow::{after, before};
use crate::context::Context;
use crate::core::dedupe;
use crate::store::apply::{keys_refused_before, replies_before};
use crate::store::counter::Counter;
use crate::store::read::uploads::forgettable;
use crate::store::{cluster, session};

/// Sessions and replies that one command ends or forgets.
const ROWS_PER_STEP: u32 = 500;
/// How often within a dedupe window an idle leader commits which keys no longer count.
const LAGS_PER_WINDOW: u32 = 16;

pub(super) async fn run(context: Arc<Context>) {
    loop {
        let epoch = until_leading(&context).await;
        let work = async {
            expire(&context, epoch).await?;
            settle_retired(&context, epoch).await?;
            forget(&context, epoch).await
        };
        if let Err(error) = work.await {
            tracing::debug!(%error, "sessions could not be looked through");
        }
        context
            .clock
            .sleep(context.config.timings.tidy_period.get())
            .await;
    }
}

async fn expire(context: &Context, epoch: Epoch) -> Result<(), RpcError> {
    let idle_millis = context.config.timings.session_idle_max.as_millis();
    let since = ClusterTime::from_millis(context.now().as_millis().saturating_sub(idle_millis));
    let mut more = context
        .read_local(move |tables| Ok(!session::idle(tables, since, 1)?.is_empty()))
        .await?;
    while more {
        before(SessionEvent::Abort.arrow());
        let command = log::ExpireSessions {
            idle_millis,
            limit: ROWS_PER_STEP,
        };
        let Reply::Worked(worked) = context
            .propose_in(epoch, Command::ExpireSessions(command))
            .await?
        else {
            break;
        };
        after(SessionEvent::Abort.arrow());
        tracing::info!(sessions = worked.count, "silent uploads aborted");
        more = worked.more;
    }
    Ok(())
}

/// Lets go of what waits for clusters that were set aside.
async fn settle_retired(context: &Context, epoch: Epoch) -> Result<(), RpcError> {
    let any = context
        .read_local(move |tables| {
            for retired in cluster::all(tables)?
                .into_iter()
                .filter(|cluster| cluster.retired)
            {
                if retired.releases_recorded < retired.releases_made
                    || !session::aborted_unrecorded(tables, retired.number, 1)?.is_empty()
                {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await?;
    let mut more = any;
    while more {
        let command = log::SettleRetired { limit: ROWS_PER_STEP };
        let reply = context.propose_in(epoch, Command::SettleRetired(command)).await?;
        more = matches!(reply, Reply::Worked(worked) if worked.more);
    }
    Ok(())
}

async fn forget(context: &Context, epoch: Epoch) -> Result<(), RpcError> {
    let window = context.config.timings.dedupe_window.get();
    loop {
        let open = context.sessions.oldest_key(epoch);
        let wanted = dedupe::wanted(context.now(), window, open);
        let (sessions, replies, raised, last) = context
            .scan_local(move |tables| {
                let sessions = forgettable(tables, wanted, ROWS_PER_STEP)?;
                let replies = replies_before(tables, wanted)?;
                let raised = keys_refused_before(tables)?;
                Ok((sessions, replies, raised, Counter::Upload.last(tables)?))
            })
            .await?;
        // Where there is nothing to forget it may lag: keys that are not refused find what was done under them.
        let lags = wanted > raised + window / LAGS_PER_WINDOW;
        if sessions.is_empty() && !replies && !lags {
            return Ok(());
        }
        let command = log::Forget {
            keys_refused_before_millis: wanted.as_millis(),
            upload_ids: sessions.iter().map(|id: &UploadId| id.get()).collect(),
            closed_up_to: context.sessions.close(epoch, last).await,
            keys_limit: if replies { ROWS_PER_STEP } else { 0 },
        };
        let reply = context.propose_in(epoch, Command::Forget(command)).await?;
        if let Reply::Worked(worked) = reply
            && worked.count == 0
        {
            return Ok(());
        }
    }
}
