//! The state machine on its way to members that lack more than the log holds.
//!
//! Invariants:
//! - members that need it at the same time are sent the same copy, and a member whose transfer broke off is sent the same
//!   again, so that it can go on where it stopped;
//! - while a copy is on its way, the log behind it stays ([`Transfers::held`]), within bounds that
//!   `background/upkeep.rs` sets: otherwise a member would arrive behind the log again, and again.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use common::time::Moment;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::engine::SnapshotMeta;
use crate::log::blocking;
use crate::sqlite::failure;
use crate::state::snapshot::{Copy, Pinned};

/// How long a copy is kept after it was last sent, for a member whose transfer broke off.
const KEEP: Duration = Duration::from_secs(15);

/// The state machine at one position: pinned by a reader, and copied when it is first sent.
pub(crate) struct Outgoing {
    pub(crate) meta: SnapshotMeta,
    pinned: Mutex<Option<Pinned>>,
    copied: OnceCell<Copy>,
}

impl Outgoing {
    pub(crate) fn new(meta: SnapshotMeta, pinned: Pinned) -> Arc<Self> {
        Arc::new(Self {
            meta,
            pinned: Mutex::new(Some(pinned)),
            copied: OnceCell::new(),
        })
    }

    fn index(&self) -> u64 {
        self.meta.last_log_id.map_or(0, |id| id.index())
    }

    /// The reader that pins it, for whoever needs no copy. Nothing can be copied any more.
    pub(crate) fn take_pinned(&self) -> io::Result<Pinned> {
        let pinned = self.pinned.lock().take();
        pinned.ok_or_else(|| failure("this snapshot was copied, or could not be"))
    }

    /// The copy, made by whoever asks first.
    pub(crate) async fn copy(&self) -> io::Result<&Copy> {
        let making = || async {
            let pinned = self.take_pinned()?;
            blocking(move || pinned.copy()).await
        };
        self.copied.get_or_try_init(making).await
    }
}

/// What is on its way from this member.
#[derive(Default)]
pub(crate) struct Transfers {
    latest: Mutex<Weak<Outgoing>>,
    kept: Mutex<Option<(Arc<Outgoing>, Moment)>>,
}

impl Transfers {
    /// What is on its way already.
    pub(crate) fn under_way(&self) -> Option<Arc<Outgoing>> {
        self.latest.lock().upgrade()
    }

    /// From now on members are sent `outgoing`.
    pub(crate) fn begin(&self, outgoing: &Arc<Outgoing>) {
        *self.latest.lock() = Arc::downgrade(outgoing);
    }

    /// A transfer of `outgoing` begins, or ends: it is kept for another.
    pub(crate) fn keep(&self, outgoing: Arc<Outgoing>, now: Moment) {
        *self.kept.lock() = Some((outgoing, now));
    }

    /// Lets go of a copy that nobody asked for lately.
    pub(crate) fn expire(&self, now: Moment) {
        let mut kept = self.kept.lock();
        match kept.as_mut() {
            Some((outgoing, used)) if Arc::strong_count(outgoing) > 1 => *used = now,
            Some((_, used)) if now.since(*used) > KEEP => *kept = None,
            _ => {}
        }
    }

    /// The position of what is on its way: the log behind it is needed.
    pub(crate) fn held(&self) -> Option<u64> {
        self.under_way().map(|outgoing| outgoing.index())
    }

    /// The log behind what is on its way cannot be kept any longer: whoever asks next is sent the present state.
    pub(crate) fn give_up(&self) {
        *self.latest.lock() = Weak::new();
        *self.kept.lock() = None;
    }
}
