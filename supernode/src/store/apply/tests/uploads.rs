//! Upload sessions: one key, one session, one outcome.

use common::ids::{UploadId, VersionId};
use common::lifecycle::Session;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use rusqlite::params;

use crate::store::apply::fixture::{ALPHA, Bench, KEEP_MILLIS, WINDOW_MILLIS};
use crate::store::{session, version};

fn abandoned(id: UploadId) -> Command {
    Command::AbandonedUploads(log::AbandonedUploads {
        cluster_id: ALPHA.to_vec().into(),
        upload_ids: vec![id.get()],
    })
}

fn recorded(bench: &Bench, id: UploadId) -> Command {
    let mut command = bench.publishing(id, 1);
    command.items.clear();
    command.outcomes_recorded = vec![id.get()];
    Command::Publish(command)
}

fn forget(bench: &Bench, id: UploadId) -> Command {
    bench.forgetting(&[id.get()], id.get(), 0)
}

#[test]
fn the_same_key_finds_the_same_session() {
    let mut bench = Bench::new();
    let opening = bench.opening("ada", "/ada/x");
    let first = bench.open_with(opening.clone()).unwrap();
    assert_eq!(bench.open_with(opening.clone()), Ok(first));
    assert_eq!(bench.publish(first, 100), "ok");
    assert_eq!(bench.open_with(opening.clone()), Ok(first));
    let mut other_path = opening.clone();
    other_path.path = "/ada/y".to_owned();
    assert_eq!(bench.code(Command::OpenUpload(other_path)), "E_KEY_REUSED");
    let mut other_command = opening.clone();
    other_command.command_digest = vec![1; 32].into();
    assert_eq!(bench.code(Command::OpenUpload(other_command)), "E_KEY_REUSED");
    // Another user's key is another key.
    let mut by_bob = opening;
    by_bob.caller = Some(bench.caller("bob"));
    by_bob.path = "/bob/x".to_owned();
    assert_ne!(bench.open_with(by_bob), Ok(first));
    bench.check_accounts();
}

#[test]
fn keys_outside_the_window_begin_nothing() {
    let mut bench = Bench::new();
    bench.now = 500_000;
    let refuse = bench.forgetting(&[], 0, 0);
    bench.run(refuse).unwrap();
    let mut old = bench.opening("ada", "/ada/x");
    old.key_born_millis = bench.now - WINDOW_MILLIS - 1;
    assert_eq!(bench.code(Command::OpenUpload(old)), "E_KEY_EXPIRED");
    let mut early = bench.opening("ada", "/ada/x");
    early.key_born_millis = bench.now + 60_001;
    assert_eq!(bench.code(Command::OpenUpload(early)), "E_KEY_FROM_FUTURE");
    assert_eq!(bench.count("uploads"), 0);
    // A session that is there is found however old the key has become.
    let opening = bench.opening("ada", "/ada/x");
    let id = bench.open_with(opening.clone()).unwrap();
    bench.now += 10 * WINDOW_MILLIS;
    assert_eq!(bench.open_with(opening), Ok(id));
}

#[test]
fn an_upload_has_one_outcome() {
    let mut bench = Bench::new();
    // Published: stays so whatever comes later.
    let published = bench.open("ada", "/ada/a");
    assert_eq!(bench.publish(published, 100), "ok");
    assert_eq!(bench.abort("ada", published), Ok(Session::Published));
    bench.run(abandoned(published)).unwrap();
    assert_eq!(bench.publish(published, 100), "ok");
    assert_eq!(bench.state(published), Session::Published);
    // Aborted: never published.
    let aborted = bench.open("ada", "/ada/b");
    assert_eq!(bench.abort("ada", aborted), Ok(Session::Aborted));
    assert_eq!(bench.publish(aborted, 100), "E_UPLOAD_ABORTED");
    assert_eq!(bench.abort("ada", aborted), Ok(Session::Aborted));
    // Refused: never published, even when what stood against it is gone.
    let absent = log::Condition {
        if_absent: true,
        ..log::Condition::default()
    };
    let mut opening = bench.opening("ada", "/ada/c");
    opening.condition = Some(absent);
    let refused = bench.open_with(opening).unwrap();
    bench.put("ada", "/ada/c");
    assert_eq!(bench.publish(refused, 100), "E_EXISTS");
    assert_eq!(bench.delete("ada", "/ada/c", false), "ok");
    assert_eq!(bench.publish(refused, 100), "E_EXISTS");
    assert_eq!(bench.abort("ada", refused), Ok(Session::Refused));
    // Abandoned by the cluster: aborted here.
    let left = bench.open("ada", "/ada/d");
    bench.run(abandoned(left)).unwrap();
    assert_eq!(bench.state(left), Session::Aborted);
    assert_eq!(bench.publish(left, 100), "E_UPLOAD_ABORTED");
    assert_eq!(bench.count("files"), 1);
    bench.check_accounts();
}

#[test]
fn conditions_are_judged_when_publish_is_applied() {
    let mut bench = Bench::new();
    let first = bench.put("ada", "/ada/x");
    let with = |bench: &mut Bench, version: VersionId| {
        let mut opening = bench.opening("ada", "/ada/x");
        opening.condition = Some(log::Condition {
            if_version: Some(version.get()),
            ..log::Condition::default()
        });
        opening
    };
    let opening = with(&mut bench, first);
    let one = bench.open_with(opening).unwrap();
    let opening = with(&mut bench, first);
    let two = bench.open_with(opening).unwrap();
    assert_eq!(bench.publish(two, 100), "ok");
    assert_eq!(bench.publish(one, 100), "E_VERSION");
    // A condition that fails already is said before a byte is sent.
    let opening = with(&mut bench, first);
    assert_eq!(bench.code(Command::OpenUpload(opening)), "E_VERSION");
    let mut impossible = bench.opening("ada", "/ada/x");
    impossible.condition = Some(log::Condition {
        if_absent: true,
        if_present: true,
        ..log::Condition::default()
    });
    assert_eq!(bench.code(Command::OpenUpload(impossible)), "E_CONDITION");
}

#[test]
fn a_replaced_version_waits_in_the_trash() {
    let mut bench = Bench::new();
    let old = bench.put("ada", "/ada/x");
    let new = bench.put("ada", "/ada/x");
    assert_ne!(version::by_id(&bench.tables, old).unwrap().unwrap().trash_id, 0);
    bench.check_accounts();
    assert_eq!(bench.user("ada").used_bytes, 200);
    assert_eq!(bench.expire(100), (0, 1));
    bench.now += 10_000;
    assert_eq!(bench.expire(100), (1, 1));
    assert!(version::by_id(&bench.tables, old).unwrap().is_none());
    assert!(version::by_id(&bench.tables, new).unwrap().is_some());
    assert_eq!(bench.count("outbox"), 1);
    bench.check_accounts();
}

#[test]
fn paths_make_their_parents_and_files_are_no_directories() {
    let mut bench = Bench::new();
    bench.put("ada", "/ada/a/b/c");
    assert_eq!(bench.count("directories"), 3 + 2);
    for (path, code) in [
        ("/ada/a/b", "E_IS_A_DIRECTORY"),
        ("/ada", "E_IS_A_DIRECTORY"),
        ("/ada/a/b/c/d", "E_NOT_A_DIRECTORY"),
        ("/", "E_NOT_FOUND"),
        ("/nobody/x", "E_NOT_FOUND"),
        ("/bob/x", "E_NOT_FOUND"),
        ("ada/x", "E_PATH"),
    ] {
        let opening = bench.opening("ada", path);
        assert_eq!(bench.code(Command::OpenUpload(opening)), code, "{path}");
    }
    // What is not known when the upload is opened is judged when it is published.
    let id = bench.open("ada", "/ada/d");
    assert_eq!(bench.make_directory("ada", "/ada/d"), "ok");
    assert_eq!(bench.publish(id, 100), "E_IS_A_DIRECTORY");
    let below = bench.open("ada", "/ada/f/g");
    bench.put("ada", "/ada/f");
    assert_eq!(bench.publish(below, 100), "E_NOT_A_DIRECTORY");
    assert_eq!(bench.count("directories"), 3 + 3);
    bench.check_accounts();
}

#[test]
fn the_quota_counts_reservations_and_the_trash() {
    let mut bench = Bench::new();
    bench
        .tables
        .execute("UPDATE users SET quota_bytes = 250 WHERE name = 'ada'", [])
        .unwrap();
    let first = bench.open("ada", "/ada/a");
    let second = bench.open("ada", "/ada/b");
    let third = bench.opening("ada", "/ada/c");
    assert_eq!(bench.code(Command::OpenUpload(third)), "E_QUOTA");
    // One may be longer than it said, if there is room; the other's reservation is not touched.
    assert_eq!(bench.publish(first, 151), "E_QUOTA");
    assert_eq!(bench.publish(second, 250), "ok");
    let fourth = bench.opening("ada", "/ada/d");
    assert_eq!(bench.code(Command::OpenUpload(fourth)), "E_QUOTA");
    assert_eq!(bench.delete("ada", "/ada/b", false), "ok");
    assert_eq!(bench.user("ada").used_bytes, 250);
    bench.now += 10_000;
    bench.expire(10);
    assert_eq!(
        (bench.user("ada").used_bytes, bench.user("ada").reserved_bytes),
        (0, 0)
    );
    bench.check_accounts();
}

#[test]
fn an_administrator_writes_into_the_owners_quota() {
    let mut bench = Bench::new();
    let id = bench.open("root", "/ada/x");
    assert_eq!(
        (bench.user("ada").reserved_bytes, bench.user("root").uploads_open),
        (100, 1)
    );
    assert_eq!(bench.publish(id, 40), "ok");
    assert_eq!(
        (bench.user("ada").used_bytes, bench.user("root").used_bytes),
        (40, 0)
    );
    bench.check_accounts();
}

#[test]
fn a_user_who_was_disabled_publishes_nothing() {
    let mut bench = Bench::new();
    let id = bench.open("ada", "/ada/x");
    bench
        .tables
        .execute("UPDATE users SET enabled = 0 WHERE name = 'ada'", [])
        .unwrap();
    assert_eq!(bench.publish(id, 100), "E_DENIED");
    assert_eq!(bench.count("files"), 0);
    bench.check_accounts();
}

#[test]
fn a_cluster_publishes_only_its_own_uploads() {
    let mut bench = Bench::new();
    bench.register("beta", [0xbe; 16]).unwrap();
    let id = bench.open("ada", "/ada/x");
    let mut foreign = bench.publishing(id, 100);
    foreign.cluster_id = vec![0xbe; 16].into();
    let Ok(Reply::Outcomes(all)) = bench.run(Command::Publish(foreign)) else {
        panic!("refused as a whole");
    };
    assert_eq!(all.outcomes[0].refused_code, "E_WRONG_CLUSTER");
    assert_eq!(bench.state(id), Session::Open);
    let mut stranger = bench.publishing(id, 100);
    stranger.cluster_id = vec![0xcc; 16].into();
    assert_eq!(bench.code(Command::Publish(stranger)), "E_CLUSTER_UNKNOWN");
    let mut stale = bench.publishing(id, 100);
    stale.generation = 2;
    assert_eq!(bench.code(Command::Publish(stale)), "E_GENERATION");
    assert_eq!(bench.publish(id, 100), "ok");
}

#[test]
fn a_batch_has_an_outcome_for_each() {
    let mut bench = Bench::new();
    let good = bench.open("ada", "/ada/a");
    let bad = bench.open("ada", "/ada/b");
    bench.abort("ada", bad).unwrap();
    let mut both = bench.publishing(bad, 1);
    both.items.extend(bench.publishing(good, 1).items);
    let Ok(Reply::Outcomes(all)) = bench.run(Command::Publish(both)) else {
        panic!("refused as a whole");
    };
    let seen: Vec<_> = all
        .outcomes
        .iter()
        .map(|one| (one.upload_id, one.published))
        .collect();
    assert_eq!(seen, [(bad.get(), false), (good.get(), true)]);
}

#[test]
fn of_some_nothing_can_be_said_and_that_keeps_no_other_back() {
    let mut bench = Bench::new();
    // Its outcome was recorded, its row forgotten, its version released.
    let gone = bench.open("ada", "/ada/gone");
    bench.publish(gone, 1);
    let command = recorded(&bench, gone);
    bench.run(command).unwrap();
    bench.now += WINDOW_MILLIS + 60_001;
    let command = forget(&bench, gone);
    bench.run(command).unwrap();
    bench.delete("ada", "/ada/gone", false);
    bench.now += KEEP_MILLIS;
    assert_eq!(bench.expire(10).0, 1);
    let good: Vec<UploadId> = ["a", "b", "c"]
        .map(|name| bench.open("ada", &format!("/ada/{name}")))
        .into();
    let never = UploadId::new(good[2].get() + 1);
    let largest = UploadId::new(i64::MAX as u64);
    let mut command = bench.publishing(good[0], 1);
    for id in [never, good[1], gone, largest, good[2]] {
        command.items.extend(bench.publishing(id, 1).items);
    }
    // One that brings along what nobody understands.
    let mut upload = bench.opening("ada", "/ada/d");
    upload.idempotency_key = vec![1].into();
    let opening = bench.unrecorded(upload);
    let odd = UploadId::new(opening.upload_id);
    command.items.extend(bench.publishing(odd, 1).items);
    command.items.last_mut().unwrap().opening = Some(opening);
    let Ok(Reply::Outcomes(all)) = bench.run(Command::Publish(command)) else {
        panic!("refused as a whole");
    };
    let seen: Vec<_> = all
        .outcomes
        .iter()
        .map(|one| (one.published, one.undecided, one.refused_code.as_str()))
        .collect();
    // The number reserved for the odd one makes `never` one that was lost.
    let done = (true, false, "");
    assert_eq!(seen[0], done);
    assert_eq!(seen[1], (false, true, "E_UPLOAD_FORGOTTEN"));
    assert_eq!(seen[2], done);
    assert_eq!(seen[3], (false, true, "E_UPLOAD_FORGOTTEN"));
    assert_eq!(seen[4], (false, true, "E_STATE_LOST"));
    assert_eq!(seen[5], done);
    assert_eq!(seen[6], (false, true, "E_KEY"));
    assert!(good.iter().all(|id| bench.state(*id) == Session::Published));
    bench.check_accounts();
}

#[test]
fn outcomes_are_kept_until_recorded_and_past_the_window() {
    let mut bench = Bench::new();
    let id = bench.open("ada", "/ada/x");
    bench.publish(id, 100);
    let begun = bench.now;
    let known = |bench: &Bench| session::by_id(&bench.tables, id).unwrap().is_some();
    let run_forget = |bench: &mut Bench, now: u64| {
        bench.now = now;
        let command = forget(bench, id);
        bench.run(command).unwrap();
    };
    run_forget(&mut bench, begun + WINDOW_MILLIS);
    assert!(
        known(&bench),
        "its key may still be used, and nobody has recorded the outcome"
    );
    let command = recorded(&bench, id);
    bench.run(command).unwrap();
    run_forget(&mut bench, begun + WINDOW_MILLIS);
    assert!(known(&bench), "its key may still be used");
    run_forget(&mut bench, begun + WINDOW_MILLIS + 1);
    assert!(!known(&bench));
    assert_eq!(
        bench.publish(id, 100),
        "ok",
        "the version is there: that was the outcome"
    );
    bench.check_accounts();
    let silent = bench.open("ada", "/ada/y");
    bench.publish(silent, 100);
    bench.now += 2 * WINDOW_MILLIS;
    let command = forget(&bench, silent);
    bench.run(command).unwrap();
    assert!(
        session::by_id(&bench.tables, silent).unwrap().is_some(),
        "not recorded yet"
    );
}

#[test]
fn aborted_uploads_are_told_until_the_cluster_knows() {
    let mut bench = Bench::new();
    let id = bench.open("ada", "/ada/x");
    bench.abort("ada", id).unwrap();
    let number = session::by_id(&bench.tables, id).unwrap().unwrap().cluster;
    let told = |bench: &Bench| session::aborted_unrecorded(&bench.tables, number, 10).unwrap();
    assert_eq!(told(&bench), [id]);
    bench.run(abandoned(id)).unwrap();
    assert!(told(&bench).is_empty());
    // Sealed before it heard: it asks, is refused, and records that.
    let id = bench.open("ada", "/ada/y");
    bench.abort("ada", id).unwrap();
    assert_eq!(bench.publish(id, 100), "E_UPLOAD_ABORTED");
    assert_eq!(told(&bench), [id]);
    let command = recorded(&bench, id);
    bench.run(command).unwrap();
    assert!(told(&bench).is_empty());
}

#[test]
fn sessions_that_nobody_asks_about_end() {
    let mut bench = Bench::new();
    let silent = bench.open("ada", "/ada/a");
    let opening = bench.opening("ada", "/ada/b");
    let busy = bench.open_with(opening.clone()).unwrap();
    bench.now += 900;
    bench.open_with(opening).unwrap();
    bench.now += 200;
    let expire = Command::ExpireSessions(log::ExpireSessions {
        idle_millis: 1_000,
        limit: 10,
    });
    let Ok(Reply::Worked(worked)) = bench.run(expire) else {
        panic!("refused");
    };
    assert_eq!((worked.count, worked.more), (1, false));
    assert_eq!(
        (bench.state(silent), bench.state(busy)),
        (Session::Aborted, Session::Open)
    );
    bench.check_accounts();
}

#[test]
fn a_user_has_a_bounded_number_of_open_uploads() {
    let mut bench = Bench::new();
    for number in 0..3 {
        bench.open("ada", &format!("/ada/{number}"));
    }
    let mut one_more = bench.opening("ada", "/ada/x");
    one_more.open_per_user_max = 3;
    assert_eq!(bench.code(Command::OpenUpload(one_more)), "E_TOO_MANY_UPLOADS");
    let mut huge = bench.opening("ada", "/ada/x");
    huge.size_hint = Some(u64::MAX);
    assert_eq!(bench.code(Command::OpenUpload(huge)), "E_TOO_LARGE");
}

#[test]
fn only_the_one_who_opened_it_knows_of_an_upload() {
    let mut bench = Bench::new();
    let id = bench.open("ada", "/ada/x");
    let hidden = bench.abort("bob", id).unwrap_err();
    bench
        .tables
        .execute(
            "DELETE FROM uploads WHERE upload_id = ?1",
            params![id.get() as i64],
        )
        .unwrap();
    assert_eq!(bench.abort("bob", id).unwrap_err(), hidden);
}
