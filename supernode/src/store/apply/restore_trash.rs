//! Brings one item of the trash back: to where it was, or elsewhere in its bucket. Missing parents are made.

use common::error::Kind;
use common::path::RemotePath;
use proto::names_log::v1 as log;

use super::{At, Stop, path};
use crate::core::permission::{Ask, check};
use crate::core::refusal::Refusal;
use crate::store::trash::{self, Item, Kept};
use crate::store::tree::{self, Spot};
use crate::store::{below, bucket, user};

pub(super) fn apply(at: At<'_>, command: &log::RestoreTrash) -> Result<log::Restored, Stop> {
    let caller = user::caller(at.tables, command.caller)?.caller();
    let found = trash::item(at.tables, command.trash_id, at.now)?;
    let owner = match &found {
        Some(item) => Some(bucket::owner(at.tables, item.bucket)?),
        None => None,
    };
    let ask = Ask::Trash {
        id: command.trash_id,
        owner,
    };
    check(caller, ask)?;
    let item = found.ok_or_else(|| Refusal::no_trash(command.trash_id))?;
    let to = path(if command.to.is_empty() {
        &item.path
    } else {
        &command.to
    })?;
    let bucket = bucket::of_path(at.tables, caller, &to)?;
    if bucket.id != item.bucket {
        return Err(Refusal::invalid(
            "E_OTHER_BUCKET",
            format!("{} was in another bucket than {to}", item.path),
        )
        .into());
    }
    if let Kept::Directory(id) = item.kept {
        below::of(at.tables, id)?.fits_at(&to)?;
    }
    match tree::look(at.tables, &bucket, &to)? {
        Spot::Nothing { above, mut missing } => {
            let name = missing.pop().unwrap_or_default();
            let parent = tree::make(at.tables, bucket.id, above, &missing, command.wall_millis)?;
            put_back(at, &item, parent, &name)?;
        }
        Spot::BelowFile(file) => return Err(Refusal::not_a_directory(&file).into()),
        Spot::File { .. } | Spot::Directory(_) => return Err(taken(&to).into()),
    }
    Ok(log::Restored {
        path: to.as_str().to_owned(),
    })
}

fn put_back(at: At<'_>, item: &Item, parent: common::ids::DirectoryId, name: &str) -> Result<(), Stop> {
    match item.kept {
        Kept::Version(version) => {
            trash::take_version(at.tables, item, version)?;
            tree::point(at.tables, parent, name, version)?;
        }
        Kept::Directory(directory) => {
            tree::reparent(at.tables, directory, parent, name)?;
            trash::remove(at.tables, item.id)?;
        }
    }
    Ok(())
}

fn taken(to: &RemotePath) -> Refusal {
    Refusal::new(Kind::Conflict, "E_EXISTS", format!("{to} exists already"))
        .hint("bring it back under another path")
}
