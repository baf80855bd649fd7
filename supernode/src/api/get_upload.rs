//! How an upload stands; waits for its end for as long as the caller asks, within bounds.

use std::time::Duration;

use common::ids::UploadId;
use common::lifecycle::Session as State;
use proto::error::RpcError;
use proto::names::v1 as wire;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::store::read::uploads::{Upload, get};

/// Between two looks at a session that is waited for.
const LOOK_FIRST: Duration = Duration::from_millis(20);
/// The longest time between two looks.
const LOOK_LONGEST: Duration = Duration::from_millis(500);
/// What is left of a request's time for everything but waiting.
const TIME_KEPT: Duration = Duration::from_secs(2);

pub(super) async fn handle(
    call: Call,
    request: wire::GetUploadRequest,
) -> Result<wire::UploadStatus, RpcError> {
    let context = &call.context;
    let session = Session::of(&call).await?;
    let id = UploadId::new(request.upload_id);
    let longest = context
        .config
        .limits
        .request_time_max
        .get()
        .saturating_sub(TIME_KEPT);
    let wanted = Duration::from_millis(request.wait_millis.into()).min(longest);
    let mut upload = look(&call, session, id).await?;
    let place = if wanted.is_zero() {
        None
    } else {
        context.waits.try_admit()
    };
    let begun = context.clock.moment();
    let mut pause = LOOK_FIRST;
    while place.is_some()
        && upload.session.state == State::Open
        && context.clock.moment().since(begun) < wanted
    {
        context.clock.sleep(pause).await;
        pause = (pause * 2).min(LOOK_LONGEST);
        upload = look(&call, session, id).await?;
    }
    Ok(show::upload(upload))
}

async fn look(call: &Call, session: Session, id: UploadId) -> Result<Upload, RpcError> {
    call.context
        .read(move |tables| get(tables, session.user(tables)?.caller(), id))
        .await
}
