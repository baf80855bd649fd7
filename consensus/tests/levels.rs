//! Members of two builds in one group: nothing new is proposed before all members know it, tables are migrated at one
//! position of the log, and a member that meets what it does not know ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "tests wait by the machine's clock")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use common::shutdown::Shutdown;
use dbfs_consensus::{Applying, Error, FeatureLevel, Group, GroupStatus, Machine};
use rusqlite::{Connection, Transaction, params};
use support::{Done, Installation, Node, Set, eventually, set};

const SECOND: FeatureLevel = FeatureLevel::new(2);

/// The build of the first level: it sets keys.
struct Old;

impl Machine for Old {
    type Command = Set;
    type Reply = Done;

    fn create(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute_batch("CREATE TABLE keys (key TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT")
    }

    fn apply(&mut self, tx: &Transaction<'_>, at: &Applying, command: Set) -> rusqlite::Result<Done> {
        put(tx, at, &command.key)
    }
}

fn put(tx: &Transaction<'_>, at: &Applying, key: &str) -> rusqlite::Result<Done> {
    tx.execute(
        "INSERT OR REPLACE INTO keys (key, at) VALUES (?1, ?2)",
        params![key, at.sequence.cast_signed()],
    )?;
    Ok(Done {
        sequence: at.sequence,
        ..Done::default()
    })
}

/// As the next build knows it: with a label.
#[derive(Clone, PartialEq, prost::Message)]
struct Labelled {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "3")]
    label: String,
}

/// The next build: its second level gives every key a label. A hasty one takes labels for a thing of the first level: a
/// mistake.
struct New<const HASTY: bool>;

impl<const HASTY: bool> Machine for New<HASTY> {
    type Command = Labelled;
    type Reply = Done;

    fn level(&self) -> FeatureLevel {
        if HASTY { FeatureLevel::FIRST } else { SECOND }
    }

    fn level_of(command: &Labelled) -> FeatureLevel {
        if command.label.is_empty() || HASTY {
            FeatureLevel::FIRST
        } else {
            SECOND
        }
    }

    fn create(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        Old.create(tx)
    }

    fn migrate(&self, tx: &Transaction<'_>, to: FeatureLevel) -> rusqlite::Result<()> {
        assert_eq!(to, SECOND);
        // What it makes of the rows shows at which position it ran.
        tx.execute_batch(
            "ALTER TABLE keys ADD COLUMN label TEXT NOT NULL DEFAULT '';
             UPDATE keys SET label = 'migrated among ' || (SELECT count(*) FROM keys)",
        )
    }

    fn apply(&mut self, tx: &Transaction<'_>, at: &Applying, command: Labelled) -> rusqlite::Result<Done> {
        let done = put(tx, at, &command.key)?;
        if at.level >= SECOND {
            tx.execute(
                "UPDATE keys SET label = ?2 WHERE key = ?1",
                params![command.key, command.label],
            )?;
        }
        Ok(done)
    }
}

/// A member that runs.
struct Running<M: Machine> {
    group: Group<M>,
    shutdown: Shutdown,
    server: tokio::task::JoinHandle<()>,
}

impl<M: Machine> Running<M> {
    async fn start(node: &mut Node, machine: M) -> Result<Self, Error> {
        let (group, shutdown, server) = node.serve(machine).await?;
        Ok(Self {
            group,
            shutdown,
            server,
        })
    }

    async fn stop(self) {
        self.group.shutdown().await;
        self.shutdown.trigger();
        self.server.await.unwrap();
    }

    fn status(&self) -> GroupStatus {
        self.group.status()
    }
}

/// Proposes wherever the leader is, again and again.
async fn propose<M: Machine>(members: &[&Running<M>], command: &M::Command) {
    for _ in 0..1500 {
        for member in members {
            if member.group.propose(command.clone()).await.is_ok() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody took the command within 30 s");
}

/// Three nodes, the first a founder.
async fn nodes(installation: &Arc<Installation>) -> Vec<Node> {
    let mut nodes = Vec::new();
    for name in ["n1", "n2", "n3"] {
        nodes.push(Node::new(installation, name).await);
    }
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    for (at, node) in nodes.iter_mut().enumerate() {
        node.settings.found = at == 0;
        node.vacate();
        node.settings.join.clone_from(&addresses);
        node.settings.timings.found_wait = Duration::from_millis(50);
    }
    nodes
}

async fn all_vote<M: Machine>(group: &Group<M>) {
    eventually("all members vote", || {
        let members = group.status().members;
        members.iter().filter(|member| member.voter).count() == 3
    })
    .await;
}

fn labels(tables: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    tables
        .prepare("SELECT key, label FROM keys ORDER BY key")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn labelled(key: &str, label: &str) -> Labelled {
    Labelled {
        key: key.to_owned(),
        label: label.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_upgraded_one_by_one() {
    let installation = Installation::new();
    let mut nodes = nodes(&installation).await;
    let [one, two, three] = nodes.as_mut_slice() else {
        panic!("three nodes");
    };
    let founder = Running::start(one, Old).await.unwrap();
    let second = Running::start(two, Old).await.unwrap();
    let third = Running::start(three, Old).await.unwrap();
    all_vote(&founder.group).await;
    propose(&[&founder, &second, &third], &set("a")).await;
    third.stop().await;
    second.stop().await;
    founder.stop().await;

    // Two of three are upgraded, and one of them leads: the third could not follow what is new.
    let founder = Running::start(one, New::<false>).await.unwrap();
    let second = Running::start(two, New::<false>).await.unwrap();
    propose(&[&founder, &second], &labelled("b", "")).await;
    eventually("both know of each other's build", || {
        let leads = [&founder, &second]
            .into_iter()
            .any(|one| one.status().epoch.is_some());
        leads && founder.status().members.len() == 3
    })
    .await;
    // Whoever raises levels looks every second.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let leader = [&founder, &second]
        .into_iter()
        .find(|one| one.status().epoch.is_some());
    let refused = leader.unwrap().group.propose(labelled("c", "new")).await;
    assert!(matches!(refused, Err(Error::Level { .. })), "{refused:?}");
    let third = Running::start(three, Old).await.unwrap();
    let applied = founder.status().applied;
    eventually("the old build follows", || third.status().applied >= applied).await;
    assert_eq!(
        (third.status().fatal, third.status().level),
        (None, FeatureLevel::FIRST)
    );
    third.stop().await;

    // With the third upgraded the level rises by itself, and every member migrates at the same position.
    let third = Running::start(three, New::<false>).await.unwrap();
    let all = [&founder, &second, &third];
    eventually("all work at the second level", || {
        all.iter().all(|member| member.status().level == SECOND)
    })
    .await;
    propose(&all, &labelled("c", "new")).await;
    let expected = [("a", "migrated among 2"), ("b", "migrated among 2"), ("c", "new")];
    let expected = expected.map(|(key, label)| (key.to_owned(), label.to_owned()));
    for member in all {
        assert_eq!(member.group.read(labels).await.unwrap(), expected);
    }
    third.stop().await;

    // There is no way back, and none in for a build that knows less.
    let refused = Running::start(three, Old).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("upgrade this member"), "{refused}");
    let mut late = Node::new(&installation, "n4").await;
    late.settings.join = vec![founder_address(&founder)];
    let refused = Running::start(&mut late, Old).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("upgrade it first"), "{refused}");
    founder.stop().await;
    second.stop().await;
}

fn founder_address<M: Machine>(founder: &Running<M>) -> String {
    founder.status().members[0].control.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_meets_an_unknown_command_ends() {
    let installation = Installation::new();
    let mut nodes = nodes(&installation).await;
    let [one, two, three] = nodes.as_mut_slice() else {
        panic!("three nodes");
    };
    let founder = Running::start(one, New::<true>).await.unwrap();
    let second = Running::start(two, Old).await.unwrap();
    let third = Running::start(three, Old).await.unwrap();
    all_vote(&founder.group).await;
    eventually("the founder leads", || founder.status().epoch.is_some()).await;
    founder.group.propose(labelled("x", "new")).await.unwrap();
    for member in [&second, &third] {
        eventually("the old member ends", || member.status().fatal.is_some()).await;
        let reason = member.status().fatal.unwrap();
        assert!(reason.contains("does not know: upgrade this member"), "{reason}");
    }
    second.stop().await;
    third.stop().await;
    founder.stop().await;
}
