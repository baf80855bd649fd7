//! Nobody does anything without a grant for exactly that (P9).

use std::time::Duration;

use common::error::Kind;
use common::ids::{ClusterId, KeyId, NodeId};
use common::tls::{ALPN_BULK, Identity};
use proto::bulk::dial::{Dialer, Target};
use proto::bulk::error::Error;
use proto::bulk::grant::{DataPlaneKey, Operation};
use proto::bulk::message::PutBegin;

use super::cluster;
use super::harness::{CLUSTER, CLUSTER_ID, Cluster, attempt_id, content, get, put};

async fn refused_put(cluster: &Cluster, begin: &PutBegin) -> (Kind, NodeId) {
    let mut connection = cluster.connect(0).await;
    let error = put(&mut connection, begin, &content(100_000, 1))
        .await
        .unwrap_err();
    assert!(connection.is_reusable(), "{error}");
    (error.kind(), error.node())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_needs_its_own_grant() {
    let cluster = cluster(2).await;
    let primary = NodeId::new(1);
    let good = cluster.begin(1, None);
    let with = |grant: Vec<u8>| PutBegin {
        grant,
        ..good.clone()
    };
    let write = Operation::WritePrimary {
        delegate: Some(NodeId::new(2)),
    };

    // For another attempt: no replay.
    let other_attempt = with(cluster.grant(0, 2, write).seal(&cluster.key));
    assert_eq!(
        refused_put(&cluster, &other_attempt).await,
        (Kind::Denied, primary)
    );
    // For another node.
    let other_node = with(cluster.grant(1, 1, write).seal(&cluster.key));
    assert_eq!(refused_put(&cluster, &other_node).await, (Kind::Denied, primary));
    // For another operation.
    for operation in [
        Operation::Read,
        Operation::Copy { peer: NodeId::new(2) },
        // Genuine, but only the primary may use it, and it proves who it is.
        Operation::WriteDelegate {
            primary: NodeId::new(2),
        },
    ] {
        let wrong = with(cluster.grant(0, 1, operation).seal(&cluster.key));
        assert_eq!(
            refused_put(&cluster, &wrong).await,
            (Kind::Denied, primary),
            "{operation:?}"
        );
    }
    // Forged.
    let forged_key = DataPlaneKey::new(KeyId::new(1), &[8; 32]);
    let forged = with(cluster.grant(0, 1, write).seal(&forged_key));
    assert_eq!(refused_put(&cluster, &forged).await, (Kind::Denied, primary));
    assert_eq!(
        refused_put(&cluster, &with(vec![])).await,
        (Kind::Denied, primary)
    );
    // Of a key that has not arrived yet.
    let new_key = DataPlaneKey::new(KeyId::new(9), &[8; 32]);
    let unknown = with(cluster.grant(0, 1, write).seal(&new_key));
    assert_eq!(refused_put(&cluster, &unknown).await, (Kind::Retry, primary));
    // Expired.
    let mut expired = cluster.grant(0, 1, write);
    expired.expires = cluster.nodes[0].context.now();
    let expired = with(expired.seal(&cluster.key));
    assert_eq!(refused_put(&cluster, &expired).await, (Kind::Stale, primary));
    // For fewer bytes.
    let mut short = cluster.grant(0, 1, write);
    short.length_max = 99_999;
    let short = with(short.seal(&cluster.key));
    assert_eq!(refused_put(&cluster, &short).await, (Kind::Invalid, primary));
    // The delegate's grant is judged by the delegate.
    let bad_second = PutBegin {
        delegate_grant: cluster.begin(2, None).delegate_grant,
        ..good.clone()
    };
    assert_eq!(
        refused_put(&cluster, &bad_second).await,
        (Kind::Denied, NodeId::new(2))
    );

    put(&mut cluster.connect(0).await, &good, &content(100_000, 1))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_put_needs_its_own_grant() {
    let cluster = cluster(2).await;
    let good = cluster.begin(1, Some(100_000));
    let replayed = PutBegin {
        grant: cluster.begin(2, None).grant,
        ..good.clone()
    };
    let (primary, delegate) = (NodeId::new(1), NodeId::new(2));
    assert_eq!(refused_put(&cluster, &replayed).await, (Kind::Denied, primary));
    let replayed = PutBegin {
        delegate_grant: cluster.begin(2, None).delegate_grant,
        ..good
    };
    assert_eq!(refused_put(&cluster, &replayed).await, (Kind::Denied, delegate));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_needs_its_own_grant() {
    let cluster = cluster(2).await;
    let sent = content(1000, 1);
    let mut connection = cluster.connect(0).await;
    for attempt in [1, 2] {
        put(&mut connection, &cluster.begin(attempt, None), &sent)
            .await
            .unwrap();
    }
    let good = cluster.get_request(0, 1, 0, 1000);
    let mut expired = cluster.grant(0, 1, Operation::Read);
    expired.expires = cluster.nodes[0].context.now();
    let copy = Operation::Copy { peer: NodeId::new(2) };
    let cases = [
        (cluster.grant(0, 2, Operation::Read), Kind::Denied),
        (cluster.grant(1, 1, Operation::Read), Kind::Denied),
        (cluster.grant(0, 1, copy), Kind::Denied),
        (expired, Kind::Stale),
    ];
    for (grant, kind) in cases {
        let mut request = good.clone();
        request.grant = grant.seal(&cluster.key);
        let error = get(&mut connection, &request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{grant:?}");
    }
    // Permitted, but not there.
    let nothing = get(&mut connection, &cluster.get_request(0, 9, 0, 1))
        .await
        .unwrap_err();
    assert_eq!(nothing.kind(), Kind::NotFound);
    assert_eq!(get(&mut connection, &good).await.unwrap(), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_fetches_with_its_own_grant_alone() {
    let cluster = cluster(2).await;
    let sent = content(1000, 1);
    put(&mut cluster.connect(0).await, &cluster.begin(1, None), &sent)
        .await
        .unwrap();
    let identity = Identity::load(&cluster.directory.path().join("n2")).unwrap();
    let tls = std::sync::Arc::new(identity.client_config(ALPN_BULK).unwrap());
    for (node, permitted) in [(2, true), (3, false)] {
        let me = Some(NodeId::new(node));
        let dialer = Dialer::new(
            cluster.network.clone(),
            tls.clone(),
            CLUSTER,
            CLUSTER_ID,
            me,
            cluster.clock.clone(),
        );
        let mut connection = dialer.unwrap().connect(&cluster.nodes[0].target()).await.unwrap();
        let copy = Operation::Copy { peer: NodeId::new(2) };
        let mut request = cluster.get_request(0, 1, 0, 1000);
        request.grant = cluster.grant(0, 1, copy).seal(&cluster.key);
        assert_eq!(get(&mut connection, &request).await.is_ok(), permitted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_ends_a_read_under_way() {
    let cluster = cluster(2).await;
    let sent = content(20 << 20, 1);
    let mut connection = cluster.connect(0).await;
    put(&mut connection, &cluster.begin(1, None), &sent)
        .await
        .unwrap();
    let mut grant = cluster.grant(0, 1, Operation::Read);
    grant.expires = cluster.nodes[0].context.now() + Duration::from_millis(200);
    let mut request = cluster.get_request(0, 1, 0, sent.len() as u64);
    request.grant = grant.seal(&cluster.key);
    let mut reading = connection.get(&request).await.unwrap();
    let mut buffer = vec![0; 1 << 20];
    let error = loop {
        // Slower than the grant lasts.
        match reading.next(&mut buffer).await {
            Ok(Some(_)) => cluster.clock.sleep(Duration::from_millis(60)).await,
            Ok(None) => panic!("the grant should have ended it"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), Kind::Stale);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_and_another_node_are_noticed() {
    let cluster = cluster(2).await;
    let target = cluster.nodes[0].target();
    let wrong_node = Target {
        node: NodeId::new(2),
        ..target.clone()
    };
    let error = cluster.dialer().connect(&wrong_node).await.unwrap_err();
    assert!(matches!(error, Error::WrongNode { .. }), "{error}");

    let identity = Identity::load(&cluster.directory.path().join("n2")).unwrap();
    let tls = std::sync::Arc::new(identity.client_config(ALPN_BULK).unwrap());
    let dialer = |name: &str, id| {
        Dialer::new(
            cluster.network.clone(),
            tls.clone(),
            name,
            id,
            None,
            cluster.clock.clone(),
        )
        .unwrap()
    };
    let error = dialer(CLUSTER, ClusterId::new([9; 16]))
        .connect(&target)
        .await
        .unwrap_err();
    let Error::Refused { goodbye, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(goodbye.code, "E_WRONG_CLUSTER");
    let error = dialer("beta", CLUSTER_ID).connect(&target).await.unwrap_err();
    assert!(
        matches!(error, Error::Connect { .. }),
        "the certificate is alpha's: {error}"
    );
    assert_eq!(attempt_id(1).sequence(), 1);
}
