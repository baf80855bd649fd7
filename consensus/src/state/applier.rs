//! The one thread that writes the state machine: the entries of some milliseconds are one transaction.
//!
//! Whoever proposed hears of it when it is applied: the entry is in the logs of a majority, and what a crash takes from
//! a transaction is replayed from there. Readers wait for the commit ([`Shared::reveal`]), so that nobody is told what
//! a query does not show. An error of any kind ends the member: going on would be another state than the other members
//! have.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::ids::{ClusterId, Epoch, LogIndex, NodeId};
use common::time::ClusterTime;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::storage::ApplyResponder;
use rusqlite::{Connection, Transaction};
use tokio::sync::{mpsc, oneshot};

use crate::engine::{self, Answer, Entry, Outcome, Payload, SnapshotMeta, Types};
use crate::machine::{Applying, FeatureLevel, Machine};
use crate::schema::{self, Kind, Leadership, Position, STATE_FORMAT};
use crate::sqlite::{self, Sync, failure};
use crate::state::files::with_suffix;
use crate::state::snapshot::SnapshotFile;
use crate::state::{Applied, MemberRow, Shared, all_know, tables};

type Done = oneshot::Sender<io::Result<()>>;
type Responder = Option<ApplyResponder<Types>>;

/// Work for the thread.
pub(crate) enum Job {
    Apply {
        entries: Entries,
        done: Done,
    },
    Install {
        meta: SnapshotMeta,
        snapshot: Box<SnapshotFile>,
        done: Done,
    },
    /// Somebody waits for the commit of what is applied.
    Reveal,
    /// Little is going on.
    Quiet,
    /// The last query has ended, and new ones wait for a checkpoint.
    Unread,
    Close {
        done: oneshot::Sender<()>,
    },
}

/// Entries, with who waits for each.
type Entries = Vec<(Entry, Responder)>;

pub(crate) struct Applier<M> {
    machine: M,
    connection: Connection,
    cluster: ClusterId,
    position: Position,
    membership: schema::Membership,
    /// Whether the WAL has grown since the last checkpoint.
    untidy: bool,
}

/// Entries in one transaction, unless more came at once.
const TRANSACTION_ENTRIES_MAX: usize = 2048;

/// What a batch changed beside the tier's tables.
#[derive(Default)]
struct Changes {
    membership: bool,
    members: bool,
}

impl<M: Machine> Applier<M> {
    pub(crate) fn open(machine: M, path: &Path, cluster: ClusterId, create: bool) -> io::Result<Self> {
        let mut connection = sqlite::open_writer(path, Sync::Normal)?;
        let tx = connection.transaction().map_err(failure)?;
        tx.execute_batch(schema::STATE_TABLES).map_err(failure)?;
        let (position, membership) = match tables::load(&tx)? {
            Some(found) => found,
            None if create => {
                let position = Position {
                    format: STATE_FORMAT,
                    cluster: cluster.bytes().to_vec(),
                    level: FeatureLevel::FIRST.get(),
                    ..Position::default()
                };
                tables::create(&tx, &position).map_err(failure)?;
                machine.create(&tx).map_err(failure)?;
                (position, schema::Membership::default())
            }
            None => return Err(schema::invalid("the state machine is empty")),
        };
        if position.cluster != cluster.bytes() {
            return Err(schema::invalid("the state machine belongs to another group"));
        }
        check_level(&machine, position.level)?;
        machine.check(&tx).map_err(failure)?;
        tx.commit().map_err(failure)?;
        Ok(Self {
            machine,
            connection,
            cluster,
            position,
            membership,
            untidy: true,
        })
    }

    /// Where it stands, and its members.
    pub(crate) fn standing(&self) -> io::Result<(Applied, Arc<[MemberRow]>)> {
        Ok((self.applied()?, tables::members(&self.connection)?))
    }

    fn applied(&self) -> io::Result<Applied> {
        Ok(Applied {
            log_id: self.position.applied.map(engine::log_id),
            time: ClusterTime::from_millis(self.position.cluster_time),
            leadership: self.position.leadership,
            level: FeatureLevel::new(self.position.level),
            membership: Arc::new(engine::stored_membership(&self.membership)?),
        })
    }

    pub(crate) fn spawn(self, jobs: mpsc::Receiver<Job>, shared: Arc<Shared>) -> io::Result<()> {
        std::thread::Builder::new()
            .name("raft-apply".to_owned())
            .spawn(move || self.run(jobs, &shared))
            .map(drop)
    }

    fn run(mut self, mut jobs: mpsc::Receiver<Job>, shared: &Shared) {
        let mut next = None;
        while let Some(job) = next.take().or_else(|| jobs.blocking_recv()) {
            match job {
                Job::Apply { entries, done } => next = self.transaction(entries, done, &mut jobs, shared),
                Job::Install { meta, snapshot, done } => {
                    let outcome = self.install(&meta, *snapshot, shared);
                    finish(outcome, "replaced by a snapshot", done, shared);
                }
                // A transaction that was open has ended with this.
                Job::Reveal => shared.asked.store(false, Ordering::SeqCst),
                Job::Quiet if self.untidy && shared.health.reason().is_none() => {
                    self.empty_wal(shared);
                }
                Job::Unread if shared.readers.are_held() && shared.health.reason().is_none() => {
                    self.empty_wal(shared);
                }
                Job::Quiet | Job::Unread => {}
                Job::Close { done } => {
                    drop(self.connection);
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    /// Applies `entries` and what follows in one transaction, until there is something else to do; returns that.
    fn transaction(
        &mut self,
        entries: Entries,
        done: Done,
        jobs: &mut mpsc::Receiver<Job>,
        shared: &Shared,
    ) -> Option<Job> {
        self.untidy = true;
        let tx = match begin(&mut self.connection, shared) {
            Ok(tx) => tx,
            Err(error) => {
                finish(Err(error), "applied", done, shared);
                return None;
            }
        };
        let mut batch = Batch {
            machine: &mut self.machine,
            tx: &tx,
            position: &mut self.position,
            membership: &mut self.membership,
            changes: Changes::default(),
            membership_changed: false,
            entries: 0,
        };
        let mut next = Some(Job::Apply { entries, done });
        shared.opened.send_modify(|count| *count += 1);
        while let Some(Job::Apply { entries, done }) = next {
            let outcome = batch.apply(entries, shared);
            let failed = outcome.is_err();
            finish(outcome, "applied", done, shared);
            if failed {
                return None;
            }
            if batch.entries >= TRANSACTION_ENTRIES_MAX {
                next = None;
                break;
            }
            next = jobs.blocking_recv();
        }
        // From here on whoever asks is not served by this commit.
        shared.asked.store(false, Ordering::SeqCst);
        let membership = batch.membership_changed;
        let shown = self.position.applied.map(|applied| applied.index);
        let committed = commit(tx, &self.position, membership.then_some(&self.membership));
        match committed {
            Ok(()) => {
                shared.visible.send_replace(shown);
            }
            Err(error) => shared
                .health
                .fail(format!("the state machine could not be committed: {error}")),
        }
        self.bound_wal(shared);
        next
    }

    /// Keeps the WAL below its limit. SQLite begins it anew only when no reader is at work: above the limit new queries
    /// wait until those under way have ended. Nothing is waited for here.
    fn bound_wal(&mut self, shared: &Shared) {
        let path = with_suffix(&shared.files.current(), "-wal");
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        shared.wal_bytes.store(bytes, Ordering::Relaxed);
        let large = bytes > shared.limits.wal_bytes_max;
        if large && shared.readers.hold() {
            self.empty_wal(shared);
        } else if !large {
            shared.readers.release();
        }
    }

    fn empty_wal(&mut self, shared: &Shared) {
        let checkpoint = || {
            let complete = sqlite::checkpoint(&self.connection)?;
            if complete {
                shared.wal_bytes.store(0, Ordering::Relaxed);
            }
            io::Result::Ok(complete)
        };
        match shared.readers.during(checkpoint) {
            Ok(true) => self.untidy = false,
            // The end of the last query, the next commit or a quiet moment comes.
            Ok(false) => {}
            Err(error) => shared
                .health
                .fail(format!("the state machine's checkpoint: {error}")),
        }
    }

    fn install(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile, shared: &Shared) -> io::Result<()> {
        let received = snapshot.into_file(shared.files.directory())?;
        check_snapshot(received.path(), self.cluster, meta)?;
        let (generation, path) = shared.files.stage_next(received.path())?;
        let mut connection = sqlite::open_writer(&path, Sync::Normal)?;
        let tx = connection.transaction().map_err(failure)?;
        let (position, membership) =
            tables::load(&tx)?.ok_or_else(|| schema::invalid("the snapshot holds no position"))?;
        check_level(&self.machine, position.level)?;
        self.machine.check(&tx).map_err(failure)?;
        tx.commit().map_err(failure)?;
        sqlite::checkpoint(&connection)?;
        // Until the old file is gone nobody opens or syncs it.
        let _held = shared.files.hold();
        shared.files.switch(generation)?;
        self.connection = connection;
        self.position = position;
        self.membership = membership;
        let (applied, members) = self.standing()?;
        shared.readers.move_to(path);
        shared.readers.release();
        shared.visible.send_replace(applied.log_id.map(|id| id.index()));
        shared.durable.store(applied.index().get(), Ordering::SeqCst);
        shared.members.send_replace(members);
        tracing::info!(applied = applied.index().get(), "a snapshot was installed");
        shared.position.send_replace(applied);
        shared.files.remove_leftovers()
    }
}

fn begin<'a>(connection: &'a mut Connection, shared: &Shared) -> io::Result<Transaction<'a>> {
    match shared.health.reason() {
        Some(reason) => Err(io::Error::other(reason)),
        None => connection.transaction().map_err(failure),
    }
}

fn commit(
    tx: Transaction<'_>,
    position: &Position,
    membership: Option<&schema::Membership>,
) -> io::Result<()> {
    tables::save_position(&tx, position).map_err(failure)?;
    if let Some(membership) = membership {
        tables::save_membership(&tx, membership).map_err(failure)?;
    }
    common::fail::point("raft.apply:before");
    tx.commit().map_err(failure)?;
    common::fail::point("raft.apply:after");
    Ok(())
}

fn finish(outcome: io::Result<()>, verb: &str, done: Done, shared: &Shared) {
    if let Err(error) = &outcome {
        shared
            .health
            .fail(format!("the state machine could not be {verb}: {error}"));
    }
    // Raft may have ended meanwhile.
    let _ = done.send(outcome);
}

/// Whether this build knows what a state machine at `level` holds.
fn check_level<M: Machine>(machine: &M, level: u32) -> io::Result<()> {
    let known = machine.level().get();
    if level <= known {
        return Ok(());
    }
    Err(schema::invalid(format!(
        "the group works at feature level {level}, this build knows up to {known}: upgrade this member"
    )))
}

/// Whether the file at `path` is the state machine of `cluster` as `meta` describes it.
fn check_snapshot(path: &Path, cluster: ClusterId, meta: &SnapshotMeta) -> io::Result<()> {
    let connection = sqlite::open_reader(path)?;
    let (position, _) =
        tables::load(&connection)?.ok_or_else(|| schema::invalid("the snapshot holds no position"))?;
    if position.cluster != cluster.bytes() {
        return Err(schema::invalid("the snapshot belongs to another group"));
    }
    if position.applied.map(engine::log_id) != meta.last_log_id {
        return Err(schema::invalid(
            "the snapshot stands elsewhere than its description says",
        ));
    }
    Ok(())
}

/// One transaction under way.
struct Batch<'a, M> {
    machine: &'a mut M,
    tx: &'a Transaction<'a>,
    position: &'a mut Position,
    membership: &'a mut schema::Membership,
    /// By the entries applied at once.
    changes: Changes,
    /// By all entries so far.
    membership_changed: bool,
    /// Entries so far.
    entries: usize,
}

impl<M: Machine> Batch<'_, M> {
    /// Applies entries, says where the state machine stands now, and tells who waits for them.
    fn apply(&mut self, entries: Entries, shared: &Shared) -> io::Result<()> {
        if let Some(reason) = shared.health.reason() {
            return Err(io::Error::other(reason));
        }
        self.entries += entries.len();
        self.changes = Changes::default();
        let mut answers = Vec::new();
        for (entry, responder) in entries {
            let answer = self.entry(entry, responder.is_some())?;
            if let Some(responder) = responder {
                answers.push((responder, answer));
            }
        }
        if self.changes.members {
            shared.members.send_replace(tables::members(self.tx)?);
        }
        let membership = match self.changes.membership {
            true => Arc::new(engine::stored_membership(self.membership)?),
            false => Arc::clone(&shared.position.borrow().membership),
        };
        self.membership_changed |= self.changes.membership;
        shared.position.send_replace(Applied {
            log_id: self.position.applied.map(engine::log_id),
            time: ClusterTime::from_millis(self.position.cluster_time),
            leadership: self.position.leadership,
            level: FeatureLevel::new(self.position.level),
            membership,
        });
        for (responder, answer) in answers {
            responder.send(answer);
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, awaited: bool) -> io::Result<Answer> {
        let log_id = entry.log_id();
        let index = log_id.index();
        let within = |error: io::Error| io::Error::new(error.kind(), format!("log entry {index}: {error}"));
        let answer = match entry.payload {
            EntryPayload::Blank => Answer::Applied,
            EntryPayload::Membership(membership) => {
                *self.membership = engine::membership_out(Some(&log_id), &membership);
                self.changes.membership = true;
                Answer::Applied
            }
            EntryPayload::Normal(Payload(payload)) => {
                let entry = schema::decode_entry(&payload).map_err(within)?;
                self.position.cluster_time = self.position.cluster_time.max(entry.cluster_time);
                let kind = entry
                    .kind
                    .ok_or_else(|| schema::invalid("a log entry of an unknown kind: upgrade this member"))?;
                self.kind(kind, engine::log_id_out(&log_id), awaited)
                    .map_err(within)?
            }
        };
        self.position.applied = Some(engine::log_id_out(&log_id));
        Ok(answer)
    }

    fn kind(&mut self, kind: Kind, at: schema::LogId, awaited: bool) -> io::Result<Answer> {
        match kind {
            Kind::Commands(commands) => return self.commands(commands, at, awaited),
            Kind::LeaderStarted(started) => {
                if started.term == at.term {
                    self.position.leadership = Some(Leadership {
                        epoch: at.index,
                        term: at.term,
                        node: started.node,
                    });
                }
            }
            Kind::Join(join) => {
                if let Err(reason) = self.judge_level(&join) {
                    return Ok(Answer::Joined(Err(reason)));
                }
                self.changes.members = true;
                let joined = tables::join(self.tx, at.index, join).map_err(failure)?;
                return Ok(Answer::Joined(joined.map(NodeId::new)));
            }
            Kind::Announce(announce) => {
                self.changes.members = true;
                tables::announce(self.tx, announce).map_err(failure)?;
            }
            Kind::SetAside(aside) => {
                self.changes.members = true;
                tables::set_aside(self.tx, aside.node, self.position.cluster_time).map_err(failure)?;
            }
            Kind::Forget(forget) => {
                self.changes.members = true;
                // A member that came back since keeps its record.
                if !self.membership.nodes.contains(&forget.node) {
                    tables::forget(self.tx, forget.node).map_err(failure)?;
                }
            }
            Kind::RaiseLevel(raise) => self.raise_level(FeatureLevel::new(raise.level))?,
            Kind::Tick(_) => {}
        }
        Ok(Answer::Applied)
    }

    /// Whether the build of a joiner knows what the group does, or why not.
    fn judge_level(&self, join: &schema::Join) -> Result<(), String> {
        let known = join.record.as_ref().map_or(0, |record| record.level);
        let level = self.position.level;
        if known >= level {
            return Ok(());
        }
        Err(format!(
            "it works at feature level {level}, and this build knows only {known}: upgrade it first"
        ))
    }

    /// Migrates the tables, unless a member is in the way: one may have joined since this was proposed.
    fn raise_level(&mut self, to: FeatureLevel) -> io::Result<()> {
        let members = tables::members(self.tx)?;
        let nodes = self.membership.nodes.iter().copied();
        if FeatureLevel::new(self.position.level) >= to || !all_know(to, nodes, &members) {
            return Ok(());
        }
        check_level(self.machine, to.get())?;
        for level in self.position.level + 1..=to.get() {
            let migrated = self.machine.migrate(self.tx, FeatureLevel::new(level));
            migrated.map_err(failure)?;
        }
        self.position.level = to.get();
        tracing::info!(level = to.get(), "the group works at a higher feature level");
        Ok(())
    }

    fn commands(
        &mut self,
        commands: schema::Commands,
        at: schema::LogId,
        awaited: bool,
    ) -> io::Result<Answer> {
        let epoch = self.position.leadership.map_or(0, |leadership| leadership.epoch);
        let mut outcomes = Vec::new();
        for command in commands.commands {
            if command.epoch.is_some_and(|asked| asked != epoch) {
                if awaited {
                    outcomes.push(Outcome::Stale);
                }
                continue;
            }
            self.position.sequence += 1;
            let applying = Applying {
                index: LogIndex::new(at.index),
                sequence: self.position.sequence,
                epoch: Epoch::new(epoch),
                level: FeatureLevel::new(self.position.level),
                now: ClusterTime::from_millis(self.position.cluster_time),
            };
            let command = schema::decode_command(command.body)?;
            let reply = self.machine.apply(self.tx, &applying, command);
            let reply = reply.map_err(failure)?;
            if awaited {
                outcomes.push(Outcome::Applied(reply));
            }
        }
        let outcomes: Box<dyn Any + Send + std::marker::Sync> = Box::new(outcomes);
        Ok(Answer::Commands(outcomes))
    }
}
