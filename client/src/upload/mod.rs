//! Upload: one source becomes one version, wholly or not at all.

mod options;
mod receipt;
mod resume;
mod source;

pub use options::{Condition, OnInterrupt, UploadKey, UploadOptions};
pub use receipt::{CopyPlace, UploadReceipt};
pub use resume::{Checkpoint, ResumeState};
pub use source::Source;
