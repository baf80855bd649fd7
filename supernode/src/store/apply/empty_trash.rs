//! Ends the time of what is in the trash at or below a path, a bounded number of items at a time.

use proto::names_log::v1 as log;

use super::{At, Stop, path};
use crate::store::{bucket, trash, user};

/// The most items of one command.
const ITEMS_PER_COMMAND_MAX: u32 = 1000;

pub(super) fn apply(at: At<'_>, command: &log::EmptyTrash) -> Result<log::Worked, Stop> {
    let caller = user::caller(at.tables, command.caller)?.caller();
    let path = path(&command.path)?;
    let bucket = bucket::of_path(at.tables, caller, &path)?;
    let limit = command.limit.clamp(1, ITEMS_PER_COMMAND_MAX);
    let count = trash::hasten(at.tables, bucket.id, path.as_str(), at.now, limit)? as u64;
    Ok(log::Worked {
        count,
        more: count >= u64::from(limit),
        bytes: 0,
    })
}
