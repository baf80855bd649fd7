//! What clusters last said about themselves: soft state of the leader, rebuilt within a heartbeat by the next one.
//!
//! Invariants: a report of a cluster's earlier leadership never replaces one of a later; choosing a cluster and counting
//! the choice as being on its way is one step, so that many uploads opened between two heartbeats spread; what another
//! leadership of the names group heard is forgotten, never trusted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::{ClusterId, Epoch, NodeId};
use common::random::Random;
use common::time::{Clock, Moment};
use parking_lot::Mutex;
use proto::names::v1::ClusterStatus;

use crate::core::placement::{Candidate, Policy, choose, counted, why_not};
use crate::core::refusal::Refusal;
use crate::store::cluster::Cluster;

/// A cloneable handle to the reports.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    clock: Clock,
    /// Guards the reports of one leadership of the names group.
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    leadership: Option<Epoch>,
    reports: BTreeMap<ClusterId, Report>,
}

/// What files that were assigned to a cluster add up to, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Assigned {
    /// What they count for in the balance, an assumption included.
    burden: u64,
    /// What is known to need room.
    known: u64,
}

impl Assigned {
    fn add(&mut self, size_hint: Option<u64>) {
        self.burden = self.burden.saturating_add(counted(size_hint));
        self.known = self.known.saturating_add(size_hint.unwrap_or(0));
    }
}

/// The last report of one cluster.
#[derive(Clone, Debug)]
struct Report {
    epoch: Epoch,
    heard: Moment,
    status: Arc<ClusterStatus>,
    registered: Arc<Cluster>,
    /// Assigned since the report before the last: the cluster's own count lags behind by up to one report.
    assigned_before: Assigned,
    assigned_since: Assigned,
}

/// A report as others see it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// As the cluster said.
    pub(crate) status: Arc<ClusterStatus>,
    /// How long ago.
    pub(crate) age: Duration,
    /// Why it gets no new files, if it does not.
    pub(crate) refuses_because: Option<String>,
}

impl Board {
    /// An empty board.
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            seen: Arc::default(),
        }
    }

    /// Takes in a report of the cluster's leadership `epoch`, heard by our leadership `ours`, and the cluster's row as
    /// the report left it.
    ///
    /// # Errors
    /// `Stale`: a later leadership of the cluster has reported.
    pub(crate) fn hear(
        &self,
        ours: Epoch,
        epoch: Epoch,
        status: ClusterStatus,
        registered: Cluster,
    ) -> Result<(), Refusal> {
        let heard = self.clock.moment();
        let id = registered.id;
        let mut seen = self.seen.lock();
        seen.enter(ours);
        let assigned_before = match seen.reports.get(&id) {
            Some(known) if known.epoch > epoch => return Err(stale(id, epoch, known.epoch)),
            Some(known) => known.assigned_since,
            None => Assigned::default(),
        };
        let report = Report {
            epoch,
            heard,
            status: Arc::new(status),
            registered: Arc::new(registered),
            assigned_before,
            assigned_since: Assigned::default(),
        };
        seen.reports.insert(id, report);
        Ok(())
    }

    /// Whether `epoch` is the cluster's latest leadership as far as our leadership `ours` knows.
    ///
    /// # Errors
    /// `Stale`: a later one has reported.
    pub(crate) fn check_epoch(&self, ours: Epoch, id: ClusterId, epoch: Epoch) -> Result<(), Refusal> {
        let mut seen = self.seen.lock();
        seen.enter(ours);
        match seen.reports.get(&id) {
            Some(known) if known.epoch > epoch => Err(stale(id, epoch, known.epoch)),
            Some(_) | None => Ok(()),
        }
    }

    /// Chooses a cluster for a file of `size_hint` bytes (`None`: not known) and counts the file as being on its way there.
    ///
    /// # Errors
    /// `Full` or `Retry`: see [`choose`].
    pub(crate) fn assign(
        &self,
        ours: Epoch,
        size_hint: Option<u64>,
        policy: Policy,
        random: &Random,
    ) -> Result<ClusterId, Refusal> {
        let now = self.clock.moment();
        let mut seen = self.seen.lock();
        seen.enter(ours);
        let candidates: Vec<_> = seen
            .reports
            .iter()
            .map(|(id, report)| report.candidate(*id, now))
            .collect();
        let chosen = choose(&candidates, size_hint, policy, random)?;
        if let Some(report) = seen.reports.get_mut(&chosen) {
            report.assigned_since.add(size_hint);
        }
        Ok(chosen)
    }

    /// The row of a cluster that has reported to our leadership `ours`.
    pub(crate) fn registered(&self, ours: Epoch, id: ClusterId) -> Option<Arc<Cluster>> {
        let mut seen = self.seen.lock();
        seen.enter(ours);
        let report = seen.reports.get(&id)?;
        Some(Arc::clone(&report.registered))
    }

    /// The node that leads the cluster, as it said last.
    pub(crate) fn leader_of(&self, id: ClusterId) -> Option<NodeId> {
        let seen = self.seen.lock();
        seen.reports.get(&id)?.status.leader_node_id.map(NodeId::new)
    }

    /// All reports.
    pub(crate) fn all(&self, policy: Policy) -> BTreeMap<ClusterId, Shown> {
        let now = self.clock.moment();
        let seen = self.seen.lock();
        let show = |(id, report): (&ClusterId, &Report)| {
            let candidate = report.candidate(*id, now);
            let shown = Shown {
                status: Arc::clone(&report.status),
                age: now.since(report.heard),
                refuses_because: why_not(&candidate, policy)
                    .map(|reason| format!("{reason}{}", said(&report.status))),
            };
            (*id, shown)
        };
        seen.reports.iter().map(show).collect()
    }

    /// Forgets what other leaderships of the names group heard.
    pub(crate) fn enter(&self, ours: Epoch) {
        self.seen.lock().enter(ours);
    }
}

/// What the cluster itself gave as its reason.
fn said(status: &ClusterStatus) -> String {
    if status.refuses_because.is_empty() {
        String::new()
    } else {
        format!(": {}", status.refuses_because)
    }
}

fn stale(id: ClusterId, epoch: Epoch, known: Epoch) -> Refusal {
    Refusal::new(
        Kind::Stale,
        "E_CLUSTER_EPOCH",
        format!("cluster {id} has a later leader: epoch {known}, not {epoch}"),
    )
}

impl Seen {
    fn enter(&mut self, ours: Epoch) {
        if self.leadership != Some(ours) {
            *self = Seen {
                leadership: Some(ours),
                reports: BTreeMap::new(),
            };
        }
    }
}

impl Report {
    fn candidate(&self, id: ClusterId, now: Moment) -> Candidate<ClusterId> {
        let load = self.status.load.unwrap_or_default();
        Candidate {
            id,
            silent_for: Some(now.since(self.heard)),
            accepts_files: self.status.accepts_files,
            cpu_permille: load.cpu_permille,
            memory_permille: load.memory_permille,
            capacity_bytes: load.capacity_bytes,
            free_bytes: load.free_bytes,
            on_the_way_bytes: load
                .in_flight_bytes
                .saturating_add(self.assigned_before.burden)
                .saturating_add(self.assigned_since.burden),
            booked_bytes: load
                .in_flight_bytes
                .saturating_add(self.assigned_before.known)
                .saturating_add(self.assigned_since.known),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::ids::Generation;
    use common::time::ManualTime;
    use proto::names::v1::Load;

    use super::*;
    use crate::store::cluster::ClusterNumber;

    const POLICY: Policy = Policy {
        silence_max: Duration::from_secs(5),
        high_water_permille: 900,
    };
    const OURS: Epoch = Epoch::new(1);

    fn status(leader: u64) -> ClusterStatus {
        ClusterStatus {
            accepts_files: true,
            leader_node_id: Some(leader),
            load: Some(Load {
                capacity_bytes: 1 << 40,
                free_bytes: 1 << 39,
                ..Load::default()
            }),
            ..ClusterStatus::default()
        }
    }

    fn row(number: u8) -> Cluster {
        Cluster {
            number: ClusterNumber::new(number.into()),
            id: id(number),
            name: String::new(),
            generation: Generation::new(1),
            site: String::new(),
            members: Vec::new(),
            releases_made: 0,
            releases_recorded: 0,
            retired: false,
        }
    }

    fn id(number: u8) -> ClusterId {
        ClusterId::new([number; 16])
    }

    #[test]
    fn a_later_leader_of_a_cluster_is_believed() {
        let time = ManualTime::default();
        let board = Board::new(time.clock());
        board.hear(OURS, Epoch::new(7), status(3), row(1)).unwrap();
        let late = board.hear(OURS, Epoch::new(6), status(2), row(1)).unwrap_err();
        assert_eq!(late.code(), "E_CLUSTER_EPOCH");
        assert_eq!(board.leader_of(id(1)), Some(NodeId::new(3)));
        assert!(board.check_epoch(OURS, id(1), Epoch::new(6)).is_err());
        assert!(board.check_epoch(OURS, id(1), Epoch::new(7)).is_ok());
        assert!(board.check_epoch(OURS, id(2), Epoch::new(1)).is_ok());
    }

    #[test]
    fn files_spread_between_two_heartbeats() {
        let time = ManualTime::default();
        let board = Board::new(time.clock());
        let random = Random::seeded(4);
        for number in [1, 2] {
            board.hear(OURS, Epoch::new(1), status(1), row(number)).unwrap();
        }
        let mut counts = BTreeMap::new();
        for _ in 0..10 {
            let chosen = board.assign(OURS, Some(200 << 20), POLICY, &random).unwrap();
            *counts.entry(chosen).or_insert(0) += 1;
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [5, 5]);
    }

    #[test]
    fn files_that_need_no_room_find_room() {
        let time = ManualTime::default();
        let board = Board::new(time.clock());
        let random = Random::seeded(4);
        let mut small = status(1);
        if let Some(load) = &mut small.load {
            (load.capacity_bytes, load.free_bytes) = (200 << 20, 200 << 20);
        }
        board.hear(OURS, Epoch::new(1), small, row(1)).unwrap();
        for size in [Some(0), None, Some(1000)] {
            for _ in 0..1000 {
                board.assign(OURS, size, POLICY, &random).unwrap();
            }
        }
        let refusal = board.assign(OURS, Some(100 << 20), POLICY, &random).unwrap_err();
        assert_eq!(refusal.code(), "E_NO_SPACE");
    }

    #[test]
    fn silence_and_new_leaderships_are_noticed() {
        let time = ManualTime::default();
        let board = Board::new(time.clock());
        let random = Random::seeded(4);
        board.hear(OURS, Epoch::new(1), status(1), row(1)).unwrap();
        assert!(board.all(POLICY)[&id(1)].refuses_because.is_none());
        time.advance(Duration::from_secs(6));
        assert!(
            board.all(POLICY)[&id(1)]
                .refuses_because
                .as_ref()
                .unwrap()
                .contains("heard")
        );
        assert!(board.assign(OURS, Some(1), POLICY, &random).is_err());
        board.hear(OURS, Epoch::new(1), status(1), row(1)).unwrap();
        assert!(board.assign(OURS, Some(1), POLICY, &random).is_ok());
        assert!(board.assign(Epoch::new(9), Some(1), POLICY, &random).is_err());
        assert!(board.all(POLICY).is_empty());
    }
}
