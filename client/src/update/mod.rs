//! Update: a file gets a new content in one step. Readers see the old version or the new one, never a mixture.

use common::ids::VersionId;

use crate::upload::{Condition, UploadOptions};

/// The options of an upload that replaces a file: the path must have a file, or, with `if_match`, that very version.
pub(crate) fn options(if_match: Option<VersionId>, options: UploadOptions) -> UploadOptions {
    UploadOptions {
        condition: if_match.map_or(Condition::Present, Condition::Version),
        ..options
    }
}
