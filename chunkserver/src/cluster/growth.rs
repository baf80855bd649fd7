//! What each command does to the disks of the cluster's group (P11): with a nearly full disk only what frees goes on.

use proto::cluster_log::v1::command::Command as C;

/// What a command does to the disks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Growth {
    /// It adds rows, or lets rows be added.
    Adds,
    /// It ends or frees something, keeps watch, or replaces what there is a bounded number of.
    Frees,
}

/// Judges `command`. A new command does not compile before it is judged here.
pub(super) const fn growth(command: &C) -> Growth {
    match command {
        C::ReserveNumbers(_) | C::OpenUpload(_) | C::Seal(_) => Growth::Adds,
        // Decided elsewhere about rows that are there.
        C::PublishOutcomes(_)
        | C::TouchUploads(_)
        | C::AbandonUploads(_)
        | C::AbandonsReported(_)
        | C::ReleaseVersions(_)
        | C::MarkVersions(_)
        | C::DoomChunks(_)
        | C::ChunksDropped(_)
        | C::ForgetUploads(_)
        | C::SetReclaim(_)
        // One row per replica, node and key.
        | C::SuspectReplicas(_)
        | C::NodeSeen(_)
        | C::MoveNodes(_)
        | C::RotateKeys(_) => Growth::Frees,
    }
}
