//! Requests end to end: plan, seal, publish, read, abandon, reclaim.

use common::error::Kind;
use common::ids::{AttemptId, DiskId, Epoch, UploadNumber, VersionId};
use proto::error::RpcError;
use proto::files::v1 as wire;
use wire::seal_reply::Outcome;

use super::support::{CHUNK, Member, until};

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 % 253) as u8).collect()
}

fn attempt(receipt: &wire::ChunkReceipt) -> AttemptId {
    AttemptId::try_from(receipt.attempt.as_ref()).unwrap()
}

fn code(status: tonic::Status) -> (Kind, String) {
    let error = RpcError::from(status);
    (error.kind, error.code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_sealed_published_and_read() {
    let member = Member::start().await;
    let bytes = content(3 * CHUNK + 5);
    let request = member.store(11, &bytes).await;
    let Outcome::Published(published) = member.seal(request.clone()).await else {
        panic!("not published");
    };
    assert_eq!(published.version, 11);
    assert_eq!(published.places.len(), 1);
    assert_eq!(
        (published.places[0].chunks, published.places[0].node.as_str()),
        (4, "a1")
    );
    let durability = published.durability.unwrap();
    assert!(durability.reduced);
    assert_eq!(durability.copies, 1);

    let Outcome::Published(again) = member.seal(request).await else {
        panic!("not published when repeated");
    };
    assert_eq!(again, published);
    assert_eq!(member.names.said(|said| said.published[&11]), 1);

    let manifest = member.manifest(11).await.unwrap();
    assert_eq!((manifest.size, manifest.chunk_count), (bytes.len() as u64, 4));
    assert_eq!(manifest.chunks.len(), 4);
    assert!(manifest.chunks.iter().all(|chunk| chunk.replicas.len() == 1));
    assert!(!manifest.chunks[3].replicas[0].grant.is_empty());
    until("the outcome is acknowledged", || {
        member.names.said(|said| said.recorded.contains(&11))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_file_needs_no_plan() {
    let member = Member::start().await;
    let mut request = member.store(5, b"x").await;
    request.upload_id = 6;
    request.ticket = member.names.upload_ticket(member.cluster_id(), 6, CHUNK as u64);
    request.receipts.clear();
    request.size = 0;
    request.digest = blake3::hash(b"").as_bytes().to_vec().into();
    assert!(matches!(member.seal(request).await, Outcome::Published(_)));
    assert_eq!(member.manifest(6).await.unwrap().chunk_count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_never_a_refusal() {
    let member = Member::start().await;
    let request = member.store(1, &content(10)).await;
    member.names.lose_answers(3);
    assert!(matches!(member.seal(request).await, Outcome::Published(_)));
    assert_eq!(member.names.said(|said| said.published[&1]), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_which_nothing_can_be_said_keeps_no_other_back() {
    let member = Member::start().await;
    member.names.puzzle(1, true);
    let mut puzzling = member.store(1, &content(10)).await;
    let wait = puzzling.wait_millis;
    puzzling.wait_millis = 0;
    assert!(matches!(member.seal(puzzling.clone()).await, Outcome::Pending(_)));
    let other = member.store(2, &content(10)).await;
    assert!(matches!(member.seal(other).await, Outcome::Published(_)));
    // Nothing was concluded from that: it is published once the names layer can tell.
    member.names.puzzle(1, false);
    puzzling.wait_millis = wait;
    assert!(matches!(member.seal(puzzling).await, Outcome::Published(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_reclaimed() {
    let member = Member::start().await;
    let request = member.store(2, &content(CHUNK + 1)).await;
    member.names.refuse(2);
    let Outcome::Refused(refused) = member.seal(request.clone()).await else {
        panic!("not refused");
    };
    assert_eq!(refused.code, "E_CONDITION");
    dropped_by_order(&member, &request.receipts).await;
    let gone = member.manifest(2).await.unwrap_err();
    assert_eq!(code(gone).0, Kind::NotFound);
    let outcome = member.seal(request).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_released_is_reclaimed() {
    let member = Member::start().await;
    let request = member.store(3, &content(CHUNK + 1)).await;
    let kept = member.store(4, &content(7)).await;
    assert!(matches!(
        member.seal(request.clone()).await,
        Outcome::Published(_)
    ));
    assert!(matches!(member.seal(kept).await, Outcome::Published(_)));
    member.names.release(3);
    dropped_by_order(&member, &request.receipts).await;
    assert_eq!(member.names.said(|said| said.releases_recorded), 1);
    assert_eq!(member.manifest(4).await.unwrap().chunks[0].replicas.len(), 1);
}

/// Carries out drop orders until all of `receipts` were ordered.
async fn dropped_by_order(member: &Member, receipts: &[wire::ChunkReceipt]) {
    let mut left: Vec<AttemptId> = receipts.iter().map(attempt).collect();
    while !left.is_empty() {
        let reply = member.beat().await;
        let ordered: Vec<AttemptId> = reply
            .drop_attempts
            .iter()
            .map(|bytes| AttemptId::try_from(bytes.as_ref()).unwrap())
            .collect();
        assert!(
            ordered.iter().all(|one| left.contains(one)),
            "only what was ordered goes"
        );
        let reply = member.beat_with(&[super::support::DISK], &ordered).await;
        assert!(
            reply
                .drop_attempts
                .iter()
                .all(|bytes| { !ordered.contains(&AttemptId::try_from(bytes.as_ref()).unwrap()) })
        );
        left.retain(|one| !ordered.contains(one));
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_upload_is_never_sealed() {
    let member = Member::start().await;
    let request = member.store(7, &content(10)).await;
    let abandon = wire::AbandonRequest {
        ticket: request.ticket.clone(),
        upload_id: 7,
    };
    member.files.clone().abandon(abandon.clone()).await.unwrap();
    member.files.clone().abandon(abandon).await.unwrap();
    assert!(matches!(
        member.seal(request.clone()).await,
        Outcome::Abandoned(_)
    ));
    let (kind, ended) = code(member.plan(7, 1).await.unwrap_err());
    assert_eq!((kind, ended.as_str()), (Kind::Conflict, "E_UPLOAD_ENDED"));
    until("the names layer hears of it", || {
        member.names.said(|said| said.abandoned.contains(&7))
    })
    .await;
    let receipt = &request.receipts[0];
    let item = (
        attempt(receipt),
        UploadNumber::new(receipt.upload_number),
        VersionId::new(7),
    );
    let mut dead = Vec::new();
    while dead.is_empty() {
        dead = member.inventory(&[item]).await.drop_attempts;
    }
    assert_eq!(dead, std::slice::from_ref(&receipt.attempt));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_names_layer_aborts_is_abandoned() {
    let member = Member::start().await;
    let request = member.store(8, &content(10)).await;
    member.names.abort(8);
    member.names.abort(9);
    until("both are reported", || {
        member
            .names
            .said(|said| said.abandoned.contains(&8) && said.abandoned.contains(&9))
    })
    .await;
    assert!(matches!(member.seal(request).await, Outcome::Abandoned(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_an_upload() {
    let member = Member::start_with(|config| {
        config.timings.upload_silence_max = common::units::Span::millis(300);
    })
    .await;
    member.store(1, &content(10)).await;
    until("it is abandoned", || {
        member.names.said(|said| said.abandoned.contains(&1))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inventories_find_the_dead_and_only_them() {
    let member = Member::start().await;
    let sealed = member.store(1, &content(10)).await;
    let unused = member.store(1, &content(10)).await;
    let open = member.store(2, &content(10)).await;
    assert!(matches!(member.seal(sealed.clone()).await, Outcome::Published(_)));
    let item = |receipt: &wire::ChunkReceipt| {
        let version = VersionId::new(receipt.version);
        (
            attempt(receipt),
            UploadNumber::new(receipt.upload_number),
            version,
        )
    };
    let all = [&sealed, &unused, &open].map(|request| item(&request.receipts[0]));
    let reply = member.inventory(&all).await;
    assert_eq!(reply.drop_attempts, [unused.receipts[0].attempt.clone()]);
    assert!(reply.beyond_high_water.is_empty());

    let stranger = (
        AttemptId::new(Epoch::new(1), 999),
        UploadNumber::new(7_777),
        VersionId::new(5),
    );
    let reply = member.inventory(&[stranger, all[1]]).await;
    assert_eq!(reply.beyond_high_water.len(), 1);
    assert!(reply.drop_attempts.is_empty(), "all reclaim stops");
    let reply = member.inventory(&[all[1]]).await;
    assert!(reply.drop_attempts.is_empty(), "until an operator has looked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_on_a_disk_that_is_gone_are_asked_for_again() {
    let member = Member::start().await;
    let request = member.store(1, &content(2 * CHUNK)).await;
    member.beat_with(&[DiskId::new([2; 16])], &[]).await;
    let Outcome::Need(need) = member.seal(request).await else {
        panic!("sealed");
    };
    assert_eq!(need.indices, [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_are_for_what_they_say() {
    let member = Member::start().await;
    let request = member.store(1, &content(10)).await;
    assert!(matches!(member.seal(request).await, Outcome::Published(_)));
    let wrong = [
        member.names.read_ticket(member.cluster_id(), 2),
        member.names.read_ticket(common::ids::ClusterId::new([0; 16]), 1),
        vec![1, 2, 3].into(),
    ];
    for ticket in wrong {
        let request = wire::GetManifestRequest {
            ticket,
            version: 1,
            first_index: 0,
            limit: None,
        };
        let refused = member.files.clone().get_manifest(request).await.unwrap_err();
        assert_eq!(code(refused).0, Kind::Denied);
    }
    let other = wire::PlanChunksRequest {
        ticket: member.names.upload_ticket(member.cluster_id(), 1, CHUNK as u64),
        upload_id: 2,
        chunks: Vec::new(),
    };
    let refused = member.files.clone().plan_chunks(other).await.unwrap_err();
    assert_eq!(code(refused).0, Kind::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_need_two_nodes() {
    let member = Member::start_with(|config| config.durability = crate::config::Durability::Full).await;
    let (kind, name) = code(member.plan(1, 1).await.unwrap_err());
    assert_eq!((kind, name.as_str()), (Kind::Retry, "E_NOT_ENOUGH_NODES"));
    let status = member.names.said(|said| said.status.clone()).unwrap();
    assert!(!status.accepts_files && !status.refuses_because.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_suspected_and_comes_back() {
    let member = Member::start_with(|config| {
        config.timings.suspect_after = common::units::Span::millis(200);
    })
    .await;
    let state = |member: &Member| {
        let status = member.names.said(|said| said.status.clone());
        status.and_then(|status| status.nodes.first().map(|node| node.state()))
    };
    use proto::names::v1::NodeState;
    until("it is suspected", || state(&member) == Some(NodeState::Suspect)).await;
    member.beat().await;
    until("it is live", || state(&member) == Some(NodeState::Live)).await;
}
