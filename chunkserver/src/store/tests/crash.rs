//! Crashes at every step. The model is a few maps; what must hold after a crash:
//!
//! - acknowledged and not dropped: there, whole, readable;
//! - neither acknowledged nor refused: there and whole, or not there;
//! - dropped and acknowledged: not there, then or later;
//! - the epoch is at least the highest that was acknowledged;
//! - no record is suspect or lost: a crash damages nothing.

use std::collections::{BTreeMap, BTreeSet};

use common::disk::simulated::{Faults, SimulatedDisk};
use common::ids::Epoch;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;

use super::super::Store;
use super::super::error::Error;
use super::lab::{Lab, append_all, attempt, begin, payload, read, write};

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// These lengths at once.
    Write(Vec<usize>),
    /// Begun, partly written, given up.
    Abandon(usize),
    /// One in so many of all attempts.
    Drop(u64),
    Raise,
    Checkpoint,
    /// The process ends and starts again; what it wrote stays.
    Kill,
    /// The power goes and comes back.
    PowerCut,
}

#[derive(Clone, Debug)]
struct Script {
    seed: u64,
    disks: usize,
    steps: Vec<Step>,
    /// Of each life, which step of the disk fails for lack of power.
    cuts: Vec<u64>,
}

#[derive(Default)]
pub(super) struct Model {
    next: u64,
    /// Attempts that may be there, with their length; true: must be.
    written: BTreeMap<u64, (usize, bool)>,
    /// Drop ordered; true: acknowledged.
    dropped: BTreeMap<u64, bool>,
    pub(super) epoch: u64,
    epoch_acknowledged: u64,
}

impl Model {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The last record that was written.
    pub(super) const fn last(&self) -> u64 {
        self.next
    }

    /// What is shown is durable, and must be there from now on.
    pub(super) async fn check(&mut self, store: &Store, context: &str) {
        let listed: BTreeSet<u64> = store
            .inventory(None, None, usize::MAX)
            .iter()
            .map(|item| item.attempt.sequence())
            .collect();
        for (sequence, (length, acknowledged)) in &mut self.written {
            let dropped = self.dropped.get(sequence);
            let content = read(store, *sequence).await;
            match (&content, dropped) {
                (Ok(content), None | Some(false)) => {
                    assert!(
                        *content == payload(*sequence, *length),
                        "{context}: {sequence} is torn"
                    );
                    assert!(listed.contains(sequence), "{context}: {sequence} is not listed");
                    *acknowledged = true;
                    store.verify(attempt(*sequence)).await.unwrap();
                }
                (Ok(_), Some(true)) => panic!("{context}: {sequence} came back"),
                (Err(Error::NotFound { .. }), None) => {
                    assert!(!*acknowledged, "{context}: {sequence} of {length} bytes is lost");
                    assert!(!listed.contains(sequence), "{context}: {sequence} is listed");
                }
                (Err(Error::NotFound { .. } | Error::Dropped { .. }), Some(_)) => {
                    assert!(!listed.contains(sequence), "{context}: {sequence} is listed");
                }
                (Err(error), _) => panic!("{context}: {sequence}: {error}"),
            }
        }
        for sequence in listed {
            assert!(
                self.written.contains_key(&sequence),
                "{context}: {sequence} was never written"
            );
        }
        assert!(store.suspects(9).is_empty(), "{context}: a crash damages nothing");
        assert!(
            store.epoch().get() >= self.epoch_acknowledged,
            "{context}: the epoch went back"
        );
    }

    pub(super) async fn run(&mut self, store: &Store, step: &Step) {
        match step {
            Step::Write(lengths) => {
                let tasks: Vec<_> = lengths
                    .iter()
                    .map(|length| {
                        let (sequence, length) = (self.next(), *length);
                        let store = store.clone();
                        let task = tokio::spawn(async move { write(&store, sequence, length).await.is_ok() });
                        (sequence, length, task)
                    })
                    .collect();
                for (sequence, length, task) in tasks {
                    let acknowledged = task.await.unwrap();
                    self.written.insert(sequence, (length, acknowledged));
                }
            }
            Step::Abandon(length) => {
                let sequence = self.next();
                if let Ok(mut writer) = begin(store, sequence, *length).await {
                    // What the disk says no longer matters.
                    let _ = append_all(&mut writer, sequence, length / 2 + 1, 16).await;
                }
            }
            Step::Drop(one_in) => {
                let chosen: Vec<u64> = (1..=self.next)
                    .filter(|sequence| sequence % one_in == 0)
                    .collect();
                let attempts: Vec<_> = chosen.iter().map(|sequence| attempt(*sequence)).collect();
                let acknowledged = store
                    .drop_attempts(Epoch::new(self.epoch), &attempts)
                    .await
                    .is_ok_and(|dropped| dropped.failure.is_none());
                for sequence in chosen {
                    *self.dropped.entry(sequence).or_default() |= acknowledged;
                }
            }
            Step::Raise => {
                self.epoch += 1;
                if store.raise_epoch(Epoch::new(self.epoch)).await.is_ok() {
                    self.epoch_acknowledged = self.epoch;
                }
            }
            Step::Checkpoint => {
                let _ = store.checkpoint().await;
            }
            Step::Kill | Step::PowerCut => {}
        }
    }
}

/// Runs the script; in each life the power fails at the step that `cuts` names, if that comes.
async fn run(script: &Script) {
    let lab = Lab::simulated(script.seed, script.disks);
    let mut model = Model::default();
    let mut cuts = script.cuts.iter();
    let mut store = lab.open().await.0;
    let arm = |cut: Option<&u64>| {
        let disk = lab.disk();
        let power_cut_at = cut.map(|steps| disk.steps() + steps);
        disk.set_faults(Faults {
            power_cut_at,
            ..Faults::default()
        });
    };
    arm(cuts.next());
    for (at, step) in script.steps.iter().enumerate() {
        let context = format!("{script:?} at {at}");
        model.run(&store, step).await;
        let dark = lab.disks().iter().any(SimulatedDisk::is_without_power);
        let restarts = matches!(step, Step::Kill | Step::PowerCut);
        if !dark && !restarts {
            continue;
        }
        drop(store);
        let survivor = if dark || matches!(step, Step::PowerCut) {
            None
        } else {
            after_kill(&lab).await
        };
        store = match survivor {
            Some(store) => store,
            None => reopen_through_cuts(&lab, cuts.next().copied()).await,
        };
        model.check(&store, &context).await;
        arm(cuts.next());
    }
    drop(store);
    for _ in 0..2 {
        let (store, reports) = lab.after_power_cut().await;
        assert!(
            reports.iter().all(|report| report.problems.is_empty()),
            "{reports:?}"
        );
        model.check(&store, &format!("{script:?} at the end")).await;
    }
}

/// Starts a process after another was killed; `None` if the power fails meanwhile.
async fn after_kill(lab: &Lab) -> Option<Store> {
    lab.disks().iter().for_each(SimulatedDisk::end_process);
    let opened = lab.try_open(super::lab::IDENTITY).await;
    let dark = lab.disks().iter().any(SimulatedDisk::is_without_power);
    if dark { None } else { Some(opened.unwrap().0) }
}

/// The power comes back, and may fail again while the store recovers.
async fn reopen_through_cuts(lab: &Lab, cut: Option<u64>) -> Store {
    lab.disks().iter().for_each(SimulatedDisk::restart);
    if let Some(steps) = cut {
        let power_cut_at = Some(lab.disk().steps() + steps % 8 + 1);
        lab.disk().set_faults(Faults {
            power_cut_at,
            ..Faults::default()
        });
        drop(lab.try_open(super::lab::IDENTITY).await);
    }
    lab.after_power_cut().await.0
}

pub(super) fn in_runtime(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![
        5 => 1..9000_usize,
        2 => 60_000..70_000_usize,
        2 => 70_000..400_000_usize,
        1 => 1_000_000..1_300_000_usize,
    ];
    let step = prop_oneof![
        8 => proptest::collection::vec(length.clone(), 1..5).prop_map(Step::Write),
        2 => length.prop_map(Step::Abandon),
        3 => (2..6_u64).prop_map(Step::Drop),
        1 => Just(Step::Raise),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
    ];
    proptest::collection::vec(step, 1..14)
}

fn scripts() -> impl Strategy<Value = Script> {
    let cuts = proptest::collection::vec(1..60_u64, 0..4);
    (any::<u64>(), 1..3_usize, steps(), cuts).prop_map(|(seed, disks, steps, cuts)| Script {
        seed,
        disks,
        steps,
        cuts,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_crash_keeps_the_promises(script in scripts()) {
        in_runtime(run(&script));
        Ok::<(), TestCaseError>(())?;
    }
}

/// The first start of all, with the power cut at every step of it.
#[test]
fn a_crash_of_the_first_start_leaves_a_directory_that_can_be_used() {
    for cut in 1..30 {
        for seed in 0..4 {
            let lab = Lab::simulated(seed, 1);
            in_runtime(async {
                lab.disk().set_faults(Faults {
                    power_cut_at: Some(cut),
                    ..Faults::default()
                });
                drop(lab.try_open(super::lab::IDENTITY).await);
                let store = lab.after_power_cut().await.0;
                write(&store, 1, 100).await.unwrap();
                super::lab::assert_stored(&lab.after_power_cut().await.0, 1, 100).await;
            });
        }
    }
}

/// A checkpoint is written only when the holes are durable of which it says nothing any more: nothing else remembers
/// the deletion once the journals are gone.
#[test]
fn what_a_checkpoint_no_longer_names_is_gone_for_good() {
    for seed in 0..30 {
        let lab = Lab::simulated(seed, 1);
        in_runtime(async {
            let store = lab.open().await.0;
            for sequence in 0..6 {
                write(&store, sequence, 300).await.unwrap();
            }
            let dropped: Vec<_> = (0..4).map(attempt).collect();
            store.drop_attempts(Epoch::new(1), &dropped).await.unwrap();
            // In another segment, so that no sync of theirs makes the holes durable.
            for sequence in 10..13 {
                write(&store, sequence, 70_000).await.unwrap();
                store.checkpoint().await.unwrap();
            }
            lab.disk().restart();
            for name in lab.disk().names() {
                if name.starts_with("checkpoint-") {
                    lab.disk().lose(&name);
                }
            }
            let store = lab.open().await.0;
            for sequence in 0..4 {
                assert!(
                    read(&store, sequence).await.is_err(),
                    "seed {seed}: {sequence} came back"
                );
            }
            super::lab::assert_stored(&store, 5, 300).await;
        });
    }
}

/// The index is copied in slices: what is entered and dropped between two of them is neither lost nor brought back.
#[test]
fn records_entered_while_a_checkpoint_is_copied_are_kept() {
    for seed in 0..24 {
        let lab = Lab::simulated(seed, 1);
        in_runtime(async {
            let store = lab.open().await.0;
            for sequence in 0..24 {
                write(&store, sequence, 300).await.unwrap();
            }
            let later = [(100, 700), (101, 70_000), (102, 20), (103, 90_000), (104, 5)];
            let writes = async {
                for (sequence, length) in later {
                    write(&store, sequence, length).await.unwrap();
                }
            };
            let drops = async {
                for sequence in [20, 3, 100] {
                    store
                        .drop_attempts(Epoch::new(1), &[attempt(sequence)])
                        .await
                        .unwrap();
                }
            };
            let (checkpoint, (), ()) = tokio::join!(store.checkpoint(), writes, drops);
            checkpoint.unwrap();
            drop(store);
            let store = if seed % 2 == 0 {
                lab.after_kill().await.0
            } else {
                lab.after_power_cut().await.0
            };
            for sequence in [20, 3, 100] {
                assert!(
                    read(&store, sequence).await.is_err(),
                    "seed {seed}: {sequence} came back"
                );
            }
            for sequence in [0, 4, 19, 23] {
                super::lab::assert_stored(&store, sequence, 300).await;
            }
            for (sequence, length) in later.into_iter().skip(1) {
                super::lab::assert_stored(&store, sequence, length).await;
            }
        });
    }
}

/// One busy life, with the power cut at every single step of it, in three ways of losing what was not synced.
#[test]
fn a_crash_at_every_step_keeps_the_promises() {
    let life = vec![
        Step::Write(vec![300, 4000, 70_000, 20]),
        Step::Raise,
        Step::Abandon(1_200_000),
        Step::Write(vec![1_100_000, 500, 100_000]),
        Step::Drop(3),
        Step::Checkpoint,
        Step::Write(vec![200_000, 60_000, 900]),
        Step::Drop(2),
        Step::Write(vec![400_000, 10]),
        Step::Kill,
        Step::Write(vec![80_000, 700]),
        Step::Drop(5),
        Step::Checkpoint,
        Step::Checkpoint,
        Step::PowerCut,
        Step::Write(vec![3]),
    ];
    for cut in 1..130 {
        for seed in 0..3 {
            let script = Script {
                seed,
                disks: 1,
                steps: life.clone(),
                cuts: vec![cut],
            };
            in_runtime(run(&script));
        }
    }
}
