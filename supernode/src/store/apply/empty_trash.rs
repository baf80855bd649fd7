//! Ends the time of items in the trash at or below a path.

use proto::names_log::v1 as log;

use super::{At, Stop, path};
use crate::store::{bucket, trash, user};

/// The most items of one command.
pub(crate) const ITEMS_PER_COMMAND_MAX: usize = 1000;

pub(super) fn apply(at: At<'_>, command: &log::EmptyTrash) -> Result<log::Worked, Stop> {
    let caller = user::caller(at.tables, command.caller)?.caller();
    let path = path(&command.path)?;
    let bucket = bucket::of_path(at.tables, caller, &path)?;
    let mut count = 0;
    for id in command.trash_ids.iter().take(ITEMS_PER_COMMAND_MAX) {
        // What was restored meanwhile, or is due already, stays as it is.
        let Some(item) = trash::item(at.tables, *id, at.now)? else {
            continue;
        };
        if item.bucket == bucket.id && item.was_within(&path)? {
            trash::hasten(at.tables, item.id, at.now)?;
            count += 1;
        }
    }
    Ok(log::Worked {
        count,
        more: false,
        bytes: 0,
    })
}
