//! Users, passwords, keys, and requests that are repeated.

use common::ids::UploadId;
use common::lifecycle::Session;
use common::time::ClusterTime;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;

use crate::core::fingerprint;
use crate::store::apply::fixture::{ALPHA, Bench, WINDOW_MILLIS, id_of, user_command};
use crate::store::read::uploads;
use crate::store::{bucket, key, session, user};

fn enable(bench: &Bench, caller: &str, user: &str, enabled: bool) -> Command {
    Command::SetUserEnabled(log::SetUserEnabled {
        caller: Some(bench.caller(caller)),
        user_id: id_of(bench, user).get(),
        enabled,
    })
}

fn password(bench: &Bench, caller: &str, user_id: u64) -> Command {
    Command::SetPassword(log::SetPassword {
        caller: Some(bench.caller(caller)),
        user_id,
        password_hash: "another".to_owned(),
    })
}

#[test]
fn a_user_owns_the_bucket_of_their_name() {
    let bench = Bench::new();
    let bucket = bucket::by_name(&bench.tables, "ada").unwrap().unwrap();
    assert_eq!(bucket.owner, id_of(&bench, "ada"));
    assert_eq!(user::all(&bench.tables, 10).unwrap().len(), 3);
}

#[test]
fn users_are_made_by_administrators_once() {
    let mut bench = Bench::new();
    let root = bench.caller("root");
    let ada = bench.caller("ada");
    let by = |name: &str, caller| Command::CreateUser(user_command(name, false, false, Some(caller)));
    assert_eq!(bench.code(by("eve", ada)), "E_DENIED");
    assert_eq!(bench.code(by("ada", root)), "E_USER_EXISTS");
    assert_eq!(bench.code(by("a/b", root)), "E_USER_NAME");
    assert_eq!(bench.code(by("eve", root)), "ok");
    let nobody = log::Caller::default();
    assert_eq!(bench.code(by("mal", nobody)), "E_TOKEN_REVOKED");
}

#[test]
fn the_first_administrator_is_made_once() {
    let mut bench = Bench::new();
    let again = bench.run(Command::CreateUser(user_command("other", true, true, None)));
    assert_eq!(again, Ok(Reply::UserMade(log::UserMade { user_id: None })));
    assert!(user::by_name(&bench.tables, "other").unwrap().is_none());
}

#[test]
fn a_new_password_ends_old_tokens() {
    let mut bench = Bench::new();
    let old = bench.caller("ada");
    let ada = old.user_id;
    let by_bob = password(&bench, "bob", ada);
    assert_eq!(bench.code(by_bob), "E_DENIED");
    let by_ada = password(&bench, "ada", ada);
    assert_eq!(bench.code(by_ada), "ok");
    assert_eq!(bench.user("ada").password_hash, "another");
    let mut opening = bench.opening("ada", "/ada/x");
    opening.caller = Some(old);
    assert_eq!(bench.code(Command::OpenUpload(opening)), "E_TOKEN_REVOKED");
    assert_eq!(bench.make_directory("ada", "/ada/d"), "ok");
    let by_root = password(&bench, "root", ada);
    assert_eq!(bench.code(by_root), "ok");
    let of_nobody = password(&bench, "root", 999);
    assert_eq!(bench.code(of_nobody), "E_USER_NOT_FOUND");
}

#[test]
fn a_disabled_user_can_do_nothing_and_someone_must_administer() {
    let mut bench = Bench::new();
    let last = enable(&bench, "root", "root", false);
    assert_eq!(bench.code(last), "E_LAST_ADMIN");
    let by_bob = enable(&bench, "bob", "ada", false);
    assert_eq!(bench.code(by_bob), "E_DENIED");
    let disable = enable(&bench, "root", "ada", false);
    assert_eq!(bench.code(disable.clone()), "ok");
    assert_eq!(bench.code(disable), "ok");
    assert_eq!(bench.make_directory("ada", "/ada/d"), "E_TOKEN_REVOKED");
    let again = enable(&bench, "root", "ada", true);
    assert_eq!(bench.code(again), "ok");
    assert_eq!(bench.make_directory("ada", "/ada/d"), "ok");
}

/// A deletion of `path` under one key, born at `born`.
fn keyed_delete(bench: &Bench, path: &str, born: u64) -> log::Command {
    let body = Command::Delete(log::Delete {
        caller: Some(bench.caller("ada")),
        path: path.to_owned(),
        trash_keep_millis: 1,
        ..log::Delete::default()
    });
    log::Command {
        dedupe: Some(log::Dedupe {
            user_id: bench.caller("ada").user_id,
            key: vec![5; 16].into(),
            key_born_millis: born,
            command_digest: fingerprint::of_request(&body),
        }),
        body: Some(body),
    }
}

#[test]
fn a_request_with_a_key_is_applied_once() {
    let mut bench = Bench::new();
    bench.put("ada", "/ada/x");
    bench.put("ada", "/ada/y");
    let asked = keyed_delete(&bench, "/ada/x", bench.now);
    let first = bench.apply(asked.clone());
    assert!(first.refusal.is_none());
    // Somebody writes the path anew; the late duplicate must not delete that.
    bench.put("ada", "/ada/x");
    assert_eq!(bench.apply(asked.clone()), first);
    assert_eq!(bench.count("files"), 2);
    // Another command under the key gets no answer that was not its own.
    let other = keyed_delete(&bench, "/ada/y", bench.now);
    assert_eq!(bench.apply(other).refusal.unwrap().code, "E_KEY_REUSED");
    assert_eq!(bench.count("files"), 2);
    // Once forgotten, its key is refused, not applied.
    bench.now += WINDOW_MILLIS + 60_001;
    let forget = bench.forgetting(&[], 0, 10);
    bench.run(forget).unwrap();
    assert_eq!(bench.count("requests"), 0);
    assert_eq!(bench.apply(asked).refusal.unwrap().code, "E_KEY_EXPIRED");
    assert_eq!(bench.count("files"), 2);
}

#[test]
fn leaders_with_different_windows_apply_a_key_once() {
    let mut bench = Bench::new();
    bench.put("ada", "/ada/x");
    bench.now = 500_000;
    let asked = keyed_delete(&bench, "/ada/x", bench.now);
    assert!(bench.apply(asked.clone()).refusal.is_none());
    bench.put("ada", "/ada/x");
    let opening = bench.opening("ada", "/ada/z");
    let upload = bench.open_with(opening.clone()).unwrap();
    bench.abort("ada", upload).unwrap();
    session::set_recorded(&bench.tables, upload).unwrap();
    // A leader whose window is short forgets it.
    bench.now += 2_000;
    let forget = |refused_before: u64| {
        Command::Forget(log::Forget {
            keys_refused_before_millis: refused_before,
            upload_ids: vec![upload.get()],
            keys_limit: 10,
            closed_up_to: upload.get(),
        })
    };
    bench.run(forget(bench.now - 1_000)).unwrap();
    assert_eq!(bench.count("requests"), 0);
    assert!(session::by_id(&bench.tables, upload).unwrap().is_none());
    // The next one, whose window is long, goes by what is committed, and cannot lower it.
    bench.run(forget(bench.now - WINDOW_MILLIS)).unwrap();
    assert_eq!(bench.apply(asked).refusal.unwrap().code, "E_KEY_EXPIRED");
    assert_eq!(bench.code(Command::OpenUpload(opening)), "E_KEY_EXPIRED");
    assert_eq!(bench.count("files"), 1);
    // No leader can refuse keys that are not born yet.
    bench.run(forget(u64::MAX)).unwrap();
    bench.now += 1;
    let fresh = keyed_delete(&bench, "/ada/x", bench.now);
    assert!(bench.apply(fresh).refusal.is_none());
}

#[test]
fn keys_rotate_one_at_a_time() {
    let mut bench = Bench::new();
    let mut rotate = |seed: u8, replaces| {
        let command = log::RotateSigningKey {
            seed: vec![seed; 32].into(),
            replaces,
        };
        match bench.run(Command::RotateSigningKey(command)).unwrap() {
            Reply::KeyMade(made) => made.key_id,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(rotate(1, None), Some(1));
    assert_eq!(
        rotate(2, None),
        None,
        "two leaders in a row: the second finds the key of the first"
    );
    assert_eq!(rotate(2, Some(1)), Some(2));
    assert_eq!(rotate(3, Some(2)), Some(3));
    let kept: Vec<u64> = key::all(&bench.tables)
        .unwrap()
        .iter()
        .map(|key| key.id.get())
        .collect();
    assert_eq!(kept, [3, 2]);
}

#[test]
fn a_user_who_is_disabled_learns_how_uploads_end() {
    let mut bench = Bench::new();
    let (sealed, open) = (bench.open("ada", "/ada/a"), bench.open("ada", "/ada/b"));
    let of_bob = bench.open("bob", "/bob/x");
    let ada = bench.caller("ada");
    let disable = log::SetUserEnabled {
        caller: Some(bench.caller("root")),
        user_id: ada.user_id,
        enabled: false,
    };
    bench.run(Command::SetUserEnabled(disable)).unwrap();
    assert_eq!(bench.publish(sealed, 1), "E_DENIED");
    let mut abort = |id: UploadId| {
        let command = log::AbortUpload {
            caller: Some(ada),
            upload_id: id.get(),
            opening: None,
        };
        match bench.run(Command::AbortUpload(command)) {
            Ok(Reply::Upload(upload)) => (upload.state, upload.refused_code),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => (0, refusal.code().to_owned()),
        }
    };
    let code = |state: Session| u32::from(state.code());
    assert_eq!(abort(sealed), (code(Session::Refused), "E_DENIED".to_owned()));
    assert_eq!(abort(open), (code(Session::Aborted), String::new()));
    assert_eq!(abort(of_bob), (0, "E_UPLOAD_NOT_FOUND".to_owned()));
    assert_eq!(bench.make_directory("ada", "/ada/d"), "E_TOKEN_REVOKED");
    bench.check_accounts();
}

#[test]
fn uploads_that_fail_are_bounded_and_forgotten_in_any_order() {
    let mut bench = Bench::new();
    let open = |bench: &mut Bench| {
        let mut opening = bench.opening("ada", "/ada/x");
        opening.failed_per_user_max = Some(3);
        opening.metadata = vec![log::Metadata {
            key: "k".to_owned(),
            value: "v".repeat(8000),
        }];
        bench
            .open_with(opening)
            .map_err(|refusal| refusal.code().to_owned())
    };
    // The first stays open, the second's cluster says nothing: neither keeps the others.
    let lasting = open(&mut bench).unwrap();
    let unheard = open(&mut bench).unwrap();
    bench.abort("ada", unheard).unwrap();
    let mut ended = Vec::new();
    for _ in 0..2 {
        let id = open(&mut bench).unwrap();
        bench.abort("ada", id).unwrap();
        ended.push(id);
    }
    assert_eq!(open(&mut bench), Err("E_TOO_MANY_UPLOADS".to_owned()));
    let kept: i64 = bench
        .tables
        .query_row(
            "SELECT sum(length(metadata)) FROM uploads WHERE state != 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(kept, 0, "what ended is small");
    let recorded = log::AbandonedUploads {
        cluster_id: ALPHA.to_vec().into(),
        upload_ids: ended.iter().map(|id| id.get()).collect(),
    };
    bench.run(Command::AbandonedUploads(recorded)).unwrap();
    let forgettable = |bench: &Bench| {
        let before = ClusterTime::from_millis(bench.now.saturating_sub(WINDOW_MILLIS));
        uploads::forgettable(&bench.tables, before, 10).unwrap()
    };
    assert!(forgettable(&bench).is_empty());
    bench.now += WINDOW_MILLIS + 60_001;
    assert_eq!(forgettable(&bench), ended);
    let ids: Vec<u64> = ended.iter().map(|id| id.get()).collect();
    let forget = bench.forgetting(&ids, ended[1].get(), 0);
    bench.run(forget).unwrap();
    bench.check_accounts();
    assert!(open(&mut bench).is_ok());
    assert_eq!(bench.state(lasting), Session::Open);
}
