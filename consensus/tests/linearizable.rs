//! Clients add to counters and read them through all members while leaders are cut off; every history must have an
//! order in which each operation takes effect once, between its call and its answer.
//!
//! An add answers with the counter's new value, so the values themselves are the order: nothing has to be searched for,
//! and operations whose outcome is unknown cost nothing.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, reason = "a test waits by the machine's clock")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::random::Random;
use dbfs_consensus::{Error, Group, Role};
use dbfs_tests::partition::Cuts;
use parking_lot::Mutex;
use support::{Counters, cluster, count, eventually, leader, set};

const KEYS: u64 = 4;
const CLIENTS: u64 = 6;
const ROUNDS_OF_FAULTS: usize = 5;

/// What one client did, in moments that count calls and answers of all clients.
#[derive(Clone, Copy, Debug)]
struct Operation {
    adds: bool,
    called: u64,
    /// The moment of the answer and the counter's value in it; `None` while nobody knows what came of it.
    answer: Option<(u64, u64)>,
}

#[derive(Default)]
struct Histories {
    moment: u64,
    by_key: [Vec<Operation>; KEYS as usize],
}

impl Histories {
    fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn call(&mut self, key: u64, adds: bool) -> usize {
        let called = self.tick();
        let history = &mut self.by_key[key as usize];
        history.push(Operation {
            adds,
            called,
            answer: None,
        });
        history.len() - 1
    }

    fn answer(&mut self, key: u64, at: usize, value: u64) {
        let moment = self.tick();
        self.by_key[key as usize][at].answer = Some((moment, value));
    }
}

/// Why no order explains `history`, if none does.
fn contradiction(history: &[Operation]) -> Option<String> {
    let answered = || {
        history
            .iter()
            .filter_map(|it| it.answer.map(|(moment, value)| (it, moment, value)))
    };
    let mut adds = std::collections::BTreeMap::new();
    for (it, _, value) in answered().filter(|(it, _, _)| it.adds) {
        if let Some(other) = adds.insert(value, it) {
            return Some(format!("two adds made {value}: {it:?} and {other:?}"));
        }
    }
    for (it, answered_at, value) in answered() {
        // Nothing that was over before the call may be later in the order.
        let before = answered().filter(|(_, moment, _)| *moment < it.called);
        let least = before.map(|(_, _, value)| value).max().unwrap_or(0) + u64::from(it.adds);
        if value < least {
            return Some(format!("{it:?} answers {value} when at least {least} was there"));
        }
        // Every unit of the value is an add that was called by then.
        let called = history
            .iter()
            .filter(|it| it.adds && it.called < answered_at)
            .count() as u64;
        let too_early = adds.range(..=value).any(|(_, add)| add.called > answered_at);
        if value > called || too_early {
            return Some(format!("{it:?} answers {value}, which nobody had made"));
        }
    }
    None
}

async fn client(
    groups: Vec<Group<Counters>>,
    histories: Arc<Mutex<Histories>>,
    random: Random,
    over: Arc<AtomicBool>,
) {
    while !over.load(Ordering::Relaxed) {
        let key = random.below(KEYS);
        let group = &groups[random.below(groups.len() as u64) as usize];
        let adds = random.below(2) == 0;
        if adds && group.status().epoch.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let at = histories.lock().call(key, adds);
        let text = format!("key-{key}");
        let answer = if adds {
            group.propose(set(text)).await.map(|done| done.times)
        } else {
            group.read(move |tables| count(tables, &text)).await
        };
        if let Ok(value) = answer {
            histories.lock().answer(key, at, value);
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
    let histories = Arc::new(Mutex::new(Histories::default()));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let random = Random::seeded(random.number());
            tokio::spawn(client(
                groups.clone(),
                Arc::clone(&histories),
                random,
                Arc::clone(&over),
            ))
        })
        .collect();
    for _ in 0..ROUNDS_OF_FAULTS {
        let at = leader(&nodes).await;
        tokio::time::sleep(Duration::from_millis(random.below(400))).await;
        let others = addresses.iter().filter(|address| **address != addresses[at]);
        cuts.isolate(&addresses[at], others);
        tokio::time::sleep(Duration::from_millis(500 + random.below(3000))).await;
        cuts.heal();
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let histories = histories.lock();
    for (key, history) in histories.by_key.iter().enumerate() {
        let answered = history.iter().filter(|it| it.answer.is_some()).count();
        assert!(
            answered > 10,
            "key {key}: {answered} of {} answered",
            history.len()
        );
        let wrong = contradiction(history);
        assert!(wrong.is_none(), "key {key}, seed {seed}: {wrong:?}\n{history:?}");
    }
}

/// One client's calls, one after the other.
#[derive(Default)]
struct Recorder(Mutex<Histories>);

impl Recorder {
    async fn add(&self, group: &Group<Counters>) -> Result<u64, Error> {
        let at = self.0.lock().call(0, true);
        let answer = group.propose(set("k")).await.map(|done| done.times);
        self.note(at, answer)
    }

    async fn read(&self, group: &Group<Counters>) -> Result<u64, Error> {
        let at = self.0.lock().call(0, false);
        let answer = group.read(|tables| count(tables, "k")).await;
        self.note(at, answer)
    }

    fn note(&self, at: usize, answer: Result<u64, Error>) -> Result<u64, Error> {
        if let Ok(value) = answer {
            self.0.lock().answer(0, at, value);
        }
        answer
    }

    fn check(&self) {
        let histories = self.0.lock();
        let history = &histories.by_key[0];
        let wrong = contradiction(history);
        assert!(wrong.is_none(), "{wrong:?}\n{history:?}");
    }
}

/// Threads of one member, which can be stopped all at once.
struct Pausable(Option<tokio::runtime::Runtime>);

impl Pausable {
    fn new() -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self(Some(threads.unwrap()))
    }

    fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().unwrap().handle().clone()
    }

    /// Nothing runs here until what is returned is dropped.
    fn pause(&self) -> std::sync::mpsc::Sender<()> {
        let (resume, resumed) = std::sync::mpsc::channel();
        self.handle().spawn(async move { resumed.recv().is_ok() });
        resume
    }
}

impl Drop for Pausable {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

/// The leader's clock is slow, so that its lease seems to last while the others elect another. It is paused, cut off and
/// deposed, and read from all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_deposed_answers_no_read_from_what_it_has() {
    let cuts = Cuts::default();
    let threads = Pausable::new();
    let (_installation, nodes) = cluster(3, |settings| {
        settings.network = cuts.network(&settings.record.control);
        settings.timings.propose_timeout = Duration::from_secs(1);
        settings.timings.read_timeout = Duration::from_secs(1);
        if settings.found {
            settings.timings.election_min = Duration::from_secs(20);
            settings.timings.election_max = Duration::from_secs(40);
            settings.runtime = Some(threads.handle());
        }
    })
    .await;
    let (old, others) = nodes.split_first().unwrap();
    assert_eq!(leader(&nodes).await, 0, "the founder leads");
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let recorder = Recorder::default();
    recorder.add(old.group()).await.unwrap();
    assert_eq!(recorder.read(old.group()).await.unwrap(), 1);
    let paused = threads.pause();
    cuts.isolate(&addresses[0], &addresses[1..]);
    let next = &others[leader(others).await];
    assert_eq!(recorder.add(next.group()).await.unwrap(), 2);
    // The first is asked while nothing runs there, the others while it believes that it leads.
    let (first, ()) = tokio::join!(recorder.read(old.group()), async { drop(paused) });
    assert!(first.is_err(), "{first:?}");
    assert!(old.group().status().epoch.is_some(), "it knows nothing yet");
    for node in &nodes {
        let _ = recorder.read(node.group()).await;
        recorder.check();
    }
    cuts.heal();
    eventually("it follows", || old.group().status().role == Role::Follower).await;
    assert_eq!(recorder.read(old.group()).await.unwrap(), 2);
    recorder.check();
    for node in &nodes {
        node.group().shutdown().await;
    }
}

/// A member knows how far it must have applied before it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_until_its_position_is_applied() {
    let (_installation, nodes) = cluster(3, |_| {}).await;
    let at = leader(&nodes).await;
    let slow = &nodes[(at + 1) % 3];
    slow.machine.slow_millis.store(300, Ordering::Relaxed);
    let recorder = Recorder::default();
    for _ in 0..2 {
        recorder.add(nodes[at].group()).await.unwrap();
        recorder.read(slow.group()).await.unwrap();
        recorder.check();
    }
}

#[test]
fn the_checker_notices_what_no_order_explains() {
    let operation = |adds, called, answered, value| Operation {
        adds,
        called,
        answer: Some((answered, value)),
    };
    let add = operation(true, 1, 3, 1);
    assert_eq!(contradiction(&[add, operation(false, 2, 4, 0)]), None, "at once");
    assert!(
        contradiction(&[add, operation(false, 4, 5, 0)]).is_some(),
        "a stale read"
    );
    assert!(
        contradiction(&[add, operation(true, 4, 5, 1)]).is_some(),
        "a lost add"
    );
    assert!(
        contradiction(&[add, operation(false, 4, 5, 2)]).is_some(),
        "an add from nowhere"
    );
    let unknown = Operation {
        adds: true,
        called: 2,
        answer: None,
    };
    assert_eq!(contradiction(&[add, unknown, operation(false, 4, 5, 2)]), None);
    assert_eq!(contradiction(&[add, unknown, operation(false, 4, 5, 1)]), None);
}
