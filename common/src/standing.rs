//! How a process stands, for whoever supervises it: whether it has started, and whether its group works.
//!
//! The role says so, the binary answers probes with it. Liveness is not here: a process that answers at all is alive,
//! whatever its disks and its group do.

use std::sync::Arc;

use parking_lot::Mutex;

/// A cloneable handle to what a process says of itself.
#[derive(Clone, Default)]
pub struct Standing(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    ready: bool,
    quorum: Option<Probe>,
}

/// Whether the group works.
type Probe = Arc<dyn Fn() -> bool + Send + Sync>;

impl Standing {
    /// The process has opened what it keeps and serves; or it does not any more.
    pub fn set_ready(&self, ready: bool) {
        self.0.lock().ready = ready;
    }

    /// `probe` says whether the process's group works. It must not block.
    pub fn set_quorum(&self, probe: impl Fn() -> bool + Send + Sync + 'static) {
        self.0.lock().quorum = Some(Arc::new(probe));
    }

    /// Whether the process has started and serves, as far as it can tell by itself.
    pub fn is_ready(&self) -> bool {
        self.0.lock().ready
    }

    /// Whether the process's group works: what is asked of it now would be committed.
    pub fn has_quorum(&self) -> bool {
        let probe = self.0.lock().quorum.clone();
        probe.is_some_and(|probe| probe())
    }
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standing")
            .field("ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}
