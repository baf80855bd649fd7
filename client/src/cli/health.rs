//! Whether an installation does well, as one word and a list of what is wrong: pure, from its status.

use std::time::Duration;

use super::human;
use crate::names::{ClusterState, GroupState, Installation, Member, MemberCondition, NodeCondition};

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
    judge_names(&installation.names, &mut found);
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

fn judge_names(names: &GroupState, found: &mut Vec<(Health, String)>) {
    if names.leader.is_none() {
        let text = "the names group has no leader: a majority of its supernodes must run";
        found.push((Health::Unavailable, text.to_owned()));
        return;
    }
    for member in &names.members {
        let known = format!("supernode {}", member.name);
        judge_member(&known, member, found);
    }
    judge_voters("the names group", names.voters_wanted, &names.members, found);
}

/// What the leader of the group makes of one member.
fn judge_member(name: &str, member: &Member, found: &mut Vec<(Health, String)>) {
    let text = match member.condition {
        MemberCondition::UpToDate => return,
        MemberCondition::Unknown => format!("{name} is in an unknown state"),
        MemberCondition::Silent => match member.silent_for {
            Some(silent) => format!("{name} has not answered for {}", human::span(silent)),
            None => format!("{name} does not answer"),
        },
        MemberCondition::CatchingUp => match member.lag_entries {
            Some(lag) => format!("{name} lacks {lag} entries of the log and is catching up"),
            None => format!("{name} is catching up"),
        },
        MemberCondition::SetAside => format!("{name} was set aside after a long silence"),
    };
    found.push((Health::Degraded, text));
}

fn judge_voters<'a>(
    group: &str,
    wanted: u32,
    members: impl IntoIterator<Item = &'a Member>,
    found: &mut Vec<(Health, String)>,
) {
    let voters = members.into_iter().filter(|member| member.voter).count();
    if voters < wanted as usize {
        let text = format!("{group} has {voters} of the {wanted} voters that it is configured for");
        found.push((Health::Degraded, text));
    }
}

fn judge_cluster(cluster: &ClusterState, found: &mut Vec<(Health, String)>) {
    let name = &cluster.name;
    let age = cluster.report_age.filter(|age| *age <= REPORT_AGE_MAX);
    match (cluster.report_age, cluster.leader) {
        (None, _) => found.push((
            Health::Unavailable,
            format!("cluster {name} has not reported to the supernode that answers"),
        )),
        (Some(age), _) if age > REPORT_AGE_MAX => found.push((
            Health::Unavailable,
            format!("cluster {name} last reported {} ago", human::span(age)),
        )),
        (Some(_), None) => found.push((Health::Unavailable, format!("cluster {name} has no leader"))),
        (Some(_), Some(_)) => {}
    }
    if age.is_some() {
        judge_group(cluster, found);
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
        let chunks = human::count(cluster.under_replicated_chunks, "chunk");
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

/// The replication of a cluster's metadata. A node that is not live is told by that alone.
fn judge_group(cluster: &ClusterState, found: &mut Vec<(Health, String)>) {
    let group = format!("cluster {}", cluster.name);
    for node in &cluster.nodes {
        if node.condition == NodeCondition::Live {
            let name = format!("node {} of {group}", node.member.name);
            judge_member(&name, &node.member, found);
        }
    }
    let members = cluster.nodes.iter().map(|node| &node.member);
    judge_voters(&group, cluster.voters_wanted, members, found);
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
            condition: MemberCondition::UpToDate,
            silent_for: Some(Duration::ZERO),
            lag_entries: Some(0),
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
                members: (1..=3).map(|at| member(at, &format!("supernode-{at}"))).collect(),
                voters_wanted: 3,
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
                voters_wanted: 3,
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
        silent.clusters[0].report_age = None;
        let (health, problems) = judge(&silent);
        assert_eq!((health, problems.len()), (Health::Unavailable, 1), "{problems:?}");
    }

    #[test]
    fn every_member_of_every_group_counts() {
        let conditions = [
            (MemberCondition::Silent, "has not answered for 9.0s"),
            (MemberCondition::CatchingUp, "lacks 5000 entries"),
            (MemberCondition::SetAside, "set aside"),
            (MemberCondition::Unknown, "unknown state"),
        ];
        for (condition, said) in conditions {
            let worse = |member: &mut Member| {
                member.condition = condition;
                member.silent_for = Some(Duration::from_secs(9));
                member.lag_entries = Some(5000);
            };
            let (mut names, mut cluster) = (installation(), installation());
            worse(&mut names.names.members[2]);
            worse(&mut cluster.clusters[0].nodes[1].member);
            for (installation, who) in [(names, "supernode-3"), (cluster, "alpha-2")] {
                let (health, problems) = judge(&installation);
                assert_eq!((health, problems.len()), (Health::Degraded, 1), "{problems:?}");
                assert!(
                    problems[0].contains(who) && problems[0].contains(said),
                    "{problems:?}"
                );
            }
        }
        let mut too_few = installation();
        too_few.names.members.pop();
        too_few.clusters[0].nodes[0].member.voter = false;
        assert_eq!(judge(&too_few).1.len(), 2);
    }
}
