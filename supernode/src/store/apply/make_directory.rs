//! Makes a directory and its missing parents. One that exists is no error; what is kept with it is replaced, if anything
//! is given.

use proto::names_log::v1 as log;

use super::{At, Stop, path};
use crate::core::refusal::Refusal;
use crate::store::tree::{self, Spot};
use crate::store::{bucket, user};

pub(super) fn apply(at: At<'_>, command: log::MakeDirectory) -> Result<log::Done, Stop> {
    let caller = user::caller(at.tables, command.caller)?.caller();
    let path = path(&command.path)?;
    let bucket = bucket::of_path(at.tables, caller, &path)?;
    let directory = match tree::look(at.tables, &bucket, &path)? {
        Spot::Directory(id) => id,
        Spot::File { .. } => return Err(Refusal::not_a_directory(path.as_str()).into()),
        Spot::BelowFile(file) => return Err(Refusal::not_a_directory(&file).into()),
        Spot::Nothing { above, missing } => {
            tree::make(at.tables, bucket.id, above, &missing, command.wall_millis)?
        }
    };
    if !command.metadata.is_empty() {
        tree::set_metadata(at.tables, directory, command.metadata)?;
    }
    Ok(log::Done {})
}
