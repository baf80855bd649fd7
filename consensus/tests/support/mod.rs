//! Members of one group in one process: real TLS, real files, loopback.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "tests wait by the machine's clock")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::ids::Epoch;
use common::net::{Listen, Network};
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::tls::{self, ALPN_CONTROL, Authority, Identity, Reloadable, Role};
use dbfs_consensus::{Applying, Error, Group, GroupStatus, Limits, Machine, MemberRecord, Settings, Timings};
use dbfs_tests::own_ports;
use proto::control::{Limits as ServerLimits, Routes, serve};
use rusqlite::{OptionalExtension, Transaction, params};

/// Counts how often each key was set, so that a command applied twice shows.
#[derive(Clone, Default)]
pub struct Counters {
    /// How long applying each command takes on this member, in milliseconds.
    pub slow_millis: Arc<AtomicU64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Set {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Done {
    /// How often the key was set, this time included; 0 for a refusal.
    #[prost(uint64, tag = "1")]
    pub times: u64,
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    #[prost(uint64, tag = "3")]
    pub now: u64,
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
}

impl Machine for Counters {
    type Command = Set;
    type Reply = Done;

    fn create(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute_batch(
            "CREATE TABLE IF NOT EXISTS counters (key TEXT PRIMARY KEY, times INTEGER NOT NULL, value BLOB NOT NULL) STRICT",
        )
    }

    fn apply(&mut self, tx: &Transaction<'_>, at: &Applying, command: Set) -> rusqlite::Result<Done> {
        std::thread::sleep(Duration::from_millis(self.slow_millis.load(Ordering::Relaxed)));
        let mut done = Done {
            times: 0,
            sequence: at.sequence,
            now: at.now.as_millis(),
            epoch: at.epoch.get(),
        };
        match command.key.as_str() {
            "" => return Ok(done),
            "break" => return Err(rusqlite::Error::InvalidQuery),
            _ => {}
        }
        let times: i64 = tx
            .prepare_cached(
                "INSERT INTO counters (key, times, value) VALUES (?1, 1, ?2)
                 ON CONFLICT (key) DO UPDATE SET times = times + 1, value = excluded.value RETURNING times",
            )?
            .query_row(params![command.key, command.value], |row| row.get(0))?;
        done.times = times.cast_unsigned();
        Ok(done)
    }
}

pub fn set(key: impl Into<String>) -> Set {
    Set {
        key: key.into(),
        value: Vec::new(),
    }
}

/// Shared by all members of a test.
pub struct Installation {
    pub root: tempfile::TempDir,
    tls: Identity,
}

impl Installation {
    pub fn new() -> Arc<Self> {
        tls::install_provider();
        if std::env::var("DBFS_LOG").is_ok() {
            let _ = common::telemetry::start("info");
        }
        let root = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(root.path()).unwrap();
        let own = root.path().join("tls");
        authority.issue(&Role::Supernode, &[], &own).unwrap();
        Arc::new(Self {
            tls: Identity::load(&own).unwrap(),
            root,
        })
    }
}

/// One member, running or not.
pub struct Node {
    installation: Arc<Installation>,
    pub name: String,
    pub address: String,
    pub settings: Settings,
    pub machine: Counters,
    listener: Option<Box<dyn Listen>>,
    running: Option<Running>,
}

async fn listen() -> Box<dyn Listen> {
    let address = format!("127.0.0.1:{}", own_ports(1));
    Network::tcp(None).bind(&address).await.unwrap()
}

struct Running {
    group: Group<Counters>,
    shutdown: Shutdown,
    server: tokio::task::JoinHandle<()>,
}

impl Node {
    pub async fn new(installation: &Arc<Installation>, name: &str) -> Self {
        let listener = listen().await;
        let address = listener.address();
        let settings = Settings {
            directory: installation.root.path().join(name),
            label: "names".to_owned(),
            role: Role::Supernode,
            tls: Arc::new(installation.tls.client_config(ALPN_CONTROL).unwrap()),
            record: MemberRecord {
                control: address.clone(),
                name: name.to_owned(),
                ..MemberRecord::default()
            },
            join: Vec::new(),
            found: false,
            voters: 3,
            timings: Timings {
                found_wait: Duration::from_millis(300),
                ..Timings::default()
            },
            limits: Limits::default(),
            clock: Clock::real(),
            random: Random::system(),
            network: Network::tcp(None),
            shutdown: Shutdown::new(),
            runtime: None,
        };
        Self {
            installation: Arc::clone(installation),
            name: name.to_owned(),
            address,
            settings,
            machine: Counters::default(),
            listener: Some(listener),
            running: None,
        }
    }

    pub fn directory(&self) -> PathBuf {
        self.settings.directory.clone()
    }

    pub async fn try_start(&mut self) -> Result<(), Error> {
        let (group, shutdown, server) = self.serve(self.machine.clone()).await?;
        self.running = Some(Running {
            group,
            shutdown,
            server,
        });
        Ok(())
    }

    /// Closes the listener until the node starts: to a founder nobody is there then, and no process that does not say
    /// whether it has a group.
    pub fn vacate(&mut self) {
        self.listener = None;
    }

    /// Runs a member with `machine`; whoever asks ends it.
    pub async fn serve<M: Machine>(
        &mut self,
        machine: M,
    ) -> Result<(Group<M>, Shutdown, tokio::task::JoinHandle<()>), Error> {
        let shutdown = Shutdown::new();
        self.settings.shutdown = shutdown.clone();
        if self.listener.is_none() {
            let listener = Network::tcp(None).bind(&self.address).await.unwrap();
            self.listener = Some(listener);
        }
        let group = Group::open(self.settings.clone(), machine).await?;
        let limits = ServerLimits {
            shutdown_grace: Duration::ZERO,
            ..ServerLimits::default()
        };
        let serving = serve(
            self.listener.take().unwrap(),
            Reloadable::new(self.installation.tls.server_config(ALPN_CONTROL).unwrap()),
            group.routes(Routes::new()),
            shutdown.clone(),
            self.settings.clock.clone(),
            limits,
        );
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Ok((group, shutdown, server))
    }

    pub async fn start(&mut self) {
        self.try_start().await.unwrap();
    }

    /// Ends in good order.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.group.shutdown().await;
            running.shutdown.trigger();
            running.server.await.unwrap();
        }
    }

    /// From one moment to the next nobody reaches it any more, and it ends without handing anything over.
    pub async fn cut_off(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown.trigger();
            running.server.await.unwrap();
            running.group.shutdown().await;
        }
    }

    /// Nobody reaches it any more, but it goes on.
    pub async fn isolate_inbound(&mut self) {
        if let Some(running) = self.running.as_mut() {
            running.server.abort();
        }
    }

    /// Another address from the next start on.
    pub async fn move_elsewhere(&mut self) {
        let listener = listen().await;
        self.address = listener.address();
        self.settings.record.control = self.address.clone();
        self.listener = Some(listener);
    }

    pub fn group(&self) -> &Group<Counters> {
        &self.running.as_ref().unwrap().group
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

/// A founder and joiners.
pub async fn cluster(count: usize, tune: impl Fn(&mut Settings)) -> (Arc<Installation>, Vec<Node>) {
    let installation = Installation::new();
    let mut nodes = Vec::new();
    for number in 1..=count {
        nodes.push(Node::new(&installation, &format!("n{number}")).await);
    }
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    for (at, node) in nodes.iter_mut().enumerate() {
        node.settings.found = at == 0;
        node.settings.join = match at {
            0 => Vec::new(),
            _ => addresses.clone(),
        };
        tune(&mut node.settings);
        node.start().await;
    }
    let voters = count.min(3);
    eventually("all voters vote", || {
        let status = nodes[0].group().status();
        status.members.iter().filter(|member| member.voter).count() == voters && status.members.len() == count
    })
    .await;
    (installation, nodes)
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("did not happen within 30 s: {what}");
}

/// The member in force as leader.
pub async fn leader(nodes: &[Node]) -> usize {
    let mut found = 0;
    eventually("a leader in force", || {
        let leader = nodes
            .iter()
            .position(|node| node.is_running() && node.group().status().epoch.is_some());
        found = leader.unwrap_or_default();
        leader.is_some()
    })
    .await;
    found
}

/// Proposes wherever the leader is, again and again; only for commands that may repeat.
pub async fn propose_somewhere(nodes: &[&Group<Counters>], command: Set) -> Done {
    for _ in 0..1500 {
        for group in nodes {
            if let Ok(done) = group.propose(command.clone()).await {
                return done;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody took the command within 30 s");
}

pub fn running(nodes: &[Node]) -> Vec<&Group<Counters>> {
    let running = nodes.iter().filter(|node| node.is_running());
    running.map(Node::group).collect()
}

pub async fn times(group: &Group<Counters>, key: &str) -> u64 {
    let key = key.to_owned();
    group.read(move |tables| count(tables, &key)).await.unwrap()
}

pub fn count(tables: &rusqlite::Connection, key: &str) -> rusqlite::Result<u64> {
    let times: Option<i64> = tables
        .prepare_cached("SELECT times FROM counters WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(times.unwrap_or(0).cast_unsigned())
}

pub fn epoch(status: &GroupStatus) -> Epoch {
    status.epoch.unwrap()
}

pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // A file may go while we look, as at any moment of a power cut.
        let _ = std::fs::copy(entry.path(), to.join(entry.file_name()));
    }
}
