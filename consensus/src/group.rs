//! The handle to a group's member in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::ids::{Epoch, NodeId};
use common::shutdown::Shutdown;
use common::time::{Clock, ClusterTime};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;
use proto::control::Routes;
use proto::raft::v1::raft_server::RaftServer;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::background::presence::Presence;
use crate::background::upkeep::Upkeep;
use crate::background::{leadership, levels, publish, voters};
use crate::desk::FrontDesk;
use crate::directory::Directory;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::log::LogStore;
use crate::machine::{FeatureLevel, Machine};
use crate::membership::Wanted;
use crate::proposer::{self, Proposal};
use crate::reads::{self, Anywhere, Gate};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::space::{Need, SpaceBoard};
use crate::start::{self, Started};
use crate::state::{Lane, StateMachine};
use crate::status::{GroupStatus, Member, Reach, Role};
use crate::transport::{MESSAGE_BYTES_MAX, RaftService};

/// How long a leader that ends waits for another to take the lead.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// After how long another voter, or the same, is asked to take the lead.
const HAND_OVER_ASK_AGAIN: Duration = Duration::from_millis(300);

/// A cheap handle to this process's member of a group.
pub struct Group<M: Machine> {
    inner: Arc<Inner<M>>,
}

struct Inner<M: Machine> {
    settings: Settings,
    ledger: Ledger,
    log: LogStore,
    state: StateMachine,
    service: RaftServer<RaftService>,
    proposals: mpsc::Sender<Proposal<M::Reply>>,
    reads: Gate,
    status: watch::Receiver<GroupStatus>,
    /// Ends the loops.
    loops: Shutdown,
    /// Given when the member has ended and its directory is free.
    ended: Shutdown,
    /// Whether someone is ending the member already.
    ending: AtomicBool,
    runtime: tokio::runtime::Handle,
    /// Which members have little space left.
    space: Arc<SpaceBoard>,
    /// Locked until the files are closed.
    directory: Mutex<Option<Directory>>,
}

impl<M: Machine> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<M: Machine> std::fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let identity = &self.inner.ledger.roster.identity;
        write!(
            f,
            "Group({} {} node {})",
            identity.label, identity.cluster, identity.node
        )
    }
}

impl<M: Machine> Group<M> {
    /// Founds, joins or goes on with the group in `settings.directory`. Returns once this process has an identity in
    /// the group, which for a joiner means that a leader was found; ends early when `settings.shutdown` is given.
    /// Mount [`Group::routes`] right after: the others must reach this member before it can take part.
    ///
    /// # Errors
    /// Settings, the directory, or the group refusing us; see [`Error`].
    pub async fn open(settings: Settings, machine: M) -> Result<Self, Error> {
        settings.check()?;
        match settings.runtime.clone() {
            Some(runtime) => {
                let opening = runtime.spawn(Self::open_here(settings, machine));
                opening.await.map_err(Error::fatal)?
            }
            None => Self::open_here(settings, machine).await,
        }
    }

    async fn open_here(mut settings: Settings, machine: M) -> Result<Self, Error> {
        settings.record.level = machine.level();
        let started = start::start(&settings, machine).await?;
        let roster = Arc::new(Roster {
            raft: started.raft.clone(),
            state: Arc::clone(&started.state.shared),
            timekeeper: Arc::clone(&started.timekeeper),
            identity: started.peers.identity.clone(),
            health: started.health.clone(),
            timings: settings.timings,
            renewed: tokio::sync::Notify::new(),
        });
        let ledger = Ledger {
            raft: started.raft.clone(),
            roster,
            clock: settings.clock.clone(),
            timeout: settings.timings.propose_timeout,
        };
        let (here, anywhere) = open_gates(&settings, &ledger, &started);
        let (proposals, waiting) = mpsc::channel(settings.limits.proposals_waiting_max);
        let loops = Shutdown::new();
        spawn(&loops, proposer::run(waiting, ledger.clone(), settings.limits));
        let status = spawn_loops(&settings, &ledger, &started, &loops);
        let service = service(&settings, &started, &ledger, here);
        let group = Self {
            inner: Arc::new(Inner {
                ledger,
                log: started.log,
                state: started.state,
                service,
                proposals,
                reads: anywhere,
                status,
                loops,
                ended: Shutdown::new(),
                ending: AtomicBool::new(false),
                runtime: tokio::runtime::Handle::current(),
                space: started.space,
                directory: Mutex::new(Some(started.directory)),
                settings,
            }),
        };
        group.end_when_told();
        Ok(group)
    }

    /// Ends the member when the process ends, or when it has failed.
    fn end_when_told(&self) {
        let group = self.clone();
        tokio::spawn(async move {
            let failed = group.inner.ledger.roster.health.clone();
            tokio::select! {
                () = group.inner.settings.shutdown.triggered() => group.shutdown().await,
                () = group.inner.ended.triggered() => {}
                () = failed.failed() => group.shutdown().await,
            }
        });
    }

    /// Proposes `command`; returns what [`Machine::apply`] replied once it is committed and applied here. Dropping the
    /// future does not take the command back.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Busy`], [`Error::Retry`], [`Error::Full`], [`Error::TooLarge`], [`Error::Level`]:
    /// nothing happened.
    /// [`Error::OutcomeUnknown`]: it may have.
    pub async fn propose(&self, command: M::Command) -> Result<M::Reply, Error> {
        self.put(None, &command, Need::Adds).await
    }

    /// As [`Group::propose`], but the command is refused when its turn comes to be applied under any other epoch.
    ///
    /// # Errors
    /// As [`Group::propose`], and [`Error::Stale`].
    pub async fn propose_in(&self, epoch: Epoch, command: M::Command) -> Result<M::Reply, Error> {
        self.put(Some(epoch), &command, Need::Adds).await
    }

    /// As [`Group::propose`] and [`Group::propose_in`], for a command that ends work which was admitted while there was
    /// space: it may use half of the reserve (P11).
    ///
    /// # Errors
    /// As [`Group::propose_in`].
    pub async fn propose_concluding(
        &self,
        epoch: Option<Epoch>,
        command: M::Command,
    ) -> Result<M::Reply, Error> {
        self.put(epoch, &command, Need::Concludes).await
    }

    /// As [`Group::propose`] and [`Group::propose_in`], for a command that lets space be freed or keeps the group going, and
    /// adds no rows without bound: it is taken also when a disk is nearly full (P11).
    ///
    /// # Errors
    /// As [`Group::propose_in`], but never [`Error::Full`].
    pub async fn propose_freeing(
        &self,
        epoch: Option<Epoch>,
        command: M::Command,
    ) -> Result<M::Reply, Error> {
        self.put(epoch, &command, Need::Frees).await
    }

    /// Whether [`Group::propose`] would take anything now, as far as the disks of the voters are concerned. Only the leader
    /// knows of the others'.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn check_space(&self) -> Result<(), Error> {
        self.check_space_for(Need::Adds)
    }

    fn check_space_for(&self, need: Need) -> Result<(), Error> {
        let roster = &self.inner.ledger.roster;
        let now = self.inner.settings.clock.moment();
        let short = self.inner.space.in_the_way(need, now, || roster.voter_ids());
        short.map_or(Ok(()), |node| {
            let node = NodeId::new(node);
            let members = roster.members();
            let member = members.iter().find(|member| member.node_id == node);
            Err(Error::Full {
                node,
                name: member.map_or_else(String::new, |member| member.name.clone()),
            })
        })
    }

    async fn put(&self, epoch: Option<Epoch>, command: &M::Command, need: Need) -> Result<M::Reply, Error> {
        self.inner.ledger.leading()?;
        self.check_level(M::level_of(command))?;
        self.check_space_for(need)?;
        let bytes = command.encoded_len();
        let limit_bytes = self.inner.settings.limits.command_bytes_max;
        if bytes > limit_bytes {
            return Err(Error::TooLarge { bytes, limit_bytes });
        }
        let (reply, outcome) = oneshot::channel();
        let proposal = Proposal {
            epoch,
            body: command.encode_to_vec().into(),
            reply,
        };
        self.inner
            .proposals
            .try_send(proposal)
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(_) => Error::Busy,
                mpsc::error::TrySendError::Closed(_) => self.gone(),
            })?;
        outcome.await.map_err(|_| self.unknown())?
    }

    /// Whether every member knows what a command of level `needed` does. Levels never fall: what may be proposed now can
    /// be applied whenever its turn comes.
    fn check_level(&self, needed: FeatureLevel) -> Result<(), Error> {
        let level = self.inner.state.shared.position.borrow().level;
        if needed <= level {
            return Ok(());
        }
        Err(Error::Level { needed, level })
    }

    fn gone(&self) -> Error {
        let health = &self.inner.ledger.roster.health;
        health.check().err().unwrap_or(Error::Closed)
    }

    /// The member ended with the command in its hands.
    fn unknown(&self) -> Error {
        let health = &self.inner.ledger.roster.health;
        health.check().err().unwrap_or(Error::OutcomeUnknown)
    }

    /// Runs `query` on tables that hold everything acknowledged anywhere before this call: linearizable, on any member.
    /// Costs one round of heartbeats, shared by all reads that wait.
    ///
    /// # Errors
    /// [`Error::Retry`] without a quorum or leader, [`Error::Busy`], [`Error::Query`].
    pub async fn read<T, F>(&self, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.barrier().await?;
        self.read_local(query).await
    }

    /// As [`Group::read`], for a query that looks at many rows: it keeps no query of few rows waiting.
    ///
    /// # Errors
    /// As [`Group::read`].
    pub async fn scan<T, F>(&self, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.barrier().await?;
        self.scan_local(query).await
    }

    /// As [`Group::read_local`], for a query that looks at many rows.
    ///
    /// # Errors
    /// As [`Group::read_local`].
    pub async fn scan_local<T, F>(&self, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let shown = self.inner.state.shared.reveal().await;
        shown.map_err(|_| self.gone())?;
        self.inner.ledger.roster.health.check()?;
        self.inner.state.shared.readers.run(Lane::Scan, query).await
    }

    /// Resolves once everything acknowledged anywhere before this call is applied here: several
    /// [`Group::read_local`] after it are as good as one [`Group::read`] each.
    ///
    /// # Errors
    /// As [`Group::read`].
    pub async fn barrier(&self) -> Result<(), Error> {
        self.inner.ledger.roster.health.check()?;
        let index = self.inner.reads.index().await?;
        let mut position = self.inner.state.shared.position.subscribe();
        let applied = position.wait_for(|applied| applied.index().get() >= index);
        let limit = self.inner.settings.timings.read_timeout;
        match self.inner.settings.clock.timeout(limit, applied).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) => Err(self.gone()),
            None => Err(Error::retry("this member lags behind")),
        }
    }

    /// Runs `query` on whatever is applied here: all that was answered here, otherwise possibly old, and after a
    /// restart older than it was before.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Query`].
    pub async fn read_local<T, F>(&self, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let shown = self.inner.state.shared.reveal().await;
        shown.map_err(|_| self.gone())?;
        self.read_lagging(query).await
    }

    /// Runs `query` on tables that may lack what was applied here in the last moments, for whoever looks again when it
    /// counts: it asks for no commit, and so does not keep others from sharing one.
    ///
    /// # Errors
    /// As [`Group::read_local`].
    pub async fn read_lagging<T, F>(&self, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.inner.ledger.roster.health.check()?;
        self.inner.state.shared.readers.run(Lane::Rows, query).await
    }

    /// What this member knows now.
    pub fn status(&self) -> GroupStatus {
        self.inner.ledger.roster.status()
    }

    /// [`GroupStatus::epoch`] alone, cheap enough for every request.
    pub fn epoch(&self) -> Option<Epoch> {
        self.inner.ledger.roster.epoch()
    }

    /// Ends the epoch, if this member leads, and begins another: for a tier whose own part of the leadership ended, and
    /// which must not go on under the epoch it has used.
    pub fn begin_again(&self) {
        let roster = &self.inner.ledger.roster;
        roster.timekeeper.end();
        roster.renewed.notify_one();
    }

    /// The member that leads, as far as is known here; `None` while nobody does, or if it is this one.
    pub fn other_leader(&self) -> Option<Member> {
        let roster = &self.inner.ledger.roster;
        roster
            .leader()
            .filter(|leader| leader.node_id != roster.identity.node)
    }

    /// Whether the group works as far as this member can tell: something it proposed now would be committed.
    pub fn sees_quorum(&self) -> bool {
        self.inner.ledger.roster.sees_quorum()
    }

    /// How this member, which leads, reaches every member; empty while it does not lead.
    pub fn reach(&self) -> BTreeMap<NodeId, Reach> {
        self.inner.ledger.roster.reach()
    }

    /// How many members vote.
    pub fn voters(&self) -> usize {
        self.inner.ledger.roster.voters()
    }

    /// Changes of [`Group::status`]; `applied` and `now` are brought up to date several times a second only.
    pub fn watch(&self) -> watch::Receiver<GroupStatus> {
        self.inner.status.clone()
    }

    /// The group's time as far as it is known here: on the leader it goes on between commits, elsewhere it follows the
    /// heartbeats. Never above what a later leader stamps.
    pub fn now(&self) -> ClusterTime {
        self.inner.ledger.roster.timekeeper.now()
    }

    /// `routes` and the service that the other members speak to (`raft.proto`). It checks each caller's certificate
    /// for `settings.role`.
    #[must_use]
    pub fn routes(&self, routes: Routes) -> Routes {
        mount(routes, &self.inner.service)
    }

    /// Hands the lead to another voter where there is one, and ends this member. Later calls get [`Error::Closed`].
    /// The directory is free once this returns.
    pub async fn shutdown(&self) {
        if !self.inner.ending.swap(true, Ordering::SeqCst) {
            let group = self.clone();
            // A task of its own: a caller that goes away must not leave it half done.
            self.inner.runtime.spawn(async move {
                let inner = &group.inner;
                hand_over(&inner.ledger, group.watch(), &inner.settings.clock).await;
                inner.loops.trigger();
                close(&inner.ledger, &inner.log, &inner.state).await;
                drop(inner.directory.lock().take());
                group.inner.ended.trigger();
            });
        }
        self.inner.ended.triggered().await;
    }
}

/// The service that the other members call.
fn service(settings: &Settings, started: &Started, ledger: &Ledger, here: Gate) -> RaftServer<RaftService> {
    let service = RaftService {
        role: settings.role.clone(),
        raft: started.raft.clone(),
        space: Arc::clone(&started.space),
        state: Arc::clone(&started.state.shared),
        peers: Arc::clone(&started.peers),
        timekeeper: Arc::clone(&started.timekeeper),
        desk: Arc::new(FrontDesk {
            ledger: ledger.clone(),
            here,
            members_max: settings.limits.members_max,
        }),
        receiving: Arc::new(Semaphore::new(1)),
    };
    RaftServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Outside of [`Group`], as the two below are: what is generic is compiled again for every machine.
fn mount(routes: Routes, service: &RaftServer<RaftService>) -> Routes {
    routes.with(service.clone())
}

/// Gives the lead to another voter, if this member has it and there is one.
fn hand_over<'a>(
    ledger: &'a Ledger,
    mut watch: watch::Receiver<GroupStatus>,
    clock: &'a Clock,
) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let status = ledger.roster.status();
        if status.role != Role::Leader || status.epoch.is_none() {
            return;
        }
        let begun = clock.moment();
        // A voter whose log is an entry behind does not take the lead, and says nothing: it is asked again.
        while clock.moment().since(begun) < HAND_OVER_TIMEOUT {
            let Some(next) = voters::next_leader(ledger) else {
                return;
            };
            if ledger.raft.trigger().transfer_leader(next).await.is_err() {
                return;
            }
            let handed = watch.wait_for(|status| status.role != Role::Leader);
            if clock.timeout(HAND_OVER_ASK_AGAIN, handed).await.is_some() {
                return;
            }
        }
        tracing::debug!("nobody took the lead in time");
    })
}

/// Ends Raft and closes its files.
fn close<'a>(ledger: &'a Ledger, log: &'a LogStore, state: &'a StateMachine) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        // Raft's own task may have ended already, with the reason that `health` holds.
        let _ = ledger.raft.shutdown().await;
        log.close().await;
        state.close().await;
    })
}

/// The gate that confirms here, and the one that confirms wherever the leader is.
fn open_gates(settings: &Settings, ledger: &Ledger, started: &Started) -> (Gate, Gate) {
    let (limit, waiting_max) = (settings.timings.read_timeout, settings.limits.reads_waiting_max);
    let confirming = ledger.clone();
    let here = Gate::open(waiting_max, move || {
        let ledger = confirming.clone();
        async move { reads::confirm_leading(&ledger, limit).await }
    });
    let anywhere = Arc::new(Anywhere {
        ledger: ledger.clone(),
        peers: Arc::clone(&started.peers),
        here: here.clone(),
        limit,
    });
    let anywhere = Gate::open(waiting_max, move || {
        let anywhere = Arc::clone(&anywhere);
        async move { anywhere.confirm().await }
    });
    (here, anywhere)
}

fn spawn_loops(
    settings: &Settings,
    ledger: &Ledger,
    started: &Started,
    loops: &Shutdown,
) -> watch::Receiver<GroupStatus> {
    let timings = settings.timings;
    let wanted = Wanted {
        voters: settings.voters,
        alive_within: timings.election_max * 2,
        away_after: timings.voter_replace_after,
        forget_after: timings.member_forget_after,
        aside_max: settings.limits.members_max,
    };
    let presence = Presence {
        ledger: ledger.clone(),
        peers: Arc::clone(&started.peers),
        record: settings.record.clone(),
        join: settings.join.clone(),
        nonce: started.nonce.clone(),
    };
    let upkeep = Upkeep {
        ledger: ledger.clone(),
        log: started.log.clone(),
        state: started.state.clone(),
        limits: settings.limits,
        space: Arc::clone(&started.space),
    };
    let (status, watched) = watch::channel(ledger.roster.status());
    let publish = publish::run(
        Arc::clone(&ledger.roster),
        status,
        settings.clock.clone(),
        loops.clone(),
    );
    spawn(loops, leadership::run(ledger.clone()));
    spawn(loops, leadership::tick(ledger.clone(), timings.tick));
    spawn(loops, voters::run(ledger.clone(), wanted));
    spawn(loops, levels::run(ledger.clone(), settings.record.level));
    spawn(loops, presence.run());
    spawn(loops, upkeep.run());
    // Goes on to the end of Raft, to publish that too.
    tokio::spawn(publish);
    watched
}

fn spawn(loops: &Shutdown, work: impl Future<Output = ()> + Send + 'static) {
    let loops = loops.clone();
    tokio::spawn(async move { loops.guard(work).await });
}
