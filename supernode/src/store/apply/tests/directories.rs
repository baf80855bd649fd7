//! Directories: moved, deleted, emptied.

use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;

use crate::store::apply::fixture::Bench;
use crate::store::read::entry::stat;
use crate::store::read::walk::{Budget, Start, Step, Walk};

fn all_files(bench: &Bench) -> Vec<String> {
    let mut walk = Walk::new(
        &bench.tables,
        Start::Buckets(None),
        "",
        None,
        Budget::rows(100_000),
    )
    .unwrap();
    let mut found = Vec::new();
    while let Step::File(path, _) = walk.step().unwrap() {
        found.push(format!("/{path}"));
    }
    found
}

#[test]
fn a_directory_moves_with_its_content_in_one_row() {
    let mut bench = Bench::new();
    for path in ["/ada/a/1", "/ada/a/b/2", "/ada/a/b/c/3", "/ada/other"] {
        bench.put("ada", path);
    }
    assert_eq!(bench.rename("ada", "/ada/a", "/ada/x/y", false), "ok");
    assert_eq!(
        all_files(&bench),
        ["/ada/other", "/ada/x/y/1", "/ada/x/y/b/2", "/ada/x/y/b/c/3"]
    );
    assert_eq!(bench.rename("ada", "/ada/x/y/b", "/ada/b", false), "ok");
    assert_eq!(all_files(&bench)[..2], ["/ada/b/2", "/ada/b/c/3"]);
    bench.check_accounts();
}

#[test]
fn moves_that_make_no_sense_are_refused() {
    let mut bench = Bench::new();
    bench.put("ada", "/ada/f");
    bench.put("ada", "/ada/g");
    bench.put("ada", "/ada/d/x");
    bench.make_directory("ada", "/ada/e");
    bench.put("bob", "/bob/f");
    for (from, to, code) in [
        ("/ada/d", "/ada/d/inside", "E_INTO_ITSELF"),
        ("/ada/d", "/ada/e", "E_EXISTS"),
        ("/ada/f", "/ada/g", "E_EXISTS"),
        ("/ada/f", "/ada/e", "E_EXISTS"),
        ("/ada/d", "/ada/f", "E_EXISTS"),
        ("/ada/f", "/ada/g/x", "E_NOT_A_DIRECTORY"),
        ("/ada/nothing", "/ada/n", "E_NOT_FOUND"),
        ("/ada", "/ada/n", "E_BUCKET"),
        ("/ada/f", "/ada", "E_EXISTS"),
        ("/ada/f", "/bob/n", "E_NOT_FOUND"),
        ("/bob/f", "/ada/n", "E_NOT_FOUND"),
        ("/ada/f", "/ada/f", "ok"),
        ("/ada/nothing", "/ada/nothing", "E_NOT_FOUND"),
    ] {
        assert_eq!(bench.rename("ada", from, to, false), code, "{from} to {to}");
    }
    assert_eq!(bench.rename("root", "/ada/f", "/bob/n", false), "E_OTHER_BUCKET");
    assert_eq!(bench.rename("ada", "/ada/d", "/ada/f", true), "E_NOT_A_DIRECTORY");
    assert_eq!(bench.rename("ada", "/ada/f", "/ada/e", true), "E_IS_A_DIRECTORY");
    assert_eq!(all_files(&bench).len(), 4);
    assert_eq!(bench.rename("ada", "/ada/f", "/ada/g", true), "ok");
    assert_eq!(all_files(&bench), ["/ada/d/x", "/ada/g", "/bob/f"]);
    assert_eq!(bench.count("trash"), 1);
    bench.check_accounts();
}

#[test]
fn a_deleted_tree_is_one_row_and_released_in_steps() {
    let mut bench = Bench::new();
    for number in 0..20 {
        bench.put("ada", &format!("/ada/t/{}/{}/f{number}", number % 3, number % 2));
    }
    bench.put("ada", "/ada/t/top");
    bench.put("ada", "/ada/stays");
    assert_eq!(bench.delete("ada", "/ada/t", false), "E_NOT_EMPTY");
    assert_eq!(bench.delete("ada", "/ada/t", true), "ok");
    assert_eq!((bench.count("trash"), all_files(&bench).len()), (1, 1));
    // The path is free at once.
    bench.put("ada", "/ada/t");
    bench.now += 10_000;
    let (released, commands) = bench.expire(1);
    assert_eq!(released, 21);
    assert!(commands > 21, "one row at a time");
    assert_eq!((bench.count("trash"), bench.count("outbox")), (0, 21));
    assert_eq!(bench.count("directories"), 3);
    assert_eq!(bench.user("ada").used_bytes, 200);
    bench.check_accounts();
}

#[test]
fn a_very_deep_tree_costs_no_step_more_than_a_flat_one() {
    let mut bench = Bench::new();
    let deep = "/d".repeat(200);
    bench.put("ada", &format!("/ada/t{deep}/f"));
    assert_eq!(bench.delete("ada", "/ada/t", true), "ok");
    bench.now += 10_000;
    assert_eq!(bench.expire(7).0, 1);
    assert_eq!((bench.count("trash"), bench.count("directories")), (0, 3));
}

#[test]
fn deletions_name_what_they_meant() {
    let mut bench = Bench::new();
    let old = bench.put("ada", "/ada/x");
    bench.put("ada", "/ada/x");
    let command = |bench: &Bench, path: &str, version: Option<u64>| {
        Command::Delete(log::Delete {
            caller: Some(bench.caller("ada")),
            path: path.to_owned(),
            recursive: true,
            if_version: version,
            trash_keep_millis: 0,
        })
    };
    let of_old = command(&bench, "/ada/x", Some(old.get()));
    assert_eq!(bench.code(of_old), "E_VERSION");
    bench.make_directory("ada", "/ada/d");
    let of_directory = command(&bench, "/ada/d", Some(1));
    assert_eq!(bench.code(of_directory), "E_IS_A_DIRECTORY");
    let of_bucket = command(&bench, "/ada", None);
    assert_eq!(bench.code(of_bucket), "E_BUCKET");
    for path in ["/ada/none", "/ada/x/y", "/bob", "/bob/x", "/none", "/"] {
        let nothing = command(&bench, path, None);
        assert_eq!(bench.code(nothing), "E_NOT_FOUND", "{path}");
    }
    // Permanent: due at once.
    let of_none = command(&bench, "/ada/x", Some(0));
    assert_eq!(bench.code(of_none), "E_VERSION", "no version is version 0");
    let now = command(&bench, "/ada/x", None);
    assert_eq!(bench.code(now), "ok");
    assert_eq!(bench.expire(10).0, 1);
    assert_eq!(bench.delete("ada", "/ada/d", false), "ok");
    assert_eq!(bench.count("directories"), 3);
    bench.check_accounts();
}

#[test]
fn directories_are_made_with_their_parents() {
    let mut bench = Bench::new();
    bench.put("ada", "/ada/f");
    for (path, code) in [
        ("/ada/a/b/c", "ok"),
        ("/ada/a/b", "ok"),
        ("/ada", "ok"),
        ("/ada/f", "E_NOT_A_DIRECTORY"),
        ("/ada/f/x", "E_NOT_A_DIRECTORY"),
        ("/bob/x", "E_NOT_FOUND"),
        ("/none/x", "E_NOT_FOUND"),
        (&"/ada".repeat(256), "E_PATH"),
    ] {
        assert_eq!(bench.make_directory("ada", path), code, "{path}");
    }
    let entry = stat(
        &bench.tables,
        bench.as_caller("ada"),
        &"/ada/a/b".parse().unwrap(),
    )
    .unwrap();
    assert_eq!((entry.path.as_str(), entry.owner.as_str()), ("/ada/a/b", "ada"));
}

#[test]
fn a_command_of_a_newer_build_stops_the_member() {
    let bench = Bench::new();
    let at = super::super::At {
        tables: &bench.tables,
        now: common::time::ClusterTime::default(),
    };
    let error = super::super::apply(at, log::Command::default()).unwrap_err();
    assert!(error.to_string().contains("newer build"));
}

fn restore(bench: &mut Bench, user: &str, trash_id: u64, to: &str) -> String {
    let command = log::RestoreTrash {
        caller: Some(bench.caller(user)),
        trash_id,
        to: to.to_owned(),
        wall_millis: 0,
    };
    bench.code(Command::RestoreTrash(command))
}

#[test]
fn what_is_in_the_trash_comes_back() {
    let mut bench = Bench::new();
    bench.put("ada", "/ada/f");
    bench.put("ada", "/ada/t/1");
    bench.put("ada", "/ada/t/u/2");
    bench.delete("ada", "/ada/f", false);
    bench.delete("ada", "/ada/t", true);
    assert_eq!(restore(&mut bench, "bob", 1, ""), "E_NOT_FOUND");
    assert_eq!(restore(&mut bench, "ada", 77, ""), "E_NOT_FOUND");
    assert_eq!(restore(&mut bench, "ada", 1, "/bob/f"), "E_NOT_FOUND");
    assert_eq!(restore(&mut bench, "root", 1, "/bob/f"), "E_OTHER_BUCKET");
    assert_eq!(restore(&mut bench, "ada", 1, "/ada/back/f"), "ok");
    assert_eq!(restore(&mut bench, "ada", 1, ""), "E_NOT_FOUND");
    bench.put("ada", "/ada/t");
    assert_eq!(restore(&mut bench, "ada", 2, ""), "E_EXISTS");
    assert_eq!(restore(&mut bench, "ada", 2, "/ada/t/x"), "E_NOT_A_DIRECTORY");
    assert_eq!(restore(&mut bench, "ada", 2, "/ada/v"), "ok");
    assert_eq!(
        all_files(&bench),
        ["/ada/back/f", "/ada/t", "/ada/v/1", "/ada/v/u/2"]
    );
    bench.now += 10_000;
    assert_eq!(bench.expire(10).0, 0);
    bench.check_accounts();
    // Its time is over, though nobody has got to it yet.
    bench.delete("ada", "/ada/t", false);
    bench.now += 10_000;
    assert_eq!(restore(&mut bench, "ada", 3, ""), "E_NOT_FOUND");
}

#[test]
fn the_trash_is_emptied_by_path() {
    let mut bench = Bench::new();
    for path in ["/ada/a/1", "/ada/a/2", "/ada/a-b", "/ada/c"] {
        bench.put("ada", path);
        bench.delete("ada", path, false);
    }
    bench.put("bob", "/bob/x");
    bench.delete("bob", "/bob/x", false);
    let mut empty = |user: &str, path: &str, trash_ids: &[u64]| {
        let command = log::EmptyTrash {
            caller: Some(bench.caller(user)),
            path: path.to_owned(),
            trash_ids: trash_ids.to_vec(),
        };
        match bench.run(Command::EmptyTrash(command)) {
            Ok(Reply::Worked(worked)) => Ok(worked.count),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.code().to_owned()),
        }
    };
    let all = [1, 2, 3, 4, 5, 99];
    assert_eq!(empty("bob", "/ada/a", &all), Err("E_NOT_FOUND".to_owned()));
    assert_eq!(empty("ada", "/ada/a", &[1]), Ok(1));
    assert_eq!(
        empty("ada", "/ada/a", &all),
        Ok(1),
        "each once, and nobody else's"
    );
    assert_eq!(bench.expire(10).0, 2);
    assert_eq!(bench.count("trash"), 3);
    let command = log::EmptyTrash {
        caller: Some(bench.caller("ada")),
        path: "/ada".to_owned(),
        trash_ids: all.to_vec(),
    };
    bench.run(Command::EmptyTrash(command)).unwrap();
    assert_eq!(bench.expire(10).0, 2);
    bench.check_accounts();
}
