//! Supernodes that come back, and three of them of which one is lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::result_large_err, reason = "tests are not hot")]

mod support;

use common::error::Kind;
use dbfs_tests::own_ports;
use dbfs_tests::partition::Cuts;
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
        Self::start_with(&Cuts::default()).await
    }

    async fn start_with(cuts: &Cuts) -> Self {
        let installation = Installation::new();
        let mut supernodes: Vec<Supernode> = Vec::new();
        for name in ["s1", "s2", "s3"] {
            let mut config = installation.config(name);
            config.listen = format!("127.0.0.1:{}", own_ports(1));
            config.voters = 3;
            config.found = supernodes.is_empty();
            config.join = supernodes.iter().map(|one| one.address.clone()).collect();
            supernodes.push(Supernode::start_on(cuts.network(&config.listen), config).await);
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

/// Cut off from the others, which have elected another: whoever can still reach it gets no answer from what it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_answers_no_read_from_what_it_has() {
    let cuts = Cuts::default();
    let three = Three::start_with(&cuts).await;
    let old = three.leader().await;
    let root = three.client(old).login("root", ROOT_PASSWORD).await;
    let cluster = Cluster::new(&three.installation, &three.supernodes[old].address, "alpha", 1);
    cluster.beat().await;
    cluster.put(&root, "/root/x").await;
    let stale = root.stat_path("/root/x").await.unwrap().version;
    let addresses: Vec<String> = three.supernodes.iter().map(|one| one.address.clone()).collect();
    let others = addresses.iter().filter(|address| **address != addresses[old]);
    cuts.isolate(&addresses[old], others);
    let next = eventually("another leads", || async {
        for at in (0..3).filter(|at| *at != old) {
            let reply = three.client(at).hello(hello()).await.ok()?;
            let leads = |one: &names::Endpoint| one.leader && one.control == addresses[at];
            if reply.supernodes.iter().any(leads) {
                return Some(at);
            }
        }
        None
    })
    .await;
    let there = three.client(next).login("root", ROOT_PASSWORD).await;
    let cluster = Cluster::new(&three.installation, &addresses[next], "alpha", 1);
    cluster.beat().await;
    let version = cluster.put(&there, "/root/x").await;
    assert_ne!(version, stale);
    let resolving = names::ResolveRequest {
        path: "/root/x".to_owned(),
        version: None,
    };
    let (resolved, entry, listed) = tokio::join!(
        root.resolve(resolving),
        root.stat_path("/root/x"),
        root.list(names::ListRequest {
            path: "/root".to_owned(),
            limit: Some(10),
            ..names::ListRequest::default()
        }),
    );
    let found = [
        resolved
            .ok()
            .and_then(|reply| reply.entry)
            .map(|entry| entry.version),
        entry.ok().map(|entry| entry.version),
        listed.ok().map(|page| page.entries[0].version),
    ];
    assert!(
        found.iter().flatten().all(|found| *found == version),
        "{found:?}, {stale} is old"
    );
    for supernode in three.supernodes {
        supernode.crash().await;
    }
}

/// Deleting goes on where nothing may be added, and so does the way to it.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_nearly_full_disk_only_what_frees_goes_on() {
    let installation = Installation::new();
    let mut config = installation.config("s1");
    let (_, supernode, root, cluster) = small_with(&installation, config.clone()).await;
    cluster.put(&root, "/root/x").await;
    supernode.stop().await;

    config.limits.disk_reserve_bytes = common::units::ByteCount::new(u64::MAX);
    let (_, supernode, root, _) = small_with(&installation, config).await;
    let full = |refused: proto::error::RpcError| assert_eq!(refused.code, "E_NO_SPACE", "{refused:?}");
    let making = names::MakeDirectoryRequest {
        path: "/root/d".to_owned(),
        ..names::MakeDirectoryRequest::default()
    };
    full(root.make_directory(making).await.unwrap_err());
    full(root.open_upload(root.opening("/root/y").await).await.unwrap_err());
    let renaming = names::RenameRequest {
        from: "/root/x".to_owned(),
        to: "/root/z".to_owned(),
        ..names::RenameRequest::default()
    };
    full(root.rename(renaming).await.unwrap_err());
    let deleting = names::DeleteRequest {
        path: "/root/x".to_owned(),
        ..names::DeleteRequest::default()
    };
    root.delete(deleting).await.unwrap();
    assert!(root.list_paths("/root", true).await.is_empty());
    supernode.stop().await;
}
