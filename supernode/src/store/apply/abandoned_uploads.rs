//! Uploads which a cluster's log has abandoned: none of them will ever be sealed, so none will be published.

use common::ids::UploadId;
use common::lifecycle::Session as State;
use proto::names_log::v1 as log;

use super::{At, Stop, cluster_id};
use crate::core::refusal::Refusal;
use crate::store::cluster;
use crate::store::number::NUMBER_MAX;
use crate::store::session::{self, End};

pub(super) fn apply(at: At<'_>, command: log::AbandonedUploads) -> Result<log::Recorded, Stop> {
    let cluster =
        cluster::by_id(at.tables, cluster_id(&command.cluster_id)?)?.ok_or_else(Refusal::unknown_cluster)?;
    for id in command.upload_ids.iter().filter(|id| **id <= NUMBER_MAX) {
        let Some(session) = session::by_id(at.tables, UploadId::new(*id))? else {
            continue;
        };
        if session.cluster != cluster.number {
            continue;
        }
        match session.state {
            State::Open => {
                let end = End::Aborted { recorded: true };
                session::end(at.tables, &session, &end, at.now)?;
            }
            State::Aborted | State::Refused => session::set_recorded(at.tables, session.id)?,
            // A contradiction: what was published had been sealed. The publication stands.
            State::Published => {}
        }
    }
    Ok(log::Recorded {
        upload_ids: command.upload_ids,
    })
}
