//! Upload: one source becomes one version, wholly or not at all.

mod options;
mod receipt;
mod resume;
mod source;

pub use options::{Condition, OnInterrupt, UploadKey, UploadOptions};
pub use receipt::{CopyPlace, UploadReceipt};
pub use resume::{Checkpoint, ResumeState};
pub use source::Source;

use crate::error::Error;
use crate::routing::Router;

/// A new upload's key, born now by the names group's time.
pub(crate) async fn new_key(router: &Router) -> Result<UploadKey, Error> {
    let born = router.names_time().await?;
    let key = common::ids::IdempotencyKey::new(router.settings.seams.random.bytes());
    Ok(UploadKey { key, born })
}
