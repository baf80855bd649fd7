//! How many commands per second a group of three takes, all members in this process, over TLS on loopback, on real
//! files: `cargo run --release -p dbfs-consensus --example throughput [seconds] [runtime threads]`.
//!
//! Each proposer waits for its answer before it proposes again; each command updates one row of one table.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a measurement, not a product"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::net::Network;
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::tls::{self, ALPN_CONTROL, Authority, Identity, Reloadable, Role};
use dbfs_consensus::{Applying, Group, Limits, Machine, MemberRecord, Settings, Timings};
use proto::control::{Limits as ServerLimits, Routes, serve};
use rusqlite::{Transaction, params};

struct Rows;

#[derive(Clone, PartialEq, prost::Message)]
struct Put {
    #[prost(uint64, tag = "1")]
    key: u64,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Done {}

impl Machine for Rows {
    type Command = Put;
    type Reply = Done;

    fn create(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute_batch(
            "CREATE TABLE IF NOT EXISTS rows (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT",
        )
    }

    fn apply(&mut self, tx: &Transaction<'_>, _: &Applying, put: Put) -> rusqlite::Result<Done> {
        tx.prepare_cached("INSERT OR REPLACE INTO rows (key, value) VALUES (?1, ?2)")?
            .execute(params![put.key.cast_signed(), put.value])?;
        Ok(Done {})
    }
}

async fn start(root: &Path, identity: &Identity, name: &str, join: Vec<String>) -> (Group<Rows>, String) {
    let network = Network::tcp(None);
    let listener = network.bind("127.0.0.1:0").await.unwrap();
    let address = listener.address();
    let settings = Settings {
        directory: root.join(name),
        label: "names".to_owned(),
        role: Role::Supernode,
        tls: Arc::new(identity.client_config(ALPN_CONTROL).unwrap()),
        record: MemberRecord {
            control: address.clone(),
            name: name.to_owned(),
            ..MemberRecord::default()
        },
        found: join.is_empty(),
        join,
        voters: 3,
        timings: Timings::default(),
        limits: Limits::default(),
        clock: Clock::real(),
        random: Random::system(),
        network,
        shutdown: Shutdown::new(),
        runtime: None,
    };
    let group = Group::open(settings, Rows).await.unwrap();
    tokio::spawn(serve(
        listener,
        Reloadable::new(identity.server_config(ALPN_CONTROL).unwrap()),
        group.routes(Routes::new()),
        Shutdown::new(),
        Clock::real(),
        ServerLimits::default(),
    ));
    (group, address)
}

async fn measure(leader: &Group<Rows>, proposers: u64, seconds: u64) {
    let count = Arc::new(AtomicU64::new(0));
    let micros = Arc::new(AtomicU64::new(0));
    let stop = Shutdown::new();
    let mut tasks = Vec::new();
    for task in 0..proposers {
        let (leader, count, micros, stop) = (
            leader.clone(),
            Arc::clone(&count),
            Arc::clone(&micros),
            stop.clone(),
        );
        tasks.push(tokio::spawn(async move {
            let mut key = task << 32;
            while !stop.is_triggered() {
                let began = Instant::now();
                let put = Put {
                    key,
                    value: vec![7; 200],
                };
                leader.propose(put).await.unwrap();
                micros.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
                key += 1;
            }
        }));
    }
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (done, spent) = (count.load(Ordering::Relaxed), micros.load(Ordering::Relaxed));
    let rate = done as f64 / began.elapsed().as_secs_f64();
    stop.trigger();
    for task in tasks {
        task.await.unwrap();
    }
    let mean = Duration::from_micros(spent / done.max(1));
    println!("{proposers:4} proposers: {rate:8.0} commits/s, {mean:?} each on average");
}

async fn measure_reads(member: &Group<Rows>, readers: u64, seconds: u64, what: &str) {
    let count = Arc::new(AtomicU64::new(0));
    let stop = Shutdown::new();
    let mut tasks = Vec::new();
    for _ in 0..readers {
        let (member, count, stop) = (member.clone(), Arc::clone(&count), stop.clone());
        tasks.push(tokio::spawn(async move {
            while !stop.is_triggered() {
                let query = |tables: &rusqlite::Connection| {
                    tables
                        .prepare_cached("SELECT value FROM rows WHERE key = 5")?
                        .query_row([], |row| row.get::<_, Vec<u8>>(0))
                };
                member.read(query).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let rate = count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    stop.trigger();
    for task in tasks {
        task.await.unwrap();
    }
    println!("{readers:4} readers on the {what}: {rate:8.0} linearizable reads/s");
}

async fn run(seconds: u64) {
    tls::install_provider();
    common::telemetry::start("error").unwrap();
    let root = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(root.path()).unwrap();
    authority
        .issue(&Role::Supernode, &[], &root.path().join("tls"))
        .unwrap();
    let identity = Identity::load(&root.path().join("tls")).unwrap();
    let (first, address) = start(root.path(), &identity, "n1", Vec::new()).await;
    let (second, _) = start(root.path(), &identity, "n2", vec![address.clone()]).await;
    let (third, _) = start(root.path(), &identity, "n3", vec![address]).await;
    let mut status = first.watch();
    status
        .wait_for(|status| status.members.iter().filter(|member| member.voter).count() == 3)
        .await
        .unwrap();
    for proposers in [1, 16, 64, 256] {
        measure(&first, proposers, seconds).await;
    }
    measure_reads(&first, 64, seconds, "leader").await;
    measure_reads(&second, 64, seconds, "follower").await;
    let began = Instant::now();
    let others = [second, third];
    first.shutdown().await;
    while others.iter().all(|group| group.status().epoch.is_none()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("an orderly hand-over took {:?}", began.elapsed());
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let seconds = arguments.next().unwrap_or(5);
    let threads = arguments.next().unwrap_or(2);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads as usize)
        .enable_all()
        .build()
        .unwrap()
        .block_on(run(seconds));
}
