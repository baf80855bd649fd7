//! One committed command meets the tables.

use common::ids::{KeyId, NodeId, UploadId};
use common::lifecycle::Upload;
use common::time::ClusterTime;
use proto::cluster_log::v1 as wire;
use rusqlite::Transaction;

use super::nodes::Standing;
use super::reclaim::Reclaimed;
use super::schema::unreadable;
use super::seal::Sealed;
use super::uploads::Opened;
use super::versions::Released;
use super::{counters, keys, nodes, reclaim, replicas, seal, uploads, versions};

/// When a command is applied, in replicated terms: the same on every member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment {
    /// Cluster time of the entry.
    pub now: ClusterTime,
}

/// What a command did, for whoever proposed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It was applied; there is nothing to say about it.
    Done,
    /// Of `OpenUpload`.
    Opened(Opened),
    /// Of `Seal`.
    Sealed(Sealed),
    /// Of `PublishOutcomes`: how many contradict what is recorded.
    Outcomes(u32),
    /// Of `AbandonUploads`: where each stands now.
    Abandoned(Vec<(UploadId, Upload)>),
    /// Of `ReleaseVersions`.
    Released(Released),
    /// Of `MarkVersions`, `DoomChunks`, `ChunksDropped`.
    Reclaimed(Reclaimed),
    /// Of `NodeSeen` and `MoveNodes`: where each stands now.
    Nodes(Vec<(NodeId, Standing)>),
    /// Of `SuspectReplicas` and `ForgetUploads`: how many rows it concerned.
    Rows(u32),
    /// Of `ReserveNumbers`: the upload numbers set aside.
    Numbers {
        /// The lowest.
        first: u64,
        /// The highest.
        last: u64,
    },
    /// Of `RotateKeys`: the new key, unless the secret was not one.
    Key(Option<KeyId>),
}

/// Applies `command` at `at`.
///
/// # Errors
/// SQLite's, or a command of a newer build: the member must stop. Whatever else is wrong with a command is a [`Reply`].
pub fn apply(transaction: &Transaction<'_>, at: Moment, command: &wire::Command) -> rusqlite::Result<Reply> {
    use wire::command::Command as C;
    let Some(command) = &command.command else {
        return Err(unreadable(
            "a command of a newer build is in the cluster's log: upgrade this member".to_owned(),
        ));
    };
    Ok(match command {
        C::OpenUpload(it) => Reply::Opened(uploads::open(transaction, at, it)?),
        C::TouchUploads(it) => done(uploads::touch(transaction, at, it)?),
        C::ReserveNumbers(it) => {
            let (first, last) = uploads::reserve(transaction, it.count)?;
            Reply::Numbers { first, last }
        }
        C::Seal(it) => Reply::Sealed(seal::seal(transaction, at, it)?),
        C::PublishOutcomes(it) => Reply::Outcomes(versions::outcomes(transaction, it)?),
        C::AbandonUploads(it) => Reply::Abandoned(uploads::abandon(transaction, at, it)?),
        C::AbandonsReported(it) => done(uploads::reported(transaction, it)?),
        C::ReleaseVersions(it) => Reply::Released(versions::release(transaction, it)?),
        C::MarkVersions(it) => Reply::Reclaimed(reclaim::mark(transaction, at, it)?),
        C::DoomChunks(it) => Reply::Reclaimed(reclaim::doom(transaction, at, it)?),
        C::ChunksDropped(it) => Reply::Reclaimed(reclaim::dropped(transaction, at, it)?),
        C::NodeSeen(it) => {
            let standing = nodes::seen(transaction, at, it)?;
            Reply::Nodes(vec![(NodeId::new(it.node_id), standing)])
        }
        C::MoveNodes(it) => Reply::Nodes(nodes::move_all(transaction, at, it)?),
        C::SuspectReplicas(it) => Reply::Rows(replicas::suspect(transaction, it)?),
        C::RotateKeys(it) => Reply::Key(keys::rotate(transaction, at, it)?),
        C::ForgetUploads(it) => Reply::Rows(uploads::forget(transaction, it)?),
        C::SetReclaim(it) => done(counters::set_reclaim(transaction, it.stopped, &it.reason)?),
    })
}

const fn done((): ()) -> Reply {
    Reply::Done
}
