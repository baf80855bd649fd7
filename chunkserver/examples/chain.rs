//! Client -> primary -> delegate in one process, over TLS on loopback: GiB/s, and CPU seconds per GiB of all three
//! together. Compare like with like: the congestion control in force is printed.
//!
//! ```text
//! cargo run --release -p dbfs-chunkserver --example chain -- [key=value]...
//!   sink=DIRECTORY           where the nodes keep chunks (default: a temporary folder)
//!   do=put|get|small         what to measure (default put)
//!   streams=4                connections at once       chunks=64      chunks of 64 MiB in all
//!   hash=no                  BLAKE3 at the client      congestion=cubic
//! ```

// A test that meets something else than it expects has nothing better to do than to fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../tests/data_plane/harness.rs"]
mod harness;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::net::Network;
use common::time::Clock;
use common::units::CHUNK_BYTES_MAX;
use dbfs_chunkserver::transfer::settings::DataPlaneSettings;
use harness::{Cluster, attempt_id, content, digest};
use proto::bulk::blocks;
use proto::bulk::frame::DATA_BYTES_MAX;
use proto::bulk::pipeline::SmallPut;
use proto::bulk::pool::{Limits, Pool};

const SMALL_BYTES: usize = 1024;

struct Options {
    sink: String,
    action: String,
    streams: u64,
    chunks: u64,
    hash: bool,
    congestion: String,
}

impl Options {
    fn parse() -> Self {
        let given: HashMap<String, String> = std::env::args()
            .skip(1)
            .filter_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                Some((key.to_owned(), value.to_owned()))
            })
            .collect();
        let get = |key: &str, default: &str| given.get(key).map_or(default, String::as_str).to_owned();
        Self {
            sink: get("sink", ""),
            action: get("do", "put"),
            streams: get("streams", "4").parse().expect("streams is a number"),
            chunks: get("chunks", "64").parse().expect("chunks is a number"),
            hash: get("hash", "no") == "yes",
            congestion: get("congestion", "cubic"),
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    let network = Network::tcp(Some(options.congestion.clone()));
    let sink = Some(Path::new(&options.sink)).filter(|sink| !sink.as_os_str().is_empty());
    let cluster = Arc::new(Cluster::start(2, DataPlaneSettings::default(), network, sink).await);
    let pool = Pool::new(cluster.dialer(), Limits::default());
    let clock = Clock::real();
    match options.action.as_str() {
        "put" => {
            let bytes = options.chunks * CHUNK_BYTES_MAX;
            measure(&clock, "put", bytes, put_all(&cluster, &pool, &options)).await;
        }
        "get" => {
            put_all(&cluster, &pool, &options).await;
            let bytes = options.chunks * CHUNK_BYTES_MAX;
            measure(&clock, "get", bytes, get_all(&cluster, &pool, &options)).await;
        }
        "small" => small_all(&cluster, &pool, &options, &clock).await,
        other => panic!("cannot do {other}"),
    }
    println!("peak memory {} MiB", peak_memory_mib());
}

async fn put_all(cluster: &Arc<Cluster>, pool: &Pool, options: &Options) {
    let next = Arc::new(AtomicU64::new(1));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..options.streams {
        let (cluster, pool, next) = (Arc::clone(cluster), pool.clone(), Arc::clone(&next));
        let (chunks, hash) = (options.chunks, options.hash);
        tasks.spawn(async move {
            let data = content(DATA_BYTES_MAX, 7);
            let target = cluster.nodes[0].target();
            loop {
                let attempt = next.fetch_add(1, Ordering::Relaxed);
                if attempt > chunks {
                    return;
                }
                let mut connection = pool.connection(&target).await.unwrap();
                let mut put = connection
                    .put(&cluster.begin(attempt, Some(CHUNK_BYTES_MAX)))
                    .unwrap();
                let mut hasher = common::digest::ChunkHasher::new(0);
                for frame in 0..(CHUNK_BYTES_MAX as usize / DATA_BYTES_MAX) as u32 {
                    let sums = blocks::checksums(attempt_id(attempt), frame * 16, &data);
                    if hash {
                        hasher.update(&data);
                    }
                    put.send(&data, &sums).await.unwrap();
                }
                put.finish(hasher.finish()).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

async fn get_all(cluster: &Arc<Cluster>, pool: &Pool, options: &Options) {
    let next = Arc::new(AtomicU64::new(1));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..options.streams {
        let (cluster, pool, next) = (Arc::clone(cluster), pool.clone(), Arc::clone(&next));
        let chunks = options.chunks;
        tasks.spawn(async move {
            let mut buffer = vec![0; DATA_BYTES_MAX];
            let target = cluster.nodes[0].target();
            loop {
                let attempt = next.fetch_add(1, Ordering::Relaxed);
                if attempt > chunks {
                    return;
                }
                let mut connection = pool.connection(&target).await.unwrap();
                let request = cluster.get_request(0, attempt, 0, CHUNK_BYTES_MAX);
                let mut get = connection.get(&request).await.unwrap();
                while get.next(&mut buffer).await.unwrap().is_some() {}
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// `chunks` x 1000 puts of 1 KiB, 64 in flight.
async fn small_all(cluster: &Arc<Cluster>, pool: &Pool, options: &Options, clock: &Clock) {
    let count = options.chunks * 1000;
    let next = Arc::new(AtomicU64::new(1));
    let (begun, cpu) = (clock.moment(), cpu_time());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (cluster, next) = (Arc::clone(cluster), Arc::clone(&next));
        let pipeline = pool.pipeline(&cluster.nodes[0].target()).await.unwrap();
        tasks.spawn(async move {
            let data = content(SMALL_BYTES, 3);
            loop {
                let attempt = next.fetch_add(1, Ordering::Relaxed);
                if attempt > count {
                    return;
                }
                let put = SmallPut {
                    begin: cluster.begin(attempt, None),
                    checksums: blocks::checksums(attempt_id(attempt), 0, &data),
                    digest: digest(&data),
                    data: data.clone(),
                };
                pipeline.put(put).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let seconds = clock.moment().since(begun).as_secs_f64();
    let cpu = (cpu_time() - cpu).as_secs_f64();
    println!(
        "small puts: {:.0} per s, {:.1} us of CPU each",
        count as f64 / seconds,
        cpu * 1e6 / count as f64
    );
}

async fn measure(clock: &Clock, what: &str, bytes: u64, work: impl Future<Output = ()>) {
    let (begun, cpu) = (clock.moment(), cpu_time());
    work.await;
    let seconds = clock.moment().since(begun).as_secs_f64();
    let cpu = (cpu_time() - cpu).as_secs_f64();
    let gib = bytes as f64 / (1_u64 << 30) as f64;
    println!(
        "{what}: {:.2} GiB/s at {:.2} CPU s per GiB",
        gib / seconds,
        cpu / gib
    );
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() / 1024
}
