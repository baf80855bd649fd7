//! Committing commands: under the leader's epoch, with a fail point on either side of every arrow they move.

use common::error::Kind;
use common::fail;
use common::ids::Epoch;
use proto::cluster_log::v1::{self as wire, command::Command as C};
use proto::error::RpcError;

use super::growth::{Growth, growth};
use super::handle::Cluster;
use super::store::Reply;

impl Cluster {
    /// Commits `command` under `epoch` and returns what it did. The commit goes on when the caller is gone.
    ///
    /// # Errors
    /// The epoch is over, there is no quorum, too much waits; or the outcome is unknown, which is a Retry too: every
    /// command recognises its repetition.
    pub(crate) async fn commit(&self, epoch: Epoch, command: C) -> Result<Reply, RpcError> {
        let arrows = arrows(&command);
        pass(&arrows, "before");
        let growth = growth(&command);
        let command = wire::Command {
            command: Some(command),
        };
        let reply = match growth {
            Growth::Adds => self.group.propose_in(epoch, command).await,
            Growth::Frees => self.group.propose_freeing(Some(epoch), command).await,
        };
        let reply = reply.map_err(|error| group_error(&error))?;
        pass(&arrows, "after");
        Reply::read(reply).ok_or_else(|| {
            RpcError::new(
                Kind::Fatal,
                "E_COMMAND_UNKNOWN",
                "this build does not know the reply to a command which it proposed itself",
            )
        })
    }
}

fn pass(arrows: &[&str], side: &str) {
    for arrow in arrows {
        fail::point(&format!("{arrow}:{side}"));
    }
}

/// The arrows which a command moves if it does what it was proposed for.
fn arrows(command: &C) -> Vec<&'static str> {
    match command {
        C::OpenUpload(_) => vec!["upload.opened"],
        C::Seal(_) => vec!["upload.sealed", "replica.stored"],
        C::PublishOutcomes(it) => {
            let has = |published| it.outcomes.iter().any(|outcome| outcome.published == published);
            let published = has(true).then_some("version.published");
            published
                .into_iter()
                .chain(has(false).then_some("version.refused"))
                .collect()
        }
        C::AbandonUploads(_) => vec!["upload.abandoned"],
        C::ReleaseVersions(_) => vec!["version.released"],
        C::MarkVersions(_) => vec!["chunk.marked"],
        C::DoomChunks(_) => vec!["chunk.doomed", "chunk.spared", "replica.leaving"],
        C::ChunksDropped(_) => vec!["replica.tombstoned", "chunk.dropped", "version.gone"],
        C::NodeSeen(_) => vec!["node.admitted", "node.returned", "node.cleared"],
        C::MoveNodes(it) => it.moves.iter().filter_map(|one| arrow_of(one.r#move())).collect(),
        C::SuspectReplicas(_) => vec!["replica.suspected"],
        C::TouchUploads(_)
        | C::AbandonsReported(_)
        | C::RotateKeys(_)
        | C::ForgetUploads(_)
        | C::ReserveNumbers(_)
        | C::SetReclaim(_) => Vec::new(),
    }
}

const fn arrow_of(to: wire::NodeMove) -> Option<&'static str> {
    match to {
        wire::NodeMove::Unspecified => None,
        wire::NodeMove::Suspect => Some("node.suspected"),
        wire::NodeMove::Clear => Some("node.cleared"),
        wire::NodeMove::Die => Some("node.died"),
        wire::NodeMove::Drain => Some("node.draining"),
        wire::NodeMove::Keep => Some("node.kept"),
        wire::NodeMove::Leave => Some("node.gone"),
    }
}

/// An error of the group as callers see it.
pub(crate) fn group_error(error: &consensus::Error) -> RpcError {
    use consensus::Error as E;
    let code = match error {
        E::NotLeader { leader } => {
            return RpcError::not_leader(leader.as_ref().map(|leader| leader.control.clone()));
        }
        E::Stale { .. } => return RpcError::not_leader(None),
        E::Busy => "E_BUSY",
        E::OutcomeUnknown => "E_OUTCOME_UNKNOWN",
        E::TooLarge { .. } => "E_TOO_LARGE",
        E::Level { .. } => "E_FEATURE_LEVEL",
        E::Full { .. } => "E_NO_SPACE",
        E::Retry { .. } | E::Closed => "E_NO_QUORUM",
        E::Query { .. } | E::Directory { .. } | E::Settings { .. } | E::Refused { .. } | E::Fatal { .. } => {
            "E_GROUP"
        }
    };
    RpcError::new(error.kind(), code, error.to_string())
}

#[cfg(test)]
mod tests {
    use common::lifecycle::ARROWS;

    use super::*;

    #[test]
    fn fail_points_are_named_after_the_table() {
        let commands = [
            C::Seal(wire::Seal::default()),
            C::AbandonUploads(wire::AbandonUploads::default()),
            C::ReleaseVersions(wire::ReleaseVersions::default()),
            C::MarkVersions(wire::MarkVersions::default()),
            C::DoomChunks(wire::DoomChunks::default()),
            C::ChunksDropped(wire::ChunksDropped::default()),
            C::NodeSeen(wire::NodeSeen::default()),
            C::SuspectReplicas(wire::SuspectReplicas::default()),
        ];
        for command in &commands {
            for arrow in arrows(command) {
                assert!(ARROWS.contains(&arrow), "{arrow}");
            }
        }
        for to in 1..=6 {
            let to = wire::NodeMove::try_from(to).unwrap();
            assert!(arrow_of(to).is_some_and(|arrow| ARROWS.contains(&arrow)));
        }
    }
}
