//! What every request and every loop of a supernode works with, and the way to the names group: reading and proposing,
//! with errors as callers see them.

use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::Epoch;
use common::random::Random;
use common::reload::Reload;
use common::time::{Clock, ClusterTime};
use common::tls::Reloadable;
use consensus::Group;
use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use rusqlite::Connection;

use crate::admission::Admission;
use crate::board::Board;
use crate::config::Config;
use crate::core::fingerprint;
use crate::core::placement::Policy;
use crate::core::refusal::Refusal;
use crate::growth::{Growth, growth};
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::open_sessions::OpenSessions;
use crate::passwords::Passwords;
use crate::store::NamesMachine;
use crate::store::apply::{Stop, decode_refusal};
use crate::store::{cluster, key};

/// What callers are told to wait when the group cannot answer now.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// What callers are told to wait when no cluster can take a file.
const NO_CLUSTER_RETRY_AFTER: Duration = Duration::from_secs(1);

/// One supernode at work.
pub(crate) struct Context {
    /// As validated.
    pub(crate) config: Config,
    /// What new connections are shown.
    pub(crate) tls: Reloadable,
    /// Requests to read it anew from disk.
    pub(crate) reload: Reload,
    /// The names group.
    pub(crate) group: Group<NamesMachine>,
    /// Time.
    pub(crate) clock: Clock,
    /// Random numbers.
    pub(crate) random: Random,
    /// Keys that sign tickets.
    pub(crate) keyring: Keyring,
    /// What clusters last said.
    pub(crate) board: Board,
    /// Sessions without a row.
    pub(crate) sessions: OpenSessions,
    /// Hashing of passwords.
    pub(crate) passwords: Passwords,
    /// Places for clients' requests.
    pub(crate) clients: Admission,
    /// Places for clusters' requests.
    pub(crate) clusters: Admission,
    /// Places for calls that wait for an outcome.
    pub(crate) waits: Admission,
    /// Counters.
    pub(crate) metrics: Metrics,
    /// Rung when something in the trash is due at once.
    pub(crate) trash_due: Arc<tokio::sync::Notify>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({:?})", self.group)
    }
}

impl Context {
    /// The names group's time.
    pub(crate) fn now(&self) -> ClusterTime {
        self.group.now()
    }

    /// Our leadership.
    ///
    /// # Errors
    /// `NotLeader`, with the address of the supernode that leads, where one does.
    pub(crate) fn leading(&self) -> Result<Epoch, RpcError> {
        self.group.epoch().ok_or_else(|| {
            let other = self.group.other_leader();
            RpcError::not_leader(other.map(|leader| leader.control)).retry_after(RETRY_AFTER)
        })
    }

    /// Runs `query` on everything that was acknowledged anywhere before.
    ///
    /// # Errors
    /// What the query refused, or the group cannot answer now.
    pub(crate) async fn read<T, Q>(&self, query: Q) -> Result<T, RpcError>
    where
        T: Send + 'static,
        Q: FnOnce(&Connection) -> Result<T, Stop> + Send + 'static,
    {
        let outcome = self.group.read(move |tables| settle(query(tables))).await;
        outcome.map_err(group_error)?.map_err(refused)
    }

    /// As [`Context::read`], for a query that looks at many rows: it keeps no query of few rows waiting.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub(crate) async fn scan<T, Q>(&self, query: Q) -> Result<T, RpcError>
    where
        T: Send + 'static,
        Q: FnOnce(&Connection) -> Result<T, Stop> + Send + 'static,
    {
        let outcome = self.group.scan(move |tables| settle(query(tables))).await;
        outcome.map_err(group_error)?.map_err(refused)
    }

    /// As [`Context::read_local`], for a query that looks at many rows.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub(crate) async fn scan_local<T, Q>(&self, query: Q) -> Result<T, RpcError>
    where
        T: Send + 'static,
        Q: FnOnce(&Connection) -> Result<T, Stop> + Send + 'static,
    {
        let outcome = self.group.scan_local(move |tables| settle(query(tables))).await;
        outcome.map_err(group_error)?.map_err(refused)
    }

    /// Runs `query` on what is applied here: on the leader all that it answered for, elsewhere possibly old.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub(crate) async fn read_local<T, Q>(&self, query: Q) -> Result<T, RpcError>
    where
        T: Send + 'static,
        Q: FnOnce(&Connection) -> Result<T, Stop> + Send + 'static,
    {
        let outcome = self.group.read_local(move |tables| settle(query(tables))).await;
        outcome.map_err(group_error)?.map_err(refused)
    }

    /// Runs `query` on what was applied here, but perhaps not in the last moments: for what is looked at again when it
    /// is applied.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub(crate) async fn read_lagging<T, Q>(&self, query: Q) -> Result<T, RpcError>
    where
        T: Send + 'static,
        Q: FnOnce(&Connection) -> Result<T, Stop> + Send + 'static,
    {
        let outcome = self.group.read_lagging(move |tables| settle(query(tables))).await;
        outcome.map_err(group_error)?.map_err(refused)
    }

    /// Commits `body` and returns what applying it answered.
    ///
    /// # Errors
    /// What applying it refused, or the group did not take it.
    pub(crate) async fn propose(
        &self,
        body: Command,
        mut dedupe: Option<log::Dedupe>,
    ) -> Result<Reply, RpcError> {
        if let Some(dedupe) = &mut dedupe {
            dedupe.command_digest = fingerprint::of_request(&body);
        }
        let keyed = dedupe.is_some();
        let fragile = matches!(body, Command::Delete(_) | Command::Rename(_)) && !keyed;
        match self.put(None, dedupe, body).await {
            Ok(reply) => answered(reply),
            Err(consensus::Error::OutcomeUnknown) if fragile => Err(unknown(Kind::Conflict)),
            Err(error) => Err(group_error(error)),
        }
    }

    /// As [`Context::propose`], for the work of a leadership: refused when it is over.
    ///
    /// # Errors
    /// As [`Context::propose`], and `Stale`.
    pub(crate) async fn propose_in(&self, epoch: Epoch, body: Command) -> Result<Reply, RpcError> {
        let outcome = self.put(Some(epoch), None, body).await;
        outcome.map_err(group_error).and_then(answered)
    }

    /// Proposes `body` as far as the disks of the voters allow what it does to them (P11).
    async fn put(
        &self,
        epoch: Option<Epoch>,
        dedupe: Option<log::Dedupe>,
        body: Command,
    ) -> Result<log::Reply, consensus::Error> {
        let growth = growth(&body);
        let command = log::Command {
            dedupe,
            body: Some(body),
        };
        match (growth, epoch) {
            (Growth::Adds, None) => self.group.propose(command).await,
            (Growth::Adds, Some(epoch)) => self.group.propose_in(epoch, command).await,
            (Growth::Concludes, epoch) => self.group.propose_concluding(epoch, command).await,
            (Growth::Frees, epoch) => self.group.propose_freeing(epoch, command).await,
        }
    }

    /// Reads the signing keys that are applied here.
    ///
    /// # Errors
    /// As [`Context::read_local`].
    pub(crate) async fn learn_keys(&self) -> Result<(), RpcError> {
        let seeds = self.read_local(|tables| Ok(key::all(tables)?)).await?;
        self.keyring.learn(&seeds);
        Ok(())
    }

    /// When clusters get new files.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            silence_max: self.config.placement.cluster_silence_max.get(),
            high_water_permille: self.config.placement.high_water_percent * 10,
        }
    }

    /// As [`Context::cluster`], from what it last reported to our leadership `ours` where it has.
    ///
    /// # Errors
    /// As [`Context::cluster`].
    pub(crate) async fn registered(
        &self,
        ours: Epoch,
        id: common::ids::ClusterId,
    ) -> Result<Arc<cluster::Cluster>, RpcError> {
        match self.board.registered(ours, id) {
            Some(registered) => Ok(registered),
            None => self.cluster(id).await.map(Arc::new),
        }
    }

    /// The registered cluster with this id, as applied here.
    ///
    /// # Errors
    /// It is not registered.
    pub(crate) async fn cluster(&self, id: common::ids::ClusterId) -> Result<cluster::Cluster, RpcError> {
        self.read_local(move |tables| {
            let found = cluster::by_id(tables, id)?;
            Ok(found.ok_or_else(Refusal::unknown_cluster)?)
        })
        .await
    }
}

fn settle<T>(outcome: Result<T, Stop>) -> rusqlite::Result<Result<T, Refusal>> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stop::Sql(error)) => Err(error),
    }
}

fn answered(reply: log::Reply) -> Result<Reply, RpcError> {
    match (reply.refusal, reply.body) {
        (Some(refusal), _) => Err(refused(decode_refusal(refusal))),
        (None, Some(body)) => Ok(body),
        (None, None) => Err(unexpected()),
    }
}

/// An answer of another kind than the command has.
pub(crate) fn unexpected() -> RpcError {
    RpcError::new(
        Kind::Fatal,
        "E_INTERNAL",
        "the names group answered something else than was asked",
    )
}

/// The leadership under which this was begun has ended meanwhile.
pub(crate) fn over() -> RpcError {
    RpcError::new(
        Kind::Retry,
        "E_NO_LEADER",
        "this supernode does not lead any more",
    )
    .retry_after(RETRY_AFTER)
}

/// A refusal as it goes to the caller.
pub(crate) fn refused(refusal: Refusal) -> RpcError {
    let wait = match refusal.kind() {
        Kind::Busy => RETRY_AFTER,
        Kind::Retry => NO_CLUSTER_RETRY_AFTER,
        _ => Duration::ZERO,
    };
    RpcError::new(refusal.kind(), refusal.code(), refusal.message())
        .hint(refusal.hint_text())
        .retry_after(wait)
}

fn unknown(kind: Kind) -> RpcError {
    RpcError::new(
        kind,
        "E_OUTCOME_UNKNOWN",
        "the request may or may not have been carried out",
    )
    .hint("look before you send it again, or send it with an idempotency key")
}

/// An error of the group as it goes to the caller.
pub(crate) fn group_error(error: consensus::Error) -> RpcError {
    match error {
        consensus::Error::NotLeader { leader } => {
            RpcError::not_leader(leader.map(|leader| leader.control)).retry_after(RETRY_AFTER)
        }
        consensus::Error::OutcomeUnknown => unknown(Kind::Retry).retry_after(RETRY_AFTER),
        consensus::Error::Busy => {
            RpcError::new(Kind::Busy, "E_BUSY", error.to_string()).retry_after(RETRY_AFTER)
        }
        consensus::Error::Retry { .. } | consensus::Error::Closed => {
            RpcError::new(Kind::Retry, "E_NO_LEADER", error.to_string()).retry_after(RETRY_AFTER)
        }
        consensus::Error::Full { .. } => RpcError::new(Kind::Full, "E_NO_SPACE", error.to_string()),
        consensus::Error::Stale { .. } => RpcError::new(Kind::Stale, "E_EPOCH", error.to_string()),
        consensus::Error::TooLarge { .. } => RpcError::new(Kind::Invalid, "E_TOO_LARGE", error.to_string()),
        consensus::Error::Level { .. } => RpcError::new(Kind::Invalid, "E_FEATURE_LEVEL", error.to_string()),
        consensus::Error::Query { .. }
        | consensus::Error::Directory { .. }
        | consensus::Error::Settings { .. }
        | consensus::Error::Refused { .. }
        | consensus::Error::Fatal { .. } => {
            // Another supernode may well be able to answer.
            tracing::error!(%error, "the names group failed a request");
            RpcError::new(
                Kind::Retry,
                "E_INTERNAL",
                "this supernode cannot answer: its log says why",
            )
        }
    }
}
