//! How an upload stands; waits for its end for as long as the caller asks, within bounds.

use std::time::Duration;

use common::ids::UploadId;
use proto::error::RpcError;
use proto::names::v1 as wire;

use super::serve::Call;
use super::session::Session;
use super::show;
use crate::context::refused;
use crate::core::permission::{Ask, check};
use crate::store::apply::Stop;
use crate::store::read::uploads::get;

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
    let id = UploadId::new(show::number(request.upload_id)?);
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
        && upload.state() == wire::UploadState::Open
        && context.clock.moment().since(begun) < wanted
    {
        context.clock.sleep(pause).await;
        pause = (pause * 2).min(LOOK_LONGEST);
        upload = look(&call, session, id).await?;
    }
    Ok(upload)
}

async fn look(call: &Call, session: Session, id: UploadId) -> Result<wire::UploadStatus, RpcError> {
    let context = &call.context;
    let found = context
        .read(move |tables| {
            let caller = session.holder(tables)?;
            match get(tables, caller, id) {
                Ok(upload) => Ok(Ok(upload)),
                Err(Stop::Refused(refusal)) => Ok(Err((caller, refusal))),
                Err(stop) => Err(stop),
            }
        })
        .await?;
    match found {
        Ok(upload) => Ok(show::upload(upload)),
        // Its leader alone may know it.
        Err((caller, refusal)) => {
            let unrecorded = context.sessions.find(context.leading()?, id);
            let owner = unrecorded.map(|session| session.user);
            match check(caller, Ask::Upload { id, owner }) {
                Ok(()) => Ok(show::open_upload(id)),
                Err(_) => Err(refused(refusal)),
            }
        }
    }
}
