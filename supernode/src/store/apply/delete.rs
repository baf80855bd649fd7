//! Moves a file, or a directory with whatever it contains, to the trash: one row either way. Keeping it there for no
//! time at all is how a permanent deletion begins; the releases themselves come in bounded steps (`expire_trash`).

use common::error::Kind;
use common::ids::{DirectoryId, VersionId};
use common::path::RemotePath;
use proto::names_log::v1 as log;

use super::{At, Stop, millis, path};
use crate::core::publication::{Condition, judge_condition};
use crate::core::refusal::Refusal;
use crate::store::bucket::{self, Bucket};
use crate::store::trash::{self, Origin, Stay};
use crate::store::tree::{self, Spot};
use crate::store::user;

pub(super) fn apply(at: At<'_>, command: &log::Delete) -> Result<log::Done, Stop> {
    let caller = user::caller(at.tables, command.caller)?.caller();
    let path = path(&command.path)?;
    let bucket = bucket::of_path(at.tables, caller, &path)?;
    let stay = Stay {
        now: at.now,
        keep: millis(command.trash_keep_millis),
    };
    match tree::look(at.tables, &bucket, &path)? {
        Spot::Nothing { .. } | Spot::BelowFile(_) => Err(Refusal::no_path(&path).into()),
        Spot::File { directory, version } => file(at, command, &bucket, &path, (directory, version), stay),
        Spot::Directory(id) if id == bucket.directory => Err(Refusal::invalid(
            "E_BUCKET",
            format!("{path} is a bucket, which stays as long as its user"),
        )
        .hint("delete what is in it")
        .into()),
        Spot::Directory(_) if command.if_version.is_some() => {
            Err(Refusal::is_a_directory(path.as_str()).into())
        }
        Spot::Directory(id) => self::directory(at, command, &bucket, &path, id, stay),
    }
}

fn file(
    at: At<'_>,
    command: &log::Delete,
    bucket: &Bucket,
    path: &RemotePath,
    (directory, version): (DirectoryId, VersionId),
    stay: Stay,
) -> Result<log::Done, Stop> {
    let condition = Condition {
        if_version: command.if_version.map(VersionId::new),
        ..Condition::default()
    };
    judge_condition(path.as_str(), condition, Some(version))?;
    let name = path.name().unwrap_or_default();
    let origin = Origin {
        bucket: bucket.id,
        directory,
        name,
        path: path.as_str(),
    };
    tree::unpoint(at.tables, directory, name)?;
    trash::put_version(at.tables, version, &origin, stay)?;
    Ok(log::Done {})
}

fn directory(
    at: At<'_>,
    command: &log::Delete,
    bucket: &Bucket,
    path: &RemotePath,
    id: DirectoryId,
    stay: Stay,
) -> Result<log::Done, Stop> {
    if tree::is_empty(at.tables, id)? {
        tree::remove(at.tables, id)?;
        return Ok(log::Done {});
    }
    if !command.recursive {
        return Err(
            Refusal::new(Kind::Conflict, "E_NOT_EMPTY", format!("{path} is not empty"))
                .hint("ask for a recursive deletion")
                .into(),
        );
    }
    let parent = path.parent().unwrap_or_else(RemotePath::root);
    let above = match tree::look(at.tables, bucket, &parent)? {
        Spot::Directory(above) => above,
        Spot::File { .. } | Spot::Nothing { .. } | Spot::BelowFile(_) => bucket.directory,
    };
    let origin = Origin {
        bucket: bucket.id,
        directory: above,
        name: path.name().unwrap_or_default(),
        path: path.as_str(),
    };
    trash::put_directory(at.tables, id, &origin, stay)?;
    Ok(log::Done {})
}
