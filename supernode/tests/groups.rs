//! Supernodes that come back, and three of them of which one is lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::result_large_err, reason = "tests are not hot")]

mod support;

use common::error::Kind;
use proto::names::v1 as names;
use support::{Client, Cluster, Installation, ROOT_PASSWORD, Supernode, eventually, hello, small_with};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let installation = Installation::new();
    let config = installation.config("s1");
    let (_, supernode, root, cluster) = small_with(&installation, config.clone()).await;
    let version = cluster.put(&root, "/root/kept").await;
    let opening = root.opening("/root/open").await;
    let open = root.open_upload(opening.clone()).await.unwrap().upload_id;
    supernode.stop().await;

    let (_, supernode, again, cluster) = small_with(&installation, config).await;
    assert_eq!(again.stat_path("/root/kept").await.unwrap().version, version);
    // The old token, the old session and its key still count.
    let mut old = again.clone();
    old.token.clone_from(&root.token);
    assert_eq!(old.open_upload(opening).await.unwrap().upload_id, open);
    assert!(
        cluster
            .publish(cluster.publishing(&[open]))
            .await
            .unwrap()
            .outcomes[0]
            .published
    );
    assert_eq!(old.list_paths("/root", true).await, ["/root/kept", "/root/open"]);
    supernode.stop().await;
}

struct Three {
    installation: std::sync::Arc<Installation>,
    supernodes: Vec<Supernode>,
}

impl Three {
    async fn start() -> Self {
        let installation = Installation::new();
        let mut supernodes: Vec<Supernode> = Vec::new();
        for name in ["s1", "s2", "s3"] {
            let mut config = installation.config(name);
            config.voters = 3;
            config.found = supernodes.is_empty();
            config.join = supernodes.iter().map(|one| one.address.clone()).collect();
            supernodes.push(Supernode::start(config).await);
        }
        let three = Self {
            installation,
            supernodes,
        };
        // The first founded and leads; members that do not vote yet cannot replace it.
        let root = three.client(0).login("root", ROOT_PASSWORD).await;
        eventually("three voters", || async {
            let status = root.status(names::StatusRequest {}).await.ok()?;
            let voters = status.names?.members.iter().filter(|one| one.voter).count();
            (voters == 3).then_some(())
        })
        .await;
        three
    }

    fn client(&self, at: usize) -> Client {
        Client::new(&self.installation, &self.supernodes[at].address)
    }

    /// Where the leader is among those left.
    async fn leader(&self) -> usize {
        eventually("a leader", || async {
            let reply = self.client(0).hello(hello()).await.ok()?;
            let leader = reply.supernodes.into_iter().find(|one| one.leader)?;
            let at = self
                .supernodes
                .iter()
                .position(|one| one.address == leader.control)?;
            // It may not know yet.
            let asked = self.client(at).hello(hello()).await.ok()?;
            asked
                .supernodes
                .iter()
                .any(|one| one.leader && one.control == leader.control)
                .then_some(at)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_answer_reads_and_name_the_leader_for_writes() {
    let three = Three::start().await;
    let leader = three.leader().await;
    let root = three.client(leader).login("root", ROOT_PASSWORD).await;
    let cluster = Cluster::new(&three.installation, &three.supernodes[leader].address, "alpha", 1);
    cluster.beat().await;
    let version = cluster.put(&root, "/root/x").await;
    for at in (0..3).filter(|at| *at != leader) {
        // Logged in there, and with a token from elsewhere.
        let there = three.client(at).login("root", ROOT_PASSWORD).await;
        assert_eq!(there.stat_path("/root/x").await.unwrap().version, version);
        let mut carried = there.clone();
        carried.token.clone_from(&root.token);
        assert_eq!(carried.list_paths("/root", true).await, ["/root/x"]);
        let resolving = names::ResolveRequest {
            path: "/root/x".to_owned(),
            version: None,
        };
        assert_eq!(
            carried.resolve(resolving).await.unwrap().clusters[0]
                .members
                .len(),
            3
        );
        let making = names::MakeDirectoryRequest {
            path: "/root/d".to_owned(),
            ..Default::default()
        };
        let refused = there.make_directory(making).await.unwrap_err();
        assert_eq!(refused.kind, Kind::NotLeader);
        assert_eq!(
            refused.leader.as_deref(),
            Some(three.supernodes[leader].address.as_str())
        );
        let status = there.status(names::StatusRequest {}).await.unwrap_err();
        assert_eq!(status.kind, Kind::NotLeader);
        let elsewhere = Cluster::new(&three.installation, &three.supernodes[at].address, "alpha", 1);
        assert_eq!(
            elsewhere.send(elsewhere.report()).await.unwrap_err().kind,
            Kind::NotLeader
        );
    }
    for supernode in three.supernodes {
        supernode.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_lasts_survives_its_leader_and_another_is_lost_with_it() {
    let mut three = Three::start().await;
    let leader = three.leader().await;
    let root = three.client(leader).login("root", ROOT_PASSWORD).await;
    let cluster = Cluster::new(&three.installation, &three.supernodes[leader].address, "alpha", 1);
    cluster.beat().await;
    let mut lasting = root.opening("/root/lasting").await;
    lasting.repeatable = true;
    let lasts = root.open_upload(lasting.clone()).await.unwrap().upload_id;
    // The leader alone knows it, until it has lasted.
    let mut follower = three.client((leader + 1) % 3);
    follower.token.clone_from(&root.token);
    let asking = names::GetUploadRequest {
        upload_id: lasts,
        wait_millis: 0,
    };
    let asked = follower.get_upload(asking).await.unwrap_err();
    assert_eq!(asked.kind, Kind::NotLeader);
    eventually("the session to be recorded", || async {
        follower.get_upload(asking).await.ok()
    })
    .await;
    let mut short = root.opening("/root/short").await;
    short.repeatable = true;
    let is_lost = root.open_upload(short.clone()).await.unwrap().upload_id;
    three.supernodes.remove(leader).stop().await;

    let leader = three.leader().await;
    let address = three.supernodes[leader].address.clone();
    let mut next = three.client(leader);
    next.token.clone_from(&root.token);
    let cluster = Cluster::new(&three.installation, &address, "alpha", 1);
    cluster.beat().await;
    let both = cluster.publishing(&[lasts, is_lost]);
    let reply = eventually("an answer", || async { cluster.publish(both.clone()).await.ok() }).await;
    assert!(reply.outcomes[0].published);
    assert_eq!(reply.outcomes[1].refused_code, "E_SESSION_LOST");
    // Opened again with the same key.
    let again = next.open_upload(short).await.unwrap().upload_id;
    assert!(again > is_lost);
    let reply = cluster.publish(cluster.publishing(&[again])).await.unwrap();
    assert!(reply.outcomes[0].published);
    assert_eq!(next.open_upload(lasting).await.unwrap().upload_id, lasts);
    for supernode in three.supernodes {
        supernode.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_go_on() {
    let mut three = Three::start().await;
    let leader = three.leader().await;
    let root = three.client(leader).login("root", ROOT_PASSWORD).await;
    let cluster = Cluster::new(&three.installation, &three.supernodes[leader].address, "alpha", 1);
    cluster.beat().await;
    let before = cluster.put(&root, "/root/before").await;
    let opening = root.opening("/root/during").await;
    let open = root.open_upload(opening.clone()).await.unwrap().upload_id;
    three.supernodes.remove(leader).stop().await;

    let leader = three.leader().await;
    let address = three.supernodes[leader].address.clone();
    let mut next = three.client(leader);
    next.token.clone_from(&root.token);
    let found = eventually("a read at the next leader", || async {
        next.stat_path("/root/before").await.ok()
    })
    .await;
    assert_eq!(found.version, before);
    let cluster = Cluster::new(&three.installation, &address, "alpha", 1);
    cluster.beat().await;
    assert_eq!(next.open_upload(opening).await.unwrap().upload_id, open);
    assert!(
        cluster
            .publish(cluster.publishing(&[open]))
            .await
            .unwrap()
            .outcomes[0]
            .published
    );
    // Ids go on where they were.
    assert!(cluster.put(&next, "/root/after").await > open);
    for supernode in three.supernodes {
        supernode.stop().await;
    }
}
