//! Moves a file or a directory within one bucket: one row, whatever it contains. Missing parents are made.

use common::error::Kind;
use common::ids::{DirectoryId, VersionId};
use common::path::RemotePath;
use proto::names_log::v1 as log;

use super::{At, Stop, millis, path};
use crate::core::refusal::Refusal;
use crate::store::below;
use crate::store::bucket::{self, Bucket};
use crate::store::trash::{self, Origin, Stay};
use crate::store::tree::{self, Spot};
use crate::store::user;

pub(super) fn apply(at: At<'_>, command: &log::Rename) -> Result<log::Done, Stop> {
    let caller = user::caller(at.tables, command.caller)?.caller();
    let (from, to) = (path(&command.from)?, path(&command.to)?);
    // Both are checked before anything is said about either (P9).
    let bucket = bucket::of_path(at.tables, caller, &from)?;
    let target = bucket::of_path(at.tables, caller, &to)?;
    if bucket.id != target.id {
        return Err(Refusal::invalid(
            "E_OTHER_BUCKET",
            format!("{from} and {to} are in different buckets"),
        )
        .hint("copy it and delete the original")
        .into());
    }
    let source = tree::look(at.tables, &bucket, &from)?;
    if from == to {
        return match source {
            Spot::Directory(_) | Spot::File { .. } => Ok(log::Done {}),
            Spot::Nothing { .. } | Spot::BelowFile(_) => Err(Refusal::no_path(&from).into()),
        };
    }
    let moved = judge(&bucket, &from, &to, &source)?;
    let landing = judge_landing(at, &bucket, &to, moved, command.replace)?;
    if let Moved::Directory(id) = moved {
        below::of(at.tables, id)?.fits_at(&to)?;
    }
    carry_out(at, command, &bucket, (&from, &to), moved, landing)?;
    Ok(log::Done {})
}

#[derive(Clone, Copy)]
enum Moved {
    File(DirectoryId, VersionId),
    Directory(DirectoryId),
}

fn judge(bucket: &Bucket, from: &RemotePath, to: &RemotePath, source: &Spot) -> Result<Moved, Refusal> {
    match source {
        Spot::Nothing { .. } | Spot::BelowFile(_) => Err(Refusal::no_path(from)),
        Spot::File { directory, version } => Ok(Moved::File(*directory, *version)),
        Spot::Directory(id) if *id == bucket.directory => Err(Refusal::invalid(
            "E_BUCKET",
            format!("{from} is a bucket, which cannot be moved"),
        )),
        Spot::Directory(_) if from.contains(to) => Err(Refusal::invalid(
            "E_INTO_ITSELF",
            format!("{from} cannot be moved into itself"),
        )),
        Spot::Directory(id) => Ok(Moved::Directory(*id)),
    }
}

/// Where it goes: an existing directory, the parents to make there, and the version that gives way.
struct Landing {
    above: DirectoryId,
    parents: Vec<String>,
    replaced: Option<VersionId>,
}

fn judge_landing(
    at: At<'_>,
    bucket: &Bucket,
    to: &RemotePath,
    moved: Moved,
    replace: bool,
) -> Result<Landing, Stop> {
    let exists = || Refusal::new(Kind::Conflict, "E_EXISTS", format!("{to} exists already"));
    match tree::look(at.tables, bucket, to)? {
        Spot::Nothing { above, mut missing } => {
            missing.pop();
            Ok(Landing {
                above,
                parents: missing,
                replaced: None,
            })
        }
        Spot::BelowFile(file) => Err(Refusal::not_a_directory(&file).into()),
        Spot::File { .. } if !replace => Err(exists().hint("say that it is to be replaced").into()),
        Spot::File { directory, version } => match moved {
            Moved::File(..) => Ok(Landing {
                above: directory,
                parents: Vec::new(),
                replaced: Some(version),
            }),
            Moved::Directory(_) => Err(Refusal::not_a_directory(to.as_str()).into()),
        },
        Spot::Directory(_) if replace && matches!(moved, Moved::File(..)) => {
            Err(Refusal::is_a_directory(to.as_str()).into())
        }
        Spot::Directory(_) => Err(exists().into()),
    }
}

fn carry_out(
    at: At<'_>,
    command: &log::Rename,
    bucket: &Bucket,
    (from, to): (&RemotePath, &RemotePath),
    moved: Moved,
    landing: Landing,
) -> Result<(), Stop> {
    let name = to.name().unwrap_or_default();
    let parent = tree::make(
        at.tables,
        bucket.id,
        landing.above,
        &landing.parents,
        command.wall_millis,
    )?;
    if let Some(replaced) = landing.replaced {
        let origin = Origin {
            bucket: bucket.id,
            directory: parent,
            name,
            path: to.as_str(),
        };
        let stay = Stay {
            now: at.now,
            keep: millis(command.trash_keep_millis),
        };
        tree::unpoint(at.tables, parent, name)?;
        trash::put_version(at.tables, replaced, &origin, stay)?;
    }
    match moved {
        Moved::Directory(id) => tree::reparent(at.tables, id, parent, name)?,
        Moved::File(directory, version) => {
            tree::unpoint(at.tables, directory, from.name().unwrap_or_default())?;
            tree::point(at.tables, parent, name, version)?;
        }
    }
    Ok(())
}
