//! What each command does to the disks of the names group (P11): with a nearly full disk only what frees goes on.

use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

/// What a command does to the disks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Growth {
    /// It adds rows.
    Adds,
    /// It ends uploads that were opened while there was space.
    Concludes,
    /// It ends or frees something, or replaces what there is a bounded number of.
    Frees,
}

/// Judges `command`. A new command does not compile before it is judged here.
pub(crate) fn growth(command: &Command) -> Growth {
    match command {
        Command::CreateUser(_)
        | Command::OpenUpload(_)
        | Command::RecordUploads(_)
        | Command::MakeDirectory(_)
        // They keep what would be freed, under paths that may be longer.
        | Command::Rename(_)
        | Command::RestoreTrash(_) => Growth::Adds,
        // Without items it only tells which outcomes are recorded, which lets sessions go.
        Command::Publish(log::Publish { items, .. }) if items.is_empty() => Growth::Frees,
        Command::Publish(_) => Growth::Concludes,
        Command::AbortUpload(_)
        | Command::AbandonedUploads(_)
        | Command::ExpireSessions(_)
        | Command::CloseUploads(_)
        // A counter.
        | Command::ReserveUploads(_)
        | Command::Forget(_)
        | Command::Delete(_)
        | Command::ExpireTrash(_)
        | Command::EmptyTrash(_)
        | Command::ReleasesRecorded(_)
        | Command::RetireCluster(_)
        | Command::SettleRetired(_)
        // Of one row per user, cluster and key; shutting somebody out must not wait for space.
        | Command::SetPassword(_)
        | Command::SetUserEnabled(_)
        | Command::RegisterCluster(_)
        | Command::RotateSigningKey(_) => Growth::Frees,
    }
}
