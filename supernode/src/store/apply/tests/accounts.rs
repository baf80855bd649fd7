//! Users, passwords, keys, and requests that are repeated.

use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;

use crate::store::apply::fixture::{Bench, id_of, user_command};
use crate::store::{bucket, key, user};

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

#[test]
fn a_request_with_a_key_is_applied_once() {
    let mut bench = Bench::new();
    bench.put("ada", "/ada/x");
    let command = |bench: &Bench, born| log::Command {
        dedupe: Some(log::Dedupe {
            user_id: bench.caller("ada").user_id,
            key: vec![5; 16].into(),
            key_born_millis: born,
            window_millis: 1_000,
        }),
        body: Some(Command::Delete(log::Delete {
            caller: Some(bench.caller("ada")),
            path: "/ada/x".to_owned(),
            recursive: false,
            if_version: None,
            trash_keep_millis: 1,
        })),
    };
    let asked = command(&bench, bench.now);
    let first = bench.apply(asked.clone());
    assert!(first.refusal.is_none());
    // Somebody writes the path anew; the late duplicate must not delete that.
    bench.put("ada", "/ada/x");
    assert_eq!(bench.apply(asked.clone()), first);
    assert_eq!(bench.count("files"), 1);
    // Once forgotten, its key is refused, not applied.
    bench.now += 1_000 + 60_001;
    let forget = Command::Forget(log::Forget {
        window_millis: 1_000,
        upload_ids: Vec::new(),
        keys_limit: 10,
        closed_up_to: 0,
    });
    bench.run(forget).unwrap();
    assert_eq!(bench.count("requests"), 0);
    assert_eq!(bench.apply(asked).refusal.unwrap().code, "E_KEY_EXPIRED");
    assert_eq!(bench.count("files"), 1);
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
