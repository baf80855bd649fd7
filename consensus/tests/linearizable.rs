//! Clients add to counters and read them through all members while leaders are cut off; every history must have an
//! order in which each operation takes effect once, between its call and its answer.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test waits by the machine's clock")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use common::random::Random;
use dbfs_consensus::{Error, Group};
use parking_lot::Mutex;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use support::partition::Cuts;
use support::{Counters, cluster, count, leader, set};

const KEYS: u64 = 4;
const CLIENTS: u64 = 6;
/// The checker's time grows with the length of a history.
const OPERATIONS_PER_KEY: usize = 250;
const ROUNDS_OF_FAULTS: usize = 5;

#[derive(Clone, Debug, Default)]
struct Counter(u64);

#[derive(Clone, Debug)]
enum Operation {
    Add,
    Read,
}

impl SequentialSpec for Counter {
    type Op = Operation;
    type Ret = u64;
    fn invoke(&mut self, operation: &Operation) -> u64 {
        if let Operation::Add = operation {
            self.0 += 1;
        }
        self.0
    }
}

type Tester = LinearizabilityTester<u64, Counter>;

/// One history per key. A client whose outcome is unknown never answers: it goes on under another name.
struct Histories {
    testers: Vec<Tester>,
    names: u64,
}

fn rename(histories: &Mutex<Histories>) -> u64 {
    let mut histories = histories.lock();
    histories.names += 1;
    histories.names
}

async fn client(groups: Vec<Group<Counters>>, histories: Arc<Mutex<Histories>>, random: Random) {
    let mut name = rename(&histories);
    loop {
        let key = random.below(KEYS);
        let group = &groups[random.below(groups.len() as u64) as usize];
        let adds = random.below(2) == 0;
        if adds && group.status().epoch.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let operation = if adds { Operation::Add } else { Operation::Read };
        {
            let mut histories = histories.lock();
            let tester = &mut histories.testers[key as usize];
            if tester.len() >= OPERATIONS_PER_KEY {
                return;
            }
            tester.on_invoke(name, operation).unwrap();
        }
        let text = format!("key-{key}");
        let answer = if adds {
            group.propose(set(text)).await.map(|done| done.times)
        } else {
            group.read(move |tables| count(tables, &text)).await
        };
        match answer {
            Ok(value) => {
                let mut histories = histories.lock();
                histories.testers[key as usize].on_return(name, value).unwrap();
            }
            // Whatever it was, it may count as never having happened or as happening later.
            Err(Error::Stale { .. }) => unreachable!("no epoch was asked for"),
            Err(_) => name = rename(&histories),
        }
        tokio::time::sleep(Duration::from_millis(random.below(20))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_under_partitions_are_linearizable() {
    let seed = Random::system().number();
    println!("seed {seed}");
    let random = Random::seeded(seed);
    let cuts = Cuts::default();
    let (_installation, nodes) = cluster(3, |settings| {
        settings.network = cuts.network(&settings.record.control);
        settings.timings.propose_timeout = Duration::from_secs(2);
        settings.timings.read_timeout = Duration::from_secs(2);
    })
    .await;
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let groups: Vec<_> = nodes.iter().map(|node| node.group().clone()).collect();
    let histories = Arc::new(Mutex::new(Histories {
        testers: (0..KEYS).map(|_| Tester::new(Counter::default())).collect(),
        names: 0,
    }));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (groups, histories) = (groups.clone(), Arc::clone(&histories));
        clients.push(tokio::spawn(client(groups, histories, Random::seeded(random.number()))));
    }
    for _ in 0..ROUNDS_OF_FAULTS {
        let at = leader(&nodes).await;
        tokio::time::sleep(Duration::from_millis(random.below(400))).await;
        let others = addresses.iter().filter(|address| **address != addresses[at]);
        cuts.isolate(&addresses[at], others);
        tokio::time::sleep(Duration::from_millis(500 + random.below(3000))).await;
        cuts.heal();
    }
    for client in clients {
        client.await.unwrap();
    }
    let histories = Arc::try_unwrap(histories).ok().unwrap().into_inner();
    for (key, tester) in histories.testers.into_iter().enumerate() {
        let operations = tester.len();
        let order = tester.serialized_history();
        assert!(order.is_some(), "key {key}: {operations} operations have no order; seed {seed}\n{tester:?}");
    }
}

#[test]
fn the_checker_notices_a_stale_read() {
    let mut tester = Tester::new(Counter::default());
    tester.on_invoke(1, Operation::Add).unwrap();
    tester.on_return(1, 1).unwrap();
    tester.on_invoke(2, Operation::Read).unwrap();
    tester.on_return(2, 0).unwrap();
    assert!(tester.serialized_history().is_none());
}
