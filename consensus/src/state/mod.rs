//! The replicated state machine: the tier's tables and ours in one SQLite file, one thread that writes, connections
//! that read.
//!
//! Invariants:
//! - entries, the position and the membership change in one transaction;
//! - what is applied is told at once and shown to queries by the commit, which gathers some milliseconds of entries and
//!   comes at once when a query waits ([`Shared::reveal`]);
//! - `durable` is an index up to which the file would survive a power cut; only it allows the log to be purged;
//! - a snapshot replaces the file as a whole: a new generation is complete and durable before `state.current` names it.
//!
//! Not owned: what the tier's commands mean ([`crate::Machine`]), when snapshots are made (`background.rs`).

mod applier;
mod files;
mod gate;
mod outgoing;
mod readers;
mod snapshot;
mod tables;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::ids::{ClusterId, LogIndex};
use common::time::{Clock, ClusterTime};
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::{self, LogId, SnapshotMeta, StoredMembership, Types};
use crate::health::Health;
use crate::log::blocking;
use crate::machine::{FeatureLevel, Machine};
use crate::schema::{self, Leadership};
use crate::settings::{Limits, Settings};
use crate::sqlite::failure;
use crate::state::applier::{Applier, Job};
pub(crate) use crate::state::files::Files;
pub(crate) use crate::state::outgoing::{Outgoing, Transfers};
pub(crate) use crate::state::readers::{Lane, Readers};
pub(crate) use crate::state::snapshot::{Scratch, SnapshotFile, check_space, digest_of};

/// Batches waiting for the applying thread.
const JOBS_WAITING_MAX: usize = 16;
/// Entries applied in one transaction.
const BATCH_ENTRIES_MAX: usize = 2048;
/// How long a transaction gathers entries while no query waits for it.
const GATHER: Duration = Duration::from_millis(20);

type SnapshotOf = Snapshot<engine::Leader, u64, openraft::EmptyNode, SnapshotFile>;

/// Bytes of entries applied in one transaction.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// A cheap handle to the state machine of one member; openraft's view of it.
#[derive(Clone)]
pub(crate) struct StateMachine {
    jobs: mpsc::Sender<Job>,
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) files: Files,
    pub(crate) readers: Readers,
    /// Where the state machine stands: what is applied, committed or not.
    pub(crate) position: watch::Sender<Applied>,
    /// The index up to which it is committed: what queries see; `None` before the first entry.
    visible: watch::Sender<Option<u64>>,
    /// Whether somebody has asked for a commit that has not begun.
    asked: AtomicBool,
    /// Counts the transactions that were begun.
    opened: watch::Sender<u64>,
    /// Weak, so that the thread ends when the last handle is dropped.
    jobs: mpsc::WeakSender<Job>,
    /// The length of the WAL after the last commit.
    pub(crate) wal_bytes: AtomicU64,
    limits: Limits,
    /// The committed members, by id.
    pub(crate) members: watch::Sender<Arc<[MemberRow]>>,
    pub(crate) durable: Arc<AtomicU64>,
    pub(crate) health: Health,
    pub(crate) transfers: Transfers,
    /// What snapshots leave free on the disk.
    pub(crate) reserve_bytes: u64,
}

/// Where the state machine stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied {
    pub(crate) log_id: Option<LogId>,
    pub(crate) time: ClusterTime,
    pub(crate) leadership: Option<Leadership>,
    pub(crate) level: FeatureLevel,
    pub(crate) membership: Arc<StoredMembership>,
}

impl Applied {
    pub(crate) fn index(&self) -> LogIndex {
        LogIndex::new(self.log_id.map_or(0, |id| id.index()))
    }
}

/// A committed member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MemberRow {
    pub(crate) node: u64,
    pub(crate) active: bool,
    pub(crate) record: crate::status::MemberRecord,
    /// When it was set aside; 0 while it takes part.
    pub(crate) aside_since: ClusterTime,
}

/// Whether the builds of all members know `level`: of those that take part, and of every node that the log is sent to.
/// A member that was set aside is upgraded before it comes back.
pub(crate) fn all_know(
    level: FeatureLevel,
    nodes: impl IntoIterator<Item = u64>,
    members: &[MemberRow],
) -> bool {
    let knows = |member: &MemberRow| !member.active || member.record.level >= level;
    let is_known = |node: u64| members.iter().any(|member| member.node == node);
    members.iter().all(knows) && nodes.into_iter().all(is_known)
}

impl StateMachine {
    /// Opens the state machine in `directory`, durable up to where it stands.
    pub(crate) fn open<M: Machine>(
        directory: &Path,
        cluster: ClusterId,
        machine: M,
        create: bool,
        settings: &Settings,
        durable: Arc<AtomicU64>,
        health: Health,
    ) -> io::Result<Self> {
        let files = Files::open(directory, create)?;
        let applier = Applier::open(machine, &files.current(), cluster, create)?;
        files.sync_current()?;
        let (applied, members) = applier.standing()?;
        durable.store(applied.index().get(), Ordering::SeqCst);
        let (jobs, waiting) = mpsc::channel(JOBS_WAITING_MAX);
        let to_ask = jobs.downgrade();
        let readers = Readers::new(files.current(), settings, move || {
            if let Some(jobs) = to_ask.upgrade() {
                // Behind a full queue a commit comes, and that tries a checkpoint as well.
                let _ = jobs.try_send(Job::Unread);
            }
        });
        let shared = Arc::new(Shared {
            files,
            readers,
            visible: watch::Sender::new(applied.log_id.map(|id| id.index())),
            asked: AtomicBool::new(false),
            opened: watch::Sender::new(0),
            jobs: jobs.downgrade(),
            position: watch::Sender::new(applied),
            wal_bytes: AtomicU64::new(0),
            limits: settings.limits,
            members: watch::Sender::new(members),
            durable,
            health,
            transfers: Transfers::default(),
            reserve_bytes: settings.limits.disk_reserve_bytes,
        });
        applier.spawn(waiting, Arc::clone(&shared))?;
        tokio::spawn(commit_in_time(
            shared.opened.subscribe(),
            jobs.downgrade(),
            settings.clock.clone(),
        ));
        Ok(Self { jobs, shared })
    }

    /// Tells the applying thread that little is going on: it may tidy up.
    pub(crate) fn quiet(&self) {
        // A full queue is not quiet.
        let _ = self.jobs.try_send(Job::Quiet);
    }

    /// Ends the applying thread after what is waiting; resolves when the file is closed.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close { done }).await.is_ok() {
            let _ = closed.await;
        }
        self.shared.readers.close();
    }

    /// The state machine as it stands now; `None` before anything is applied.
    async fn pin(&self) -> io::Result<Option<Arc<Outgoing>>> {
        self.shared.reveal().await?;
        let shared = Arc::clone(&self.shared);
        let pinned = blocking(move || {
            let _held = shared.files.hold();
            let directory = shared.files.directory().to_owned();
            snapshot::pin(&shared.files.current(), directory, shared.reserve_bytes)
        });
        let pinned = pinned.await?;
        Ok(pinned.map(|(meta, pinned)| Outgoing::new(meta, pinned)))
    }

    async fn run<T>(&self, make: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Job) -> io::Result<T> {
        let (done, outcome) = oneshot::channel();
        self.jobs.send(make(done)).await.map_err(|_| self.shared.gone())?;
        outcome.await.map_err(|_| self.shared.gone())?
    }
}

/// Ends each transaction some time after it was begun, whoever else may want it.
async fn commit_in_time(mut opened: watch::Receiver<u64>, jobs: mpsc::WeakSender<Job>, clock: Clock) {
    while opened.changed().await.is_ok() {
        clock.sleep(GATHER).await;
        let Some(jobs) = jobs.upgrade() else {
            return;
        };
        if jobs.send(Job::Reveal).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// Resolves when queries see all that is applied when this is called; returns the index up to which they do.
    ///
    /// # Errors
    /// The member has ended.
    pub(crate) async fn reveal(&self) -> io::Result<Option<u64>> {
        let wanted = self.position.borrow().log_id.map(|id| id.index());
        let mut visible = self.visible.subscribe();
        let shown = *visible.borrow_and_update();
        if shown >= wanted {
            return Ok(shown);
        }
        if !self.asked.swap(true, Ordering::SeqCst)
            && let Some(jobs) = self.jobs.upgrade()
        {
            // Where nobody takes it the member ends, which is looked for below.
            let _ = jobs.send(Job::Reveal).await;
        }
        let shown = tokio::select! {
            shown = visible.wait_for(|shown| *shown >= wanted) => shown.map(|shown| *shown).ok(),
            () = self.health.failed() => None,
        };
        shown.ok_or_else(|| self.gone())
    }

    fn gone(&self) -> io::Error {
        let reason = self.health.reason();
        io::Error::other(reason.unwrap_or_else(|| "the state machine is closed".to_owned()))
    }

    /// Makes the state machine durable up to where it stands when this is called, and says where that is.
    pub(crate) async fn make_durable(self: &Arc<Self>) -> io::Result<Applied> {
        let shared = Arc::clone(self);
        let applied = self.position.borrow().clone();
        let shown = self.reveal().await?.unwrap_or_default();
        let synced = blocking(move || {
            // What is committed before the fsync begins is in the file or its WAL, both of which it covers.
            common::fail::point("raft.durable:before");
            shared.files.sync_current()?;
            shared.durable.fetch_max(shown, Ordering::SeqCst);
            common::fail::point("raft.durable:after");
            Ok(applied)
        });
        let outcome = synced.await;
        if let Err(error) = &outcome {
            self.health
                .fail(format!("the state machine cannot be synced: {error}"));
        }
        outcome
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.shared.position.borrow().clone();
        Ok((applied.log_id, applied.membership.as_ref().clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            if let openraft::EntryPayload::Normal(payload) = &entry.payload {
                bytes += payload.0.len();
            }
            batch.push((entry, responder));
            if batch.len() >= BATCH_ENTRIES_MAX || bytes >= BATCH_BYTES_MAX {
                let entries = std::mem::take(&mut batch);
                bytes = 0;
                self.run(|done| Job::Apply { entries, done }).await?;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.run(|done| Job::Apply { entries: batch, done }).await
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let (meta, snapshot) = (meta.clone(), Box::new(snapshot));
        self.run(|done| Job::Install { meta, snapshot, done }).await
    }

    /// Openraft asks for it to send it: what is on its way to a member already is sent to the next as well.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf>> {
        let transfers = &self.shared.transfers;
        let outgoing = match transfers.under_way() {
            Some(outgoing) => Some(outgoing),
            None => self.pin().await?.inspect(|pinned| transfers.begin(pinned)),
        };
        Ok(outgoing.map(|outgoing| Snapshot {
            meta: outgoing.meta.clone(),
            snapshot: SnapshotFile::Outgoing(outgoing),
        }))
    }
}

/// Openraft's "building a snapshot" is making the state machine durable: the file itself is the snapshot, and copied
/// only when a peer needs it.
impl RaftSnapshotBuilder<Types> for StateMachine {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf> {
        // First pinned, then synced: what the description says must be durable, for the log behind it may go.
        let pinned = self.pin().await?;
        let applied = self.shared.make_durable().await?;
        Ok(match pinned {
            Some(outgoing) => Snapshot {
                meta: outgoing.meta.clone(),
                snapshot: SnapshotFile::Outgoing(outgoing),
            },
            None => Snapshot {
                meta: SnapshotMeta {
                    last_log_id: None,
                    last_membership: applied.membership.as_ref().clone(),
                },
                snapshot: SnapshotFile::Nothing,
            },
        })
    }
}

/// The bytes that travel ahead of a snapshot.
pub(crate) fn meta_out(meta: &SnapshotMeta) -> schema::SnapshotMeta {
    schema::SnapshotMeta {
        format: schema::STATE_FORMAT,
        applied: meta.last_log_id.as_ref().map(engine::log_id_out),
        membership: Some(engine::membership_out(
            meta.last_membership.log_id().as_ref(),
            meta.last_membership.membership(),
        )),
    }
}

/// The inverse of [`meta_out`].
pub(crate) fn meta(stored: &schema::SnapshotMeta) -> io::Result<SnapshotMeta> {
    if stored.format > schema::STATE_FORMAT {
        return Err(schema::invalid(format!(
            "the snapshot has format {}, this build reads up to {}",
            stored.format,
            schema::STATE_FORMAT
        )));
    }
    let membership = stored
        .membership
        .as_ref()
        .ok_or_else(|| failure("a snapshot names no members"))?;
    Ok(SnapshotMeta {
        last_log_id: stored.applied.map(engine::log_id),
        last_membership: engine::stored_membership(membership)?,
    })
}
