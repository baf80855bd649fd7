//! Requests to one supernode over the wire.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::result_large_err, reason = "tests are not hot")]

mod support;

use common::error::Kind;
use proto::names::v1 as names;
use proto::ticket::{Checker, Purpose, VerifyingKey};
use support::{Client, Cluster, eventually, hello, small};

fn code<T: std::fmt::Debug>(outcome: Result<T, proto::error::RpcError>) -> String {
    outcome.unwrap_err().code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_gives_a_token() {
    let (installation, supernode, root, _) = small().await;
    let stranger = Client::new(&installation, &supernode.address);
    for (user, password) in [("root", "wrong horse"), ("nobody", "correct horse"), ("", "")] {
        let refused = stranger.try_login(user, password).await.err().unwrap();
        assert_eq!((refused.kind, refused.code.as_str()), (Kind::Denied, "E_LOGIN"));
        assert_eq!(refused.request_id.len(), 32);
    }
    assert_eq!(
        code(stranger.who_am_i(names::WhoAmIRequest {}).await),
        "E_UNAUTHENTICATED"
    );
    let mut forger = root.clone();
    forger.token.push('A');
    assert_eq!(
        code(forger.who_am_i(names::WhoAmIRequest {}).await),
        "E_UNAUTHENTICATED"
    );
    let me = root.who_am_i(names::WhoAmIRequest {}).await.unwrap();
    assert_eq!((me.name.as_str(), me.role()), ("root", names::UserRole::Admin));
    let reply = eventually("a member announces itself", || async {
        let reply = stranger.hello(hello()).await.unwrap();
        (!reply.supernodes.is_empty()).then_some(reply)
    })
    .await;
    assert_eq!(
        (reply.protocol_version, reply.names_group_id.len()),
        (proto::PROTOCOL_VERSION, 16)
    );
    assert_eq!(reply.supernodes[0].control, supernode.address);
    assert!(reply.supernodes[0].leader);
    let newer = names::HelloRequest {
        protocol_version_min: proto::PROTOCOL_VERSION + 1,
        protocol_version_max: 9,
        agent: String::new(),
    };
    assert_eq!(code(stranger.hello(newer).await), "E_PROTOCOL");
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_changed_by_those_who_may() {
    let (_installation, supernode, root, _) = small().await;
    let ada = root.with_user("ada").await;
    let creating = |name: &str| names::CreateUserRequest {
        name: name.to_owned(),
        password: "long enough".to_owned(),
        ..names::CreateUserRequest::default()
    };
    assert_eq!(code(ada.create_user(creating("eve")).await), "E_DENIED");
    assert_eq!(code(root.create_user(creating("ada")).await), "E_USER_EXISTS");
    assert_eq!(code(root.create_user(creating("Eve")).await), "E_USER_NAME");
    assert_eq!(
        ada.list_users(names::ListUsersRequest {})
            .await
            .unwrap()
            .users
            .len(),
        1
    );
    assert_eq!(
        root.list_users(names::ListUsersRequest {})
            .await
            .unwrap()
            .users
            .len(),
        2
    );
    let changing = |user: &str, password: &str| names::SetPasswordRequest {
        user: user.to_owned(),
        password: password.to_owned(),
    };
    assert_eq!(
        code(ada.set_password(changing("root", "mine now!")).await),
        "E_DENIED"
    );
    assert_eq!(
        code(ada.set_password(changing("nobody", "mine now!")).await),
        "E_DENIED"
    );
    assert_eq!(code(ada.set_password(changing("", "short")).await), "E_PASSWORD");
    ada.set_password(changing("", "another one")).await.unwrap();
    // The old token ends with the old password.
    assert_eq!(
        code(ada.who_am_i(names::WhoAmIRequest {}).await),
        "E_TOKEN_REVOKED"
    );
    let ada = ada.login("ada", "another one").await;
    let enabling = |enabled| names::SetUserEnabledRequest {
        user: "ada".to_owned(),
        enabled,
    };
    assert_eq!(code(ada.set_user_enabled(enabling(false)).await), "E_DENIED");
    assert!(!root.set_user_enabled(enabling(false)).await.unwrap().enabled);
    assert_eq!(
        code(ada.who_am_i(names::WhoAmIRequest {}).await),
        "E_TOKEN_REVOKED"
    );
    assert_eq!(
        ada.try_login("ada", "another one").await.err().unwrap().code,
        "E_LOGIN"
    );
    root.set_user_enabled(enabling(true)).await.unwrap();
    ada.login("ada", "another one").await;
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_from_open_to_published() {
    let (_installation, supernode, root, cluster) = small().await;
    let ada = root.with_user("ada").await;
    let mut opening = ada.opening("/ada/docs/report").await;
    opening.metadata.insert("kind".to_owned(), "report".to_owned());
    let session = ada.open_upload(opening.clone()).await.unwrap();
    let location = session.cluster.clone().unwrap();
    assert_eq!((location.name.as_str(), location.members.len()), ("alpha", 3));
    assert!(location.members[1].leader);
    assert_eq!(session.chunk_bytes, 64 << 20);
    // The cluster can check the ticket with what the heartbeat tells it.
    let told = cluster.beat().await;
    let keys: Vec<VerifyingKey> = told
        .keys
        .iter()
        .map(|key| VerifyingKey::new(common::ids::KeyId::new(key.key_id), key.key.to_vec()))
        .collect();
    let now = common::time::ClusterTime::from_millis(told.names_time_millis);
    let ticket = Checker::new(1).verify(&keys, now, &session.ticket).unwrap();
    let Some(Purpose::Upload(upload)) = ticket.purpose else {
        panic!("{ticket:?}");
    };
    assert_eq!(
        (upload.upload_id, upload.path_hint.as_str()),
        (session.upload_id, "/ada/docs/report")
    );
    // Again with the same key: the same session, another ticket.
    assert_eq!(
        ada.open_upload(opening.clone()).await.unwrap().upload_id,
        session.upload_id
    );
    let asking = names::GetUploadRequest {
        upload_id: session.upload_id,
        wait_millis: 20_000,
    };
    let waiting = tokio::spawn({
        let ada = ada.clone();
        async move { ada.get_upload(asking).await }
    });
    assert_eq!(code(ada.stat_path("/ada/docs/report").await), "E_NOT_FOUND");
    let reply = cluster
        .publish(cluster.publishing(&[session.upload_id]))
        .await
        .unwrap();
    assert!(reply.outcomes[0].published);
    let status = waiting.await.unwrap().unwrap();
    assert_eq!(status.state(), names::UploadState::Published);
    assert_eq!(status.entry.unwrap().version, session.upload_id);
    let resolving = names::ResolveRequest {
        path: "/ada/docs/report".to_owned(),
        version: None,
    };
    let resolved = ada.resolve(resolving).await.unwrap();
    let entry = resolved.entry.unwrap();
    assert_eq!(
        (entry.size, entry.clusters.as_slice()),
        (100, &["alpha".to_owned()][..])
    );
    assert_eq!(entry.metadata["kind"], "report");
    let ticket = Checker::new(1).verify(&keys, now, &resolved.ticket).unwrap();
    assert!(matches!(ticket.purpose, Some(Purpose::Read(read)) if read.version == session.upload_id));
    // The same key after publication: still the same session.
    let again = ada.open_upload(opening).await.unwrap();
    assert_eq!(again.status.unwrap().state(), names::UploadState::Published);
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_can_be_repeated_needs_no_row_until_it_ends() {
    let (_installation, supernode, root, cluster) = small().await;
    let ada = root.with_user("ada").await;
    let repeatable = |mut opening: names::OpenUploadRequest| {
        opening.repeatable = true;
        opening
    };
    let opening = repeatable(ada.opening("/ada/x").await);
    let session = ada.open_upload(opening.clone()).await.unwrap();
    let id = session.upload_id;
    assert!(!session.ticket.is_empty());
    assert_eq!(session.status.unwrap().state(), names::UploadState::Open);
    let again = ada.open_upload(opening.clone()).await.unwrap();
    assert_eq!(again.upload_id, id);
    let mut elsewhere = opening.clone();
    elsewhere.path = "/ada/y".to_owned();
    assert_eq!(code(ada.open_upload(elsewhere).await), "E_KEY_REUSED");
    let asking = names::GetUploadRequest {
        upload_id: id,
        wait_millis: 0,
    };
    assert_eq!(
        ada.get_upload(asking).await.unwrap().state(),
        names::UploadState::Open
    );
    let bob = root.with_user("bob").await;
    assert_eq!(code(bob.get_upload(asking).await), "E_UPLOAD_NOT_FOUND");
    let open = |status: names::StatusReply| status.uploads_open;
    let status = root.status(names::StatusRequest::default()).await.unwrap();
    assert_eq!(open(status), 1);
    let reply = cluster.publish(cluster.publishing(&[id])).await.unwrap();
    assert!(reply.outcomes[0].published);
    let found = ada.open_upload(opening).await.unwrap();
    assert_eq!(found.status.unwrap().state(), names::UploadState::Published);
    let status = root.status(names::StatusRequest::default()).await.unwrap();
    assert_eq!(open(status), 0);
    // What speaks against it is said at once.
    let mut absent = repeatable(ada.opening("/ada/x").await);
    absent.condition = Some(names::Condition {
        if_absent: true,
        ..names::Condition::default()
    });
    assert_eq!(code(ada.open_upload(absent).await), "E_EXISTS");
    let foreign = repeatable(bob.opening("/ada/z").await);
    assert_eq!(code(bob.open_upload(foreign).await), "E_NOT_FOUND");
    // One that is aborted is told to its cluster like any other.
    let opening = repeatable(ada.opening("/ada/z").await);
    let id = ada.open_upload(opening).await.unwrap().upload_id;
    let aborting = names::AbortUploadRequest { upload_id: id };
    assert_eq!(code(bob.abort_upload(aborting).await), "E_UPLOAD_NOT_FOUND");
    let status = ada.abort_upload(aborting).await.unwrap();
    assert_eq!(status.state(), names::UploadState::Aborted);
    assert_eq!(cluster.beat().await.aborted_uploads, [id]);
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_many_sessions_never_repeat() {
    let (_installation, supernode, root, cluster) = small().await;
    let mut ids = std::collections::BTreeSet::new();
    for number in 0..300 {
        let mut opening = root.opening(&format!("/root/{number}")).await;
        // Every tenth is committed at once.
        opening.repeatable = number % 10 != 0;
        assert!(ids.insert(root.open_upload(opening).await.unwrap().upload_id));
    }
    let ids: Vec<u64> = ids.into_iter().collect();
    let reply = cluster.publish(cluster.publishing(&ids)).await.unwrap();
    assert!(reply.outcomes.iter().all(|outcome| outcome.published));
    assert_eq!(root.list_paths("/root", false).await.len(), 300);
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_is_told_to_its_cluster_and_never_published() {
    let (_installation, supernode, root, cluster) = small().await;
    let opening = root.opening("/root/x").await;
    let id = root.open_upload(opening).await.unwrap().upload_id;
    let aborting = names::AbortUploadRequest { upload_id: id };
    let status = root.abort_upload(aborting).await.unwrap();
    assert_eq!(status.state(), names::UploadState::Aborted);
    assert_eq!(cluster.beat().await.aborted_uploads, [id]);
    let reply = cluster.publish(cluster.publishing(&[id])).await.unwrap();
    assert_eq!(reply.outcomes[0].refused_code, "E_UPLOAD_ABORTED");
    let mut report = cluster.report();
    report.abandoned_uploads = vec![id];
    let reply = cluster.send(report).await.unwrap();
    assert_eq!(
        (reply.abandoned_recorded, reply.aborted_uploads),
        (vec![id], vec![])
    );
    supernode.stop().await;
}

async fn zero_is_a_size_like_any_other(root: &Client, searching: names::SearchRequest) {
    for (size_min, size_max, found) in [
        (None, Some(0), 0),
        (Some(0), None, 1),
        (Some(0), Some(0), 0),
        (Some(1), None, 1),
    ] {
        let sized = names::SearchRequest {
            size_min,
            size_max,
            ..searching.clone()
        };
        let entries = root.search(sized).await.unwrap().entries;
        assert_eq!(entries.len(), found, "{size_min:?} to {size_max:?}");
    }
    let nothing = names::SearchRequest {
        limit: Some(0),
        ..searching
    };
    assert_eq!(code(root.search(nothing).await), "E_LIMIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_what_is_not_theirs() {
    let (_installation, supernode, root, cluster) = small().await;
    let (ada, bob) = (root.with_user("ada").await, root.with_user("bob").await);
    cluster.put(&ada, "/ada/secret/plan").await;
    let opening = ada.opening("/ada/next").await;
    let upload_id = ada.open_upload(opening).await.unwrap().upload_id;
    for path in [
        "/ada",
        "/ada/secret",
        "/ada/secret/plan",
        "/ada/none",
        "/none",
        "/none/x",
    ] {
        let hidden = bob.stat_path(path).await.unwrap_err();
        assert_eq!(
            (hidden.kind, hidden.code.as_str(), hidden.message.as_str()),
            (
                Kind::NotFound,
                "E_NOT_FOUND",
                format!("there is nothing at {path}").as_str()
            )
        );
        assert_eq!(code(bob.delete_path(path, true, true).await), "E_NOT_FOUND");
        let making = names::MakeDirectoryRequest {
            path: path.to_owned(),
            ..Default::default()
        };
        assert_eq!(code(bob.make_directory(making).await), "E_NOT_FOUND");
        let resolving = names::ResolveRequest {
            path: path.to_owned(),
            version: None,
        };
        assert_eq!(code(bob.resolve(resolving).await), "E_NOT_FOUND");
        let renaming = names::RenameRequest {
            from: path.to_owned(),
            to: "/bob/mine".to_owned(),
            replace: false,
        };
        assert_eq!(code(bob.rename(renaming).await), "E_NOT_FOUND");
        let opening = bob.opening(path).await;
        assert_eq!(code(bob.open_upload(opening).await), "E_NOT_FOUND");
    }
    for id in [upload_id, upload_id + 100] {
        let asking = names::GetUploadRequest {
            upload_id: id,
            wait_millis: 0,
        };
        assert_eq!(code(bob.get_upload(asking).await), "E_UPLOAD_NOT_FOUND");
        let aborting = names::AbortUploadRequest { upload_id: id };
        assert_eq!(code(bob.abort_upload(aborting).await), "E_UPLOAD_NOT_FOUND");
    }
    assert_eq!(bob.list_paths("/", false).await, ["/bob"]);
    assert!(bob.list_paths("/", true).await.is_empty());
    assert_eq!(root.list_paths("/", true).await, ["/ada/secret/plan"]);
    let searching = names::SearchRequest {
        path: "/".to_owned(),
        pattern: "*".to_owned(),
        ..Default::default()
    };
    assert!(bob.search(searching.clone()).await.unwrap().entries.is_empty());
    assert_eq!(root.search(searching.clone()).await.unwrap().entries.len(), 1);
    zero_is_a_size_like_any_other(&root, searching).await;
    let (seen, shown) = (
        bob.status(names::StatusRequest {}).await.unwrap(),
        root.status(names::StatusRequest {}).await.unwrap(),
    );
    assert_eq!(
        (
            seen.files,
            seen.logical_bytes,
            seen.uploads_open,
            seen.clusters[0].chunks
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(
        (
            shown.files,
            shown.logical_bytes,
            shown.uploads_open,
            shown.clusters[0].chunks
        ),
        (1, 100, 1, 5)
    );
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_are_made_moved_listed_and_deleted() {
    let (_installation, supernode, root, cluster) = small().await;
    for name in ["a/1", "a/2", "a/b/3", "c"] {
        cluster.put(&root, &format!("/root/{name}")).await;
    }
    let making = names::MakeDirectoryRequest {
        path: "/root/d/e".to_owned(),
        metadata: [("dbfs.modified-nanos".to_owned(), "7".to_owned())].into(),
    };
    let bad = names::MakeDirectoryRequest {
        metadata: [("dbfs.other".to_owned(), "7".to_owned())].into(),
        ..making.clone()
    };
    assert_eq!(code(root.make_directory(bad).await), "E_METADATA");
    let made = root.make_directory(making.clone()).await.unwrap();
    assert_eq!(
        (made.kind(), made.metadata),
        (names::EntryKind::Directory, making.metadata)
    );
    assert_eq!(
        root.list_paths("/root", false).await,
        ["/root/a", "/root/c", "/root/d"]
    );
    let renaming = names::RenameRequest {
        from: "/root/a".to_owned(),
        to: "/root/d/e/a".to_owned(),
        replace: false,
    };
    assert_eq!(root.rename(renaming).await.unwrap().path, "/root/d/e/a");
    assert_eq!(
        root.list_paths("/root", true).await,
        ["/root/c", "/root/d/e/a/1", "/root/d/e/a/2", "/root/d/e/a/b/3"]
    );
    assert_eq!(
        code(root.delete_path("/root/d", false, false).await),
        "E_NOT_EMPTY"
    );
    let deleted = root.delete_path("/root/d", true, true).await.unwrap();
    assert_eq!((deleted.files, deleted.bytes), (3, 300));
    // Permanent: releases reach the cluster without waiting for the trash.
    let releases = eventually("releases", || async {
        let told = cluster.beat().await;
        (told.releases.len() == 3).then_some(told.releases)
    })
    .await;
    assert_eq!(
        releases.iter().map(|one| one.sequence).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    let mut report = cluster.report();
    report.releases_recorded = 3;
    assert!(cluster.send(report).await.unwrap().releases.is_empty());
    assert_eq!(root.list_paths("/root", true).await, ["/root/c"]);
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_or_replaced_comes_back() {
    let (_installation, supernode, root, cluster) = small().await;
    let bob = root.with_user("bob").await;
    let first = cluster.put(&root, "/root/x").await;
    let second = cluster.put(&root, "/root/x").await;
    root.delete_path("/root/x", false, false).await.unwrap();
    assert!(bob.trash("/").await.unwrap().is_empty());
    assert_eq!(code(bob.trash("/root").await), "E_NOT_FOUND");
    let items = root.trash("/root").await.unwrap();
    assert_eq!(
        items.iter().map(|item| item.version).collect::<Vec<_>>(),
        [Some(second), Some(first)]
    );
    assert!(items[0].due_in_millis > 6 * 24 * 3_600_000, "{items:?}");
    assert_eq!(code(bob.restore(items[0].trash_id).await), "E_NOT_FOUND");
    assert_eq!(root.restore(items[0].trash_id).await.unwrap().version, second);
    assert_eq!(code(root.restore(items[1].trash_id).await), "E_EXISTS");
    assert_eq!(root.stat_path("/root/x").await.unwrap().version, second);
    assert_eq!(root.empty_trash("/root").await.unwrap(), 1);
    let releases = eventually("releases", || async {
        let told = cluster.beat().await;
        (!told.releases.is_empty()).then_some(told.releases)
    })
    .await;
    assert_eq!(releases[0].version, first);
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_over_quota_makes_room_and_who_is_disabled_learns_the_end() {
    let (_installation, supernode, root, cluster) = small().await;
    let request = names::CreateUserRequest {
        name: "bob".to_owned(),
        password: "password of bob".to_owned(),
        role: names::UserRole::User.into(),
        quota_bytes: Some(150),
    };
    assert_eq!(root.create_user(request).await.unwrap().quota_bytes, Some(150));
    let bob = root.login("bob", "password of bob").await;
    let version = cluster.put(&bob, "/bob/x").await;
    let more = bob.opening("/bob/y").await;
    assert_eq!(code(bob.open_upload(more.clone()).await), "E_QUOTA");
    // The trash counts; what is in it can be seen, brought back and ended all the same.
    bob.delete_path("/bob/x", false, false).await.unwrap();
    assert_eq!(code(bob.open_upload(more.clone()).await), "E_QUOTA");
    let items = bob.trash("/bob").await.unwrap();
    assert_eq!((items[0].version, items[0].size), (Some(version), Some(100)));
    assert_eq!(bob.restore(items[0].trash_id).await.unwrap().version, version);
    bob.delete_path("/bob/x", false, false).await.unwrap();
    assert_eq!(bob.empty_trash("/bob/x").await.unwrap(), 1);
    assert_eq!(bob.empty_trash("/bob/x").await.unwrap(), 0);
    let opened = eventually("room", || async { bob.open_upload(more.clone()).await.ok() }).await;

    let disabling = names::SetUserEnabledRequest {
        user: "bob".to_owned(),
        enabled: false,
    };
    root.set_user_enabled(disabling).await.unwrap();
    assert_eq!(code(bob.open_upload(more).await), "E_TOKEN_REVOKED");
    let id = opened.upload_id;
    let aborted = bob
        .abort_upload(names::AbortUploadRequest { upload_id: id })
        .await;
    assert_eq!(aborted.unwrap().state(), names::UploadState::Aborted);
    let asking = names::GetUploadRequest {
        upload_id: id,
        wait_millis: 0,
    };
    assert_eq!(
        bob.get_upload(asking).await.unwrap().state(),
        names::UploadState::Aborted
    );
    let none = names::GetUploadRequest {
        upload_id: u64::MAX,
        wait_millis: 0,
    };
    assert_eq!(code(bob.get_upload(none).await), "E_NUMBER");
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_deletion_deletes_once() {
    let (_installation, supernode, root, cluster) = small().await;
    cluster.put(&root, "/root/x").await;
    let born = root.hello(hello()).await.unwrap().names_time_millis;
    let request = || {
        let message = names::DeleteRequest {
            path: "/root/x".to_owned(),
            ..Default::default()
        };
        let mut request = root.request(message);
        let metadata = request.metadata_mut();
        metadata.insert(
            proto::IDEMPOTENCY_KEY_HEADER,
            "000102030405060708090a0b0c0d0e0f".parse().unwrap(),
        );
        metadata.insert(proto::IDEMPOTENCY_BORN_HEADER, born.to_string().parse().unwrap());
        request
    };
    root.names.clone().delete(request()).await.unwrap();
    let kept = cluster.put(&root, "/root/x").await;
    root.names.clone().delete(request()).await.unwrap();
    assert_eq!(root.stat_path("/root/x").await.unwrap().version, kept);
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_prove_who_they_are() {
    let (installation, supernode, root, alpha) = small().await;
    // Another cluster with the same name: refused with what is wrong.
    let mut twin = Cluster::new(&installation, &supernode.address, "alpha", 9);
    assert_eq!(code(twin.send(twin.report()).await), "E_CLUSTER_EXISTS");
    // A node of beta that says it is alpha.
    let mut beta = Cluster::new(&installation, &supernode.address, "beta", 2);
    beta.status.name = "alpha".to_owned();
    assert_eq!(code(beta.send(beta.report()).await), "E_CERTIFICATE");
    let session = {
        let opening = root.opening("/root/x").await;
        root.open_upload(opening).await.unwrap()
    };
    beta.id = alpha.id;
    assert_eq!(
        code(beta.publish(beta.publishing(&[session.upload_id])).await),
        "E_CERTIFICATE"
    );
    // A client without a certificate.
    let mut bare =
        proto::registry::v1::registry_client::RegistryClient::new(installation.channel(&supernode.address));
    let refused = bare.heartbeat(alpha.report()).await.unwrap_err();
    assert_eq!(proto::error::RpcError::from(refused).code, "E_CERTIFICATE");
    // A leader of alpha that was replaced.
    twin.id = alpha.id;
    twin.epoch = 7;
    twin.status.cluster_id = alpha.status.cluster_id.clone();
    twin.beat().await;
    let stale = alpha.send(alpha.report()).await.unwrap_err();
    assert_eq!(
        (stale.kind, stale.code.as_str()),
        (Kind::Stale, "E_CLUSTER_EPOCH")
    );
    assert_eq!(
        code(alpha.publish(alpha.publishing(&[session.upload_id])).await),
        "E_CLUSTER_EPOCH"
    );
    assert!(
        twin.publish(twin.publishing(&[session.upload_id]))
            .await
            .unwrap()
            .outcomes[0]
            .published
    );
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_or_missing_cluster_is_said_plainly() {
    let (_installation, supernode, root, mut alpha) = small().await;
    let opening = root.opening("/root/x").await;
    let first = root.open_upload(opening.clone()).await.unwrap();
    alpha.status.load.as_mut().unwrap().free_bytes = 1 << 30;
    alpha.beat().await;
    let another = root.opening("/root/y").await;
    let full = root.open_upload(another.clone()).await.unwrap_err();
    assert_eq!((full.kind, full.code.as_str()), (Kind::Full, "E_NO_SPACE"));
    alpha.status.accepts_files = false;
    alpha.status.refuses_because = "one of three nodes is left".to_owned();
    alpha.beat().await;
    let none = root.open_upload(another).await.unwrap_err();
    assert_eq!((none.kind, none.code.as_str()), (Kind::Retry, "E_NO_CLUSTER"));
    assert!(none.retry_after.as_millis() > 0);
    let status = root.status(names::StatusRequest {}).await.unwrap();
    assert!(!status.clusters[0].accepts_files);
    assert!(
        status.clusters[0].refuses_because.contains("one of three nodes"),
        "{status:?}"
    );
    // What was begun can go on: the key finds its session though no cluster takes new files.
    assert_eq!(
        root.open_upload(opening).await.unwrap().upload_id,
        first.upload_id
    );
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted() {
    let (_installation, supernode, root, _) = small().await;
    root.stat_path("/root").await.unwrap();
    root.stat_path("/root/none").await.unwrap_err();
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&supernode.metrics.gather())
        .unwrap();
    for line in [
        "dbfs_supernode_requests_total{call=\"Stat\",outcome=\"ok\"} 1",
        "dbfs_supernode_requests_total{call=\"Stat\",outcome=\"NotFound\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    supernode.stop().await;
}
