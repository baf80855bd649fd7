//! Records sessions that last, so that they survive their leader.

use std::sync::Arc;
use std::time::Duration;

use common::ids::Epoch;
use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use super::until_leading;
use crate::context::Context;

/// How long a session may be known to its leader alone: what was sent by then is sent again if the leader dies.
const LASTING: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_millis(500);
/// Sessions in one command.
const SESSIONS_MAX: usize = 500;

pub(super) async fn run(context: Arc<Context>) {
    loop {
        context.clock.sleep(PERIOD).await;
        let epoch = until_leading(&context).await;
        if let Err(error) = record(&context, epoch).await {
            tracing::debug!(%error, "cannot record the sessions that last yet");
        }
    }
}

async fn record(context: &Context, epoch: Epoch) -> Result<(), RpcError> {
    loop {
        let now = context.clock.moment();
        let lasting = context.sessions.lasting(epoch, now, LASTING, SESSIONS_MAX);
        if lasting.is_empty() {
            return Ok(());
        }
        let command = log::RecordUploads {
            openings: lasting.iter().map(|session| session.opening.clone()).collect(),
        };
        context.propose_in(epoch, Command::RecordUploads(command)).await?;
        let recorded = lasting.iter().map(|session| session.id());
        context.sessions.recorded(epoch, recorded);
    }
}
