//! What an interrupted upload of a large file left, kept between runs: `$XDG_STATE_HOME/dbfs/uploads/`, mode 0600.
//!
//! Invariant (P4): the upload's key is on disk before much has been sent, so that the same command run again finds the
//! same session and makes no second version. Losing a state costs bytes sent again, never more: failing to write one is
//! therefore only logged. What a state is used for is decided in `send.rs`.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::path::RemotePath;
use common::time::Clock;
use common::units::ByteCount;

use super::console::Console;
use super::context::Context;
use super::session::Session;
use crate::Error;
use crate::durable;
use crate::upload::{Checkpoint, ResumeState, UploadOptions, UploadReceipt};

/// Smaller files are simply sent again.
const KEPT_FROM: ByteCount = ByteCount::mib(64);
const SAVE_PERIOD: Duration = Duration::from_secs(2);

/// Keeps states of unfinished uploads, where that is wanted and possible.
#[derive(Clone, Debug)]
pub(super) struct Keeper(Option<Arc<Place>>);

#[derive(Debug)]
struct Place {
    directory: PathBuf,
    /// Who uploads where: states of other installations and users are not ours.
    identity: String,
    clock: Clock,
    console: Console,
    /// Whether uploads of earlier runs go on.
    resumes: bool,
}

/// The state of one upload, there or not.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
    clock: Clock,
    console: Console,
    /// Whether an upload of an earlier run goes on, or is only ended.
    pub(super) resumes: bool,
}

impl Keeper {
    /// For `session`; with `resumes` also what earlier runs left is used.
    pub(super) fn new(context: &Context, session: &Session, resumes: bool) -> Self {
        let place = context
            .environment
            .xdg("XDG_STATE_HOME", ".local/state")
            .map(|base| {
                Arc::new(Place {
                    directory: base.join("dbfs").join("uploads"),
                    identity: format!(
                        "{}\0{}",
                        session.profile.as_deref().unwrap_or_default(),
                        session.user
                    ),
                    clock: context.seams.clock.clone(),
                    console: context.console.clone(),
                    resumes,
                })
            });
        Self(place)
    }

    /// The state of uploading `local` to `to`; `None` where the file is too small, or there is no place for states.
    pub(super) fn of(&self, local: &Path, to: &RemotePath) -> Option<Unfinished> {
        let place = self.0.as_ref()?;
        let whole = local.canonicalize().ok()?;
        if std::fs::metadata(&whole).ok()?.len() <= KEPT_FROM.get() {
            return None;
        }
        let mut name = blake3::Hasher::new();
        name.update(place.identity.as_bytes());
        name.update(b"\0");
        name.update(whole.as_os_str().as_encoded_bytes());
        name.update(b"\0");
        name.update(to.as_str().as_bytes());
        Some(Unfinished {
            path: place.directory.join(format!("{}.json", name.finalize().to_hex())),
            clock: place.clock.clone(),
            console: place.console.clone(),
            resumes: place.resumes,
        })
    }
}

impl Unfinished {
    /// What an earlier run left.
    pub(super) fn load(&self) -> Option<ResumeState> {
        let text = std::fs::read(&self.path).ok()?;
        match serde_json::from_slice(&text) {
            Ok(state) => Some(state),
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "the state of an upload cannot be read");
                None
            }
        }
    }

    /// Something worth knowing for whoever runs the command.
    pub(super) fn note(&self, text: &str) {
        self.console.note(text);
    }

    /// Keeps what going on needs, or forgets it once there is nothing to go on with. An upload that was not even
    /// opened leaves what is known of an earlier one as it is.
    pub(super) fn settle(&self, options: &UploadOptions, result: &Result<UploadReceipt, Error>) {
        match result {
            Err(Error::OutcomeUnknown { .. } | Error::UploadInterrupted { .. }) => {
                self.save(&options.checkpoint)
            }
            Err(Error::UploadFailed { upload: None, .. }) => {}
            Ok(_) | Err(_) => self.forget(),
        }
    }

    /// Writes down what going on would need.
    fn save(&self, checkpoint: &Checkpoint) {
        if let Some(state) = checkpoint.current() {
            write(&self.path, &state);
        }
    }

    /// There is nothing to go on with.
    pub(super) fn forget(&self) {
        // What is not there needs no removal; what cannot be removed is refused by the servers later.
        let _ = std::fs::remove_file(&self.path);
    }

    /// Keeps writing the state down until the returned guard is dropped.
    #[must_use]
    pub(super) fn keep(&self, checkpoint: &Checkpoint) -> impl Drop + use<> {
        let (path, clock, checkpoint) = (self.path.clone(), self.clock.clone(), checkpoint.clone());
        Stop(tokio::spawn(async move {
            let mut written = None;
            loop {
                clock.sleep(SAVE_PERIOD).await;
                let state = checkpoint.current();
                let receipts = state.as_ref().map(|state| state.receipts.len());
                if let Some(state) = state
                    && receipts != written
                {
                    written = receipts;
                    let path = path.clone();
                    // Off the runtime's threads: it fsyncs.
                    let _ = tokio::task::spawn_blocking(move || write(&path, &state)).await;
                }
            }
        }))
    }
}

struct Stop(tokio::task::JoinHandle<()>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn write(path: &Path, state: &ResumeState) {
    let result = (|| {
        if let Some(directory) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        durable::write(path, &serde_json::to_vec(state)?, 0o600)
    })();
    if let Err(error) = result {
        tracing::debug!(path = %path.display(), %error, "cannot keep the state of the upload");
    }
}
