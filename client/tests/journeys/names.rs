//! Finding and leaving supernodes; names.

use std::time::Duration;

use client::names::{DeleteOptions, ListOptions, SearchQuery};
use client::{Client, Error, Settings};
use common::error::Kind;
use common::time::Clock;
use proto::error::RpcError;

use crate::fake::Fake;
use crate::fake::world::Fault;
use crate::{content, path};

async fn with_files(fake: &Fake, client: &Client, names: &[&str]) {
    for name in names {
        let source = client::upload::Source::bytes(content(10, 1));
        client
            .upload(source, &path(name), Default::default())
            .await
            .unwrap();
    }
    fake.world.state().calls.clear();
}

#[tokio::test]
async fn one_address_is_enough_and_redirects_are_remembered() {
    let fake = Fake::start(3, 3).await;
    fake.world.state().names_leader = 2;
    let client = fake.client().await;
    assert_eq!(client.supernodes().len(), 3);
    client.make_directory(&path("/me/a")).await.unwrap();
    client.make_directory(&path("/me/b")).await.unwrap();
    // Hello named the leader: nobody had to be redirected.
    assert_eq!(fake.world.count("redirect"), 0);
    fake.world.state().names_leader = 1;
    client.make_directory(&path("/me/c")).await.unwrap();
    client.make_directory(&path("/me/d")).await.unwrap();
    assert_eq!(fake.world.count("redirect"), 1);
}

#[tokio::test]
async fn a_lost_supernode_is_left_at_once() {
    let fake = Fake::start(3, 3).await;
    let client = fake.client().await;
    client.whoami().await.unwrap();
    fake.stop_supernode(0);
    fake.world.state().names_leader = 1;
    let clock = Clock::real();
    let begun = clock.moment();
    client.whoami().await.unwrap();
    client.make_directory(&path("/me/a")).await.unwrap();
    assert!(clock.moment().since(begun) < Duration::from_secs(2));
}

#[tokio::test]
async fn a_silent_supernode_costs_less_than_two_seconds() {
    let fake = Fake::start(3, 3).await;
    let client = fake.client().await;
    fake.world
        .script("whoami", Fault::Silence(Duration::from_secs(30)));
    let clock = Clock::real();
    let begun = clock.moment();
    client.whoami().await.unwrap();
    let took = clock.moment().since(begun);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn nobody_there_is_said_with_addresses() {
    let fake = Fake::start(1, 3).await;
    let settings = fake.settings();
    fake.stop_supernode(0);
    let mut settings = Settings {
        supernodes: vec!["127.0.0.1:1".to_owned()],
        ..settings
    };
    settings.limits.give_up_after = Duration::from_millis(300);
    let error = Client::connect(settings).await.err().unwrap();
    assert!(
        matches!(&error, Error::Unreachable { tried, .. } if tried == &["127.0.0.1:1"]),
        "{error:?}"
    );
    assert_eq!((error.kind(), error.code()), (Kind::Retry, "E_UNREACHABLE"));
}

/// Supernodes that say at once that nobody leads, and supernodes that say nothing.
#[tokio::test]
async fn a_group_without_a_quorum_is_given_up_once_and_for_all_calls_together() {
    let faults = [
        Fault::Refuse(RpcError::not_leader(None).retry_after(Duration::from_millis(10))),
        Fault::Silence(Duration::from_secs(30)),
    ];
    for fault in faults {
        let fake = Fake::start(1, 3).await;
        let mut settings = fake.settings();
        settings.limits.give_up_after = Duration::from_millis(1_000);
        let client = fake.client_with(settings).await;
        for call in ["whoami", "stat", "list users"] {
            for _ in 0..40 {
                fake.world.script(call, fault.clone());
            }
        }
        let clock = Clock::real();
        let begun = clock.moment();
        assert!(client.whoami().await.unwrap_err().kind().is_passing());
        assert!(client.stat(&path("/me/x")).await.unwrap_err().kind().is_passing());
        assert!(client.list_users().await.unwrap_err().kind().is_passing());
        // Each of the later calls has one try, which may take its 1.5 s.
        let took = clock.moment().since(begun);
        let tries = if matches!(fault, Fault::Silence(_)) { 3 } else { 0 };
        let most = Duration::from_millis(1_500 + tries * 1_500);
        assert!(took < most, "{took:?}");
        // What a single member knows is still learned.
        client.status().await.unwrap();
    }
}

#[tokio::test]
async fn refusals_keep_code_hint_and_request() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let mut refusal = RpcError::new(Kind::Denied, "E_DENIED", "not for you").hint("ask somebody");
    refusal.request_id = "r-1".to_owned();
    fake.world.script("stat", Fault::Refuse(refusal));
    let error = client.stat(&path("/me/x")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.hint().as_str()),
        (Kind::Denied, "E_DENIED", "ask somebody")
    );
    assert_eq!(error.request_id(), Some("r-1"));
    let wrong = client.login("me", "guess").await.err().unwrap();
    assert_eq!(wrong.code(), "E_LOGIN");
}

#[tokio::test]
async fn busy_servers_are_asked_again_after_what_they_say() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let wait = Duration::from_millis(300);
    let busy = RpcError::new(Kind::Busy, "E_BUSY", "later").retry_after(wait);
    fake.world.script("whoami", Fault::Refuse(busy));
    let clock = Clock::real();
    let begun = clock.moment();
    client.whoami().await.unwrap();
    assert!(clock.moment().since(begun) >= wait);
}

#[tokio::test]
async fn listings_come_page_by_page() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    with_files(&fake, &client, &["/me/a", "/me/b", "/me/c", "/me/d", "/me/e"]).await;
    let mut pages = client.list(&path("/me"), ListOptions::default());
    assert_eq!(pages.next_page().await.unwrap().unwrap().len(), 2);
    assert_eq!(fake.world.count("list"), 1);
    let all = client
        .list(&path("/me"), ListOptions::default())
        .all()
        .await
        .unwrap();
    let names: Vec<_> = all.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(names, ["/me/a", "/me/b", "/me/c", "/me/d", "/me/e"]);
    let query = SearchQuery {
        pattern: "d".to_owned(),
        ..SearchQuery::default()
    };
    assert_eq!(client.search(&path("/me"), query).all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_is_done_once() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    with_files(&fake, &client, &["/me/a"]).await;
    fake.world.script("delete", Fault::LoseAnswer);
    let deleted = client
        .delete(&path("/me/a"), DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!((deleted.files, deleted.size.get()), (1, 10));
    let error = client
        .delete(&path("/me/a"), DeleteOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_delete_tried_again_spares_what_came_after_it() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    with_files(&fake, &client, &["/me/a"]).await;
    fake.world.script("delete", Fault::LoseAnswer);
    // Between the lost try and the next, somebody stores another file there.
    fake.world
        .script("delete", Fault::Silence(Duration::from_secs(60)));
    let other = client.clone();
    let world = std::sync::Arc::clone(&fake.world);
    let writer = tokio::spawn(async move {
        while world.count("delete") < 2 {
            tokio::task::yield_now().await;
        }
        let source = client::upload::Source::bytes(content(20, 2));
        other
            .upload(source, &path("/me/a"), Default::default())
            .await
            .unwrap();
    });
    let outcome = client.delete(&path("/me/a"), DeleteOptions::default()).await;
    writer.await.unwrap();
    assert_eq!(outcome.unwrap().size.get(), 10);
    assert_eq!(client.stat(&path("/me/a")).await.unwrap().size().get(), 20);
}

#[tokio::test]
async fn a_rename_whose_answer_was_lost_succeeds() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    with_files(&fake, &client, &["/me/a"]).await;
    fake.world.script("rename", Fault::LoseAnswer);
    let entry = client
        .rename(&path("/me/a"), &path("/me/b"), false)
        .await
        .unwrap();
    assert_eq!(entry.path.as_str(), "/me/b");
    let error = client
        .rename(&path("/me/a"), &path("/me/b"), false)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn users_and_status_come_through() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    assert_eq!(client.list_users().await.unwrap()[0].name, "me");
    assert_eq!(
        client.status().await.unwrap().names.leader,
        Some(common::ids::NodeId::new(1))
    );
    assert!(client.token().is_some());
}
