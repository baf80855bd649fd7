//! What a group is opened with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::net::{Greeting, Network};
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::tls;
use rustls::ClientConfig;

use crate::error::Error;
use crate::status::MemberRecord;
use crate::transport::MESSAGE_BYTES_MAX;

/// Room in a message for all that is not commands.
const MESSAGE_OVERHEAD_BYTES: usize = 2 << 20;

/// Everything that [`crate::Group::open`] needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This member's directory for this group; created if absent. One process at a time.
    pub directory: PathBuf,
    /// What the group is: `names`, `cluster-alpha`. Members and directories of other groups are refused.
    pub label: String,
    /// The role that every member's certificate proves.
    pub role: tls::Role,
    /// This member's identity toward the others ([`common::tls::Identity::client_config`] with
    /// [`common::tls::ALPN_CONTROL`]).
    pub tls: Arc<ClientConfig>,
    /// How others reach and know this member. A change is announced and committed by itself.
    pub record: MemberRecord,
    /// Control addresses (`host:port`) of processes that may be members. Needed to join and after all addresses have
    /// changed; our own may be among them.
    pub join: Vec<String>,
    /// Whether to found the group if the directory is empty and no address in `join` knows one. Ignored otherwise.
    pub found: bool,
    /// How many members vote: 1, 3 or 5. More join as learners and take the place of voters that stay away.
    pub voters: usize,
    /// Periods and deadlines.
    pub timings: Timings,
    /// Sizes and counts.
    pub limits: Limits,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// How peers are reached.
    pub network: Network,
    /// Ends the member.
    pub shutdown: Shutdown,
    /// Where the group's tasks run; the runtime of the caller if `None`. A runtime that nothing else loads keeps
    /// heartbeats on time.
    pub runtime: Option<tokio::runtime::Handle>,
}

/// Periods and deadlines of a group.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// Between heartbeats of a leader.
    pub heartbeat: Duration,
    /// A follower that hears nothing asks for votes after a random time from this...
    pub election_min: Duration,
    /// ...up to this.
    pub election_max: Duration,
    /// An idle leader commits this often, so that cluster time goes on.
    pub tick: Duration,
    /// How long a proposal may take before its outcome is called unknown.
    pub propose_timeout: Duration,
    /// How long a linearizable read may wait for its position.
    pub read_timeout: Duration,
    /// How long a query may run.
    pub query_timeout: Duration,
    /// How long sending and installing one snapshot may take.
    pub snapshot_timeout: Duration,
    /// After how long an unreachable voter is replaced by a live learner.
    pub voter_replace_after: Duration,
    /// How long the record of a member that was set aside is kept. It may come back later all the same.
    pub member_forget_after: Duration,
    /// How long a founder asks the addresses in `join` before it founds.
    pub found_wait: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_secs(1),
            election_max: Duration::from_secs(2),
            tick: Duration::from_secs(2),
            propose_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(10),
            snapshot_timeout: Duration::from_secs(600),
            voter_replace_after: Duration::from_secs(300),
            member_forget_after: Duration::from_secs(7 * 24 * 3600),
            found_wait: Duration::from_secs(1),
        }
    }
}

/// Sizes and counts of a group.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Proposals waiting to enter the log; beyond it callers get [`Error::Busy`].
    pub proposals_waiting_max: usize,
    /// Bytes of one command.
    pub command_bytes_max: usize,
    /// Commands in one log entry.
    pub commands_per_entry_max: usize,
    /// Bytes of commands in one log entry (one larger command still gets an entry of its own).
    pub entry_bytes_max: usize,
    /// Log entries under way at a time.
    pub entries_in_flight_max: usize,
    /// How long the next log entry waits for each caller beyond the first that proposed for the last one.
    pub spacing_per_caller: Duration,
    /// The most that it waits.
    pub spacing: Duration,
    /// Linearizable reads waiting for their position; beyond it callers get [`Error::Busy`].
    pub reads_waiting_max: usize,
    /// Queries of a few rows at a time.
    pub readers: usize,
    /// Scans at a time, beside those.
    pub scanners: usize,
    /// Bytes of write-ahead log of the state machine beyond which new queries wait for a moment, so that it begins anew.
    pub wal_bytes_max: u64,
    /// Bytes of recent log entries kept in memory.
    pub log_cache_bytes: usize,
    /// After so many entries the state machine is made durable and the log behind it may go...
    pub snapshot_entries: u64,
    /// ...or after so many bytes of log, whichever comes first.
    pub snapshot_bytes: u64,
    /// Entries kept for members that lag; further behind, a member gets a snapshot.
    pub log_keep_entries: u64,
    /// Bytes of log kept for members that lag; beyond it entries go although `log_keep_entries` would keep them.
    pub log_keep_bytes: u64,
    /// Members that take part; so many more are remembered while they are set aside.
    pub members_max: usize,
    /// Free bytes on this member's disk below which its group takes nothing that adds: what frees space needs some.
    pub disk_reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            proposals_waiting_max: 8192,
            command_bytes_max: 8 << 20,
            commands_per_entry_max: 512,
            entry_bytes_max: 1 << 20,
            entries_in_flight_max: 1,
            spacing_per_caller: Duration::from_millis(2),
            spacing: Duration::from_millis(6),
            reads_waiting_max: 16_384,
            readers: 4,
            scanners: 2,
            wal_bytes_max: 64 << 20,
            log_cache_bytes: 32 << 20,
            snapshot_entries: 50_000,
            snapshot_bytes: 64 << 20,
            log_keep_entries: 20_000,
            log_keep_bytes: 256 << 20,
            members_max: 64,
            disk_reserve_bytes: 256 << 20,
        }
    }
}

impl Settings {
    /// What this process says until [`crate::Group::open`] returns ([`common::net::turn_away_during`]).
    pub fn greeting(&self) -> Greeting {
        crate::directory::greeting(&self.directory)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let fail = |reason: &str| {
            Err(Error::Settings {
                reason: reason.to_owned(),
            })
        };
        let timings = &self.timings;
        if !matches!(self.voters, 1 | 3 | 5) {
            return fail("voters must be 1, 3 or 5");
        }
        if self.label.is_empty() || self.record.control.is_empty() {
            return fail("label and control address must be given");
        }
        if timings.heartbeat.is_zero()
            || timings.election_min < timings.heartbeat * 2
            || timings.election_max <= timings.election_min
            || timings.election_max < timings.heartbeat * 6
        {
            return fail(
                "election_min must be at least twice the heartbeat, election_max above it and six times the heartbeat",
            );
        }
        if self.limits.readers == 0
            || self.limits.scanners == 0
            || self.limits.commands_per_entry_max == 0
            || self.limits.entries_in_flight_max == 0
        {
            return fail(
                "readers, scanners, commands_per_entry_max and entries_in_flight_max must be at least 1",
            );
        }
        let message = self.limits.entry_bytes_max + self.limits.command_bytes_max;
        if message + MESSAGE_OVERHEAD_BYTES > MESSAGE_BYTES_MAX {
            return fail("entry_bytes_max and command_bytes_max together do not fit into a message");
        }
        Ok(())
    }
}
