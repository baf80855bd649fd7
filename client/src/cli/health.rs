//! Whether an installation does well, as one word and a list of what is wrong: pure, from its status.

use std::time::Duration;

use crate::names::{ClusterState, Installation, NodeCondition};

/// A report older than this is no news: its cluster's leader is silent.
const REPORT_AGE_MAX: Duration = Duration::from_secs(10);

/// One word for the whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Health {
    /// Everything that is promised holds.
    Healthy,
    /// It works, but something needs repair or attention.
    Degraded,
    /// Something does not work at the moment.
    Unavailable,
}

impl Health {
    /// The word for people and scripts.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Unavailable => "unavailable",
        }
    }
}

/// One word, and what is wrong.
pub(super) fn judge(installation: &Installation) -> (Health, Vec<String>) {
    let mut found = Vec::new();
    if installation.names.leader.is_none() {
        found.push((Health::Unavailable, "the names group has no leader".to_owned()));
    }
    if installation.clusters.is_empty() {
        found.push((
            Health::Unavailable,
            "no cluster has registered: files have no place to go".to_owned(),
        ));
    }
    for cluster in &installation.clusters {
        judge_cluster(cluster, &mut found);
    }
    let worst = found
        .iter()
        .map(|(health, _)| *health)
        .max()
        .unwrap_or(Health::Healthy);
    (worst, found.into_iter().map(|(_, text)| text).collect())
}

fn judge_cluster(cluster: &ClusterState, found: &mut Vec<(Health, String)>) {
    let name = &cluster.name;
    let silence = match cluster.report_age {
        Some(age) if age <= REPORT_AGE_MAX => None,
        Some(age) => Some(format!("last reported {} ago", super::human::span(age))),
        None => Some("has not reported to the supernode that answers".to_owned()),
    };
    if let Some(silence) = silence {
        found.push((Health::Unavailable, format!("cluster {name} {silence}")));
    } else if cluster.leader.is_none() {
        found.push((Health::Unavailable, format!("cluster {name} has no leader")));
    }
    for node in &cluster.nodes {
        let text = |what: &str| format!("node {} of cluster {name} is {what}", node.member.name);
        match node.condition {
            NodeCondition::Live | NodeCondition::Gone => {}
            NodeCondition::Suspect => found.push((Health::Degraded, text("silent"))),
            NodeCondition::Dead => found.push((Health::Degraded, text("dead"))),
            NodeCondition::Joining => found.push((Health::Degraded, text("joining"))),
            NodeCondition::Draining => found.push((Health::Degraded, text("being drained"))),
            NodeCondition::Unknown => found.push((Health::Degraded, text("in an unknown state"))),
        }
    }
    for (node, disk) in cluster
        .nodes
        .iter()
        .flat_map(|node| node.disks.iter().map(move |disk| (node, disk)))
    {
        if let Err(reason) = &disk.writable {
            let (path, name) = (&disk.path, &node.member.name);
            found.push((
                Health::Degraded,
                format!("disk {path} of node {name} takes no new data: {reason}"),
            ));
        }
    }
    if cluster.under_replicated_chunks > 0 {
        let chunks = super::human::count(cluster.under_replicated_chunks, "chunk");
        found.push((
            Health::Degraded,
            format!("{chunks} of cluster {name} have fewer copies than promised"),
        ));
    }
    if let Err(reason) = &cluster.accepts_files {
        found.push((
            Health::Degraded,
            format!("no new files go to cluster {name}: {reason}"),
        ));
    }
    if cluster.durability.reduced {
        let copies = cluster.durability.copies;
        let text = format!("cluster {name} runs with reduced durability: {copies} copies are promised");
        found.push((Health::Degraded, text));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::names::{DiskInfo, Durability, GroupState, Load, Member, NodeInfo};
    use common::ids::{ClusterId, Generation, NodeId};
    use common::units::ByteCount;

    pub(crate) fn installation() -> Installation {
        let member = |node: u64, name: &str| Member {
            node: NodeId::new(node),
            name: name.to_owned(),
            control: format!("127.0.0.1:{}", 7000 + node),
            data: format!("127.0.0.1:{}", 7100 + node),
            zone: "z".to_owned(),
            host: "h".to_owned(),
            voter: true,
        };
        let node = |at: u64| NodeInfo {
            member: member(at, &format!("alpha-{at}")),
            condition: NodeCondition::Live,
            load: Load::default(),
            heartbeat_age: Some(Duration::from_millis(100)),
            disks: vec![disk(Ok(()))],
        };
        Installation {
            names: GroupState {
                term: 3,
                leader: Some(NodeId::new(1)),
                members: vec![member(1, "supernode-1")],
            },
            clusters: vec![ClusterState {
                id: ClusterId::new([1; 16]),
                name: "alpha".to_owned(),
                site: String::new(),
                generation: Generation::new(1),
                term: 2,
                leader: Some(NodeId::new(2)),
                nodes: vec![node(1), node(2), node(3)],
                load: Load::default(),
                durability: Durability {
                    copies: 2,
                    reduced: false,
                    hosts: 1,
                    zones: 1,
                },
                report_age: Some(Duration::from_secs(1)),
                chunks: 4,
                under_replicated_chunks: 0,
                uploads_open: 0,
                accepts_files: Ok(()),
            }],
            files: 3,
            size: ByteCount::mib(1),
            uploads_open: 0,
        }
    }

    fn disk(writable: Result<(), String>) -> DiskInfo {
        DiskInfo {
            path: "/disks/1".to_owned(),
            capacity: ByteCount::mib(9),
            used: ByteCount::mib(1),
            free: ByteCount::mib(8),
            writable,
        }
    }

    #[test]
    fn a_disk_that_takes_no_writes_is_told() {
        let mut stopped = installation();
        stopped.clusters[0].nodes[1].disks = vec![disk(Err("it could not fsync segment-1".to_owned()))];
        let (health, problems) = judge(&stopped);
        let told = "disk /disks/1 of node alpha-2 takes no new data: it could not fsync segment-1";
        assert_eq!((health, problems), (Health::Degraded, vec![told.to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(judge(&installation()), (Health::Healthy, Vec::new()));
        let mut one_down = installation();
        one_down.clusters[0].nodes[2].condition = NodeCondition::Dead;
        one_down.clusters[0].under_replicated_chunks = 1;
        let (health, problems) = judge(&one_down);
        assert_eq!((health, problems.len()), (Health::Degraded, 2), "{problems:?}");
        let mut leaderless = installation();
        leaderless.names.leader = None;
        assert_eq!(judge(&leaderless).0, Health::Unavailable);
        let mut silent = installation();
        silent.clusters[0].report_age = Some(Duration::from_secs(60));
        assert_eq!(judge(&silent).0, Health::Unavailable);
    }
}
