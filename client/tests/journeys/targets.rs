//! What sources and targets mean, what is refused before anything moves, and what a command does in part.

use std::path::Path;

use common::error::Kind;
use proto::error::RpcError;

use crate::commands::User;
use crate::fake::world::Fault;

impl User {
    /// Files at these remote paths.
    async fn with(paths: &[&str]) -> Self {
        let user = Self::new().await;
        let file = user.write("seed", b"12345");
        for path in paths {
            user.dbfs(&["upload", &file, path]).await.done();
        }
        user
    }

    fn remote_files(&self) -> Vec<String> {
        self.fake.world.state().files.keys().cloned().collect()
    }
}

#[tokio::test]
async fn a_path_that_exists_is_never_a_pattern() {
    let user = User::with(&["/me/a[1].txt", "/me/a1.txt", "/me/*", "/me/d[x]/f", "/me/dx/f"]).await;
    for (path, shown) in [
        ("/me/a[1].txt", "/me/a[1].txt"),
        ("/me/*", "/me/*"),
        ("/me/d[x]/*", "/me/d[x]/f"),
        ("/me/a\\[1].tx?", "/me/a[1].txt"),
    ] {
        let said = user.dbfs(&["stat", path]).await.done();
        let paths: Vec<&str> = said.lines().filter(|line| line.starts_with('/')).collect();
        assert_eq!(paths, [shown], "{path}");
    }
    // Without a question: it is one file, named as it is.
    user.dbfs(&["delete", "/me/*"]).await.done();
    user.dbfs(&["delete", "/me/a[1].txt"]).await.done();
    assert_eq!(user.remote_files(), ["/me/a1.txt", "/me/d[x]/f", "/me/dx/f"]);
    // It is a pattern now, which asks; what has no wildcard or matches nothing is an error.
    user.dbfs(&["delete", "/me/a[1].txt"]).await.fails(2, "E_USAGE");
    for missing in [
        "/me/b[1].txt",
        "/me/a\\1",
        "/me/a\\*",
        "/me/a1.tx[",
        "/me/nothing",
    ] {
        user.dbfs(&["delete", "--yes", missing])
            .await
            .fails(3, "E_NOT_FOUND");
    }
    assert_eq!(user.remote_files().len(), 3);
}

#[tokio::test]
async fn a_pattern_means_the_same_to_every_command() {
    let user = User::with(&["/me/top.rs", "/me/src/a.rs", "/me/src/deep/b.rs", "/me/src/c.txt"]).await;
    let all = ["/me/src/a.rs", "/me/src/deep/b.rs", "/me/top.rs"];
    let listed = user.dbfs(&["list", "/me/**/*.rs"]).await.done();
    assert_eq!(listed.lines().collect::<Vec<_>>(), all);
    let plan = user
        .dbfs(&["download", "-n", "/me/**/*.rs", &user.local("to/")])
        .await
        .done();
    assert_eq!(plan.lines().count(), 3, "{plan}");
    let deleting = user.dbfs(&["delete", "-n", "/me/**/*.rs"]).await.done();
    assert_eq!(deleting.lines().collect::<Vec<_>>(), all);
    assert_eq!(user.dbfs(&["list", "/me/*/*.rs"]).await.done(), "/me/src/a.rs\n");
    let included = [
        "download",
        "-r",
        "-n",
        "--include",
        "**/*.rs",
        "--exclude",
        "deep",
        "/me",
        &user.local("x"),
    ];
    assert_eq!(user.dbfs(&included).await.done().lines().count(), 2);
    user.dbfs(&["download", "-r", "--include", "[a", "/me", &user.local("x")])
        .await
        .fails(2, "E_PATTERN");
    // What matches is shown; nobody is there to be asked.
    let asked = user.dbfs(&["delete", "/me/src/**"]).await;
    asked.fails(2, "E_USAGE");
    let asked = user.dbfs(&["delete", "-r", "/me/src/**"]).await;
    asked.fails(2, "E_USAGE");
    assert!(
        asked.err.contains("  /me/src/deep/\n") && asked.err.contains("  /me/src/a.rs\n"),
        "{asked:?}"
    );
    user.dbfs(&["delete", "-r", "--yes", "/me/src/**"]).await.done();
    assert_eq!(user.remote_files(), ["/me/top.rs"]);
}

#[tokio::test]
async fn the_same_command_twice_makes_the_same_tree() {
    let user = User::new().await;
    user.write("d/f", b"1");
    user.write("d/e/g", b"2");
    let d = user.local("d");
    for _ in 0..2 {
        user.dbfs(&["upload", "-r", &d, "/me/x"]).await.done();
        user.dbfs(&["upload", "-r", &d, "/me/y/"]).await.done();
        assert_eq!(
            user.remote_files(),
            ["/me/x/e/g", "/me/x/f", "/me/y/d/e/g", "/me/y/d/f"]
        );
    }
    let names = |below: &str| {
        let walk = walkdir::WalkDir::new(user.local(below)).sort_by_file_name();
        let files = walk
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file());
        files
            .map(|entry| {
                entry
                    .path()
                    .strip_prefix(user.local(below))
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        user.dbfs(&["download", "-r", "/me/x", &user.local("as")])
            .await
            .done();
        user.dbfs(&["download", "-r", "/me/x", &user.local("into/")])
            .await
            .done();
        assert_eq!(names("as"), ["e/g", "f"]);
        assert_eq!(names("into"), ["x/e/g", "x/f"]);
    }
    // A file cannot become a directory that is there: said before anything is sent.
    let f = user.local("d/f");
    user.dbfs(&["upload", &f, "/me/x"])
        .await
        .fails(6, "E_IS_A_DIRECTORY");
    user.dbfs(&["upload", &f, "/me/x/f/"])
        .await
        .fails(6, "E_NOT_A_DIRECTORY");
    user.dbfs(&["upload", "-r", &d, "/me/x/f"])
        .await
        .fails(6, "E_NOT_A_DIRECTORY");
    user.dbfs(&["download", "/me/x/f", &user.local("as")])
        .await
        .fails(6, "E_IS_A_DIRECTORY");
    user.dbfs(&["download", "/me/x/f", &user.local("as/f/")])
        .await
        .fails(6, "E_NOT_A_DIRECTORY");
    user.dbfs(&["mv", "/me/x/f", "/me/y"]).await.fails(6, "E_EXISTS");
    user.dbfs(&["mv", "/me/x/f", "/me/y/"]).await.done();
    user.dbfs(&["update", &f, "/me/y/"]).await.done();
    // Several sources have no one name.
    let g = user.local("d/e/g");
    user.dbfs(&["upload", &f, &g, "/me/z"]).await.fails(2, "E_USAGE");
    user.dbfs(&["upload", &f, &g, "/me/z/"]).await.done();
    user.dbfs(&["download", "/me/z/*", &user.local("z")])
        .await
        .fails(2, "E_USAGE");
    user.dbfs(&["mv", "/me/z/f", "/me/z/g", "/me/y"])
        .await
        .fails(2, "E_USAGE");
    assert!(!Path::new(&user.local("z")).exists());
}

#[tokio::test]
async fn two_sources_with_one_target_are_refused() {
    let user = User::with(&["/me/1/a", "/me/2/a", "/me/3/b"]).await;
    let (one, two) = (user.write("1/a", b"1"), user.write("2/a", b"2"));
    let opened = user.fake.world.count("open upload");
    for ended in [
        user.dbfs(&["upload", &one, &two, "/me/x/"]).await,
        user.dbfs(&["upload", "-r", &user.local("1"), &user.local("2/../1/"), "/me/x/"])
            .await,
    ] {
        ended.fails(2, "E_USAGE");
        assert!(ended.result.unwrap_err().message.contains(&user.local("1")));
    }
    for arguments in [
        &["download", "/me/1/a", "/me/2/a", "to/"][..],
        &["download", "/me/3/b", "/me/*/a", "to/"],
        &["mv", "/me/1/a", "/me/3/b", "/me/2/a", "/me/x/"],
    ] {
        let ended = user.dbfs(arguments).await;
        ended.fails(2, "E_USAGE");
        let message = ended.result.unwrap_err().message;
        assert!(
            message.contains("/me/1/a") && message.contains("/me/2/a"),
            "{message}"
        );
    }
    assert_eq!(user.fake.world.count("open upload"), opened);
    assert_eq!(
        user.fake.world.count("rename") + user.fake.world.count("resolve"),
        0
    );
}

#[tokio::test]
async fn everything_is_checked_before_anything_is_done() {
    let user = User::with(&["/me/a", "/me/b", "/me/d/b", "/me/f"]).await;
    let before = user.remote_files();
    for (arguments, exit, code) in [
        (&["mv", "/me/a", "/me/b", "/me/d/"][..], 6, "E_EXISTS"),
        (&["mv", "/me/a", "/me/missing", "/me/x/"], 3, "E_NOT_FOUND"),
        (&["mv", "/me/a", "/me/d", "/me/d/"], 2, "E_INTO_ITSELF"),
        (&["mv", "/me/d", "/me/d/b", "/me/x/"], 2, "E_USAGE"),
        (&["mv", "/me/a", "/you/x"], 2, "E_OTHER_BUCKET"),
        (&["mkdir", "/me/new", "/me/f"], 6, "E_EXISTS"),
        (&["mkdir", "/me/new", "/me/f/x"], 6, "E_NOT_A_DIRECTORY"),
        (&["mkdir", "/me/new", "me/x"], 2, "E_PATH"),
        (&["delete", "/me/a", "/me/missing"], 3, "E_NOT_FOUND"),
        (&["delete", "/me/a", "/me/d"], 2, "E_USAGE"),
        (&["cat", "/me/a", "/me/missing"], 3, "E_NOT_FOUND"),
        (&["cat", "/me/a", "/me/d"], 2, "E_NOT_A_FILE"),
        (&["update", "/dev/null", "/me/a"], 2, "E_USAGE"),
        (&["update", "/etc/hostname", "/me/missing"], 3, "E_NOT_FOUND"),
        (&["update", "/etc/hostname", "/me/d"], 6, "E_IS_A_DIRECTORY"),
        (&["download", "/me/a", "/me/missing", "x/"], 3, "E_NOT_FOUND"),
    ] {
        let ended = user.dbfs(arguments).await;
        ended.fails(exit, code);
        assert_eq!(ended.out, "", "{arguments:?}");
    }
    assert_eq!(user.remote_files(), before);
    for call in ["rename", "make directory", "delete", "resolve"] {
        assert_eq!(user.fake.world.count(call), 0, "{call}");
    }
}

#[tokio::test]
async fn what_was_done_in_part_lists_both_sides() {
    let user = User::with(&["/me/a", "/me/b b", "/me/c"]).await;
    let refusal = || Fault::Refuse(RpcError::new(Kind::Denied, "E_DENIED", "not any more"));
    user.fake.world.script("rename", refusal());
    let ended = user.dbfs(&["mv", "/me/b b", "/me/a", "/me/c", "/me/x/"]).await;
    ended.fails(9, "E_PARTIAL");
    assert!(
        ended.err.contains("not moved: /me/b b: not any more [E_DENIED]"),
        "{ended:?}"
    );
    assert!(ended.err.contains("moved: /me/a, /me/c"), "{ended:?}");
    let failure = ended.result.unwrap_err();
    let sides = failure.sides.unwrap();
    assert_eq!(
        (sides.done, sides.not_done),
        (vec!["/me/a".into(), "/me/c".into()], vec!["/me/b b".into()])
    );
    assert_eq!(failure.hint, "for the rest: dbfs mv '/me/b b' /me/x/");
    for (call, arguments, not_done) in [
        ("delete", &["delete", "/me/x/a", "/me/x/c"][..], "/me/x/a"),
        ("make directory", &["mkdir", "/me/m", "/me/n"], "/me/m"),
    ] {
        user.fake.world.script(call, refusal());
        let ended = user.dbfs(&[&["--json"], arguments].concat()).await;
        ended.fails(9, "E_PARTIAL");
        let told: serde_json::Value = serde_json::from_str(ended.err.trim()).unwrap();
        assert_eq!(
            (told["path"].as_str(), told["code"].as_str()),
            (Some(not_done), Some("E_DENIED"))
        );
        assert_eq!(ended.result.unwrap_err().sides.unwrap().not_done, [not_done]);
    }
}

#[tokio::test]
async fn the_trash_is_listed_restored_and_emptied() {
    let user = User::with(&["/me/a", "/me/logs/1", "/me/logs/2", "/me/b"]).await;
    for path in ["/me/a", "/me/logs/1", "/me/logs/2", "/me/b"] {
        user.dbfs(&["delete", path]).await.done();
    }
    let listed = user.dbfs(&["trash", "list", "--json"]).await.objects();
    let paths: Vec<_> = listed.iter().map(|item| item["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/me/b", "/me/logs/2", "/me/logs/1", "/me/a"]);
    assert_eq!(
        user.dbfs(&["trash", "list", "/me/logs"])
            .await
            .done()
            .lines()
            .count(),
        2
    );
    user.dbfs(&["trash", "restore", "/me/logs/*"]).await.done();
    let id = listed[3]["id"].as_u64().unwrap().to_string();
    user.dbfs(&["trash", "restore", &id, "--to", "/me/old/"])
        .await
        .done();
    assert_eq!(user.remote_files(), ["/me/logs/1", "/me/logs/2", "/me/old/a"]);
    user.dbfs(&["trash", "restore", "/me/a"])
        .await
        .fails(3, "E_NOT_FOUND");
    user.dbfs(&["trash", "empty", "/me/b"]).await.fails(2, "E_USAGE");
    // What is in the trash already can still be deleted permanently.
    user.dbfs(&["delete", "/me/b"]).await.fails(3, "E_NOT_FOUND");
    user.dbfs(&["delete", "--permanent", "/me/b"])
        .await
        .fails(2, "E_USAGE");
    user.dbfs(&["delete", "--permanent", "--yes", "/me/b"])
        .await
        .done();
    assert_eq!(user.dbfs(&["trash", "list"]).await.done(), "");
    user.dbfs(&["delete", "/me/old/a"]).await.done();
    assert_eq!(user.dbfs(&["trash", "empty", "-n"]).await.done(), "/me/old/a\n");
    user.dbfs(&["trash", "empty", "--yes"]).await.done();
    assert!(user.fake.world.state().trash.is_empty());
}

#[tokio::test]
async fn a_tree_keeps_more_than_its_bytes() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let user = User::new().await;
    user.write("tree/run", b"#!/bin/sh");
    user.write("tree/deep/note", b"1");
    for empty in ["tree/empty", "tree/deep/empty/er", "nothing"] {
        std::fs::create_dir_all(user.local(empty)).unwrap();
    }
    std::os::unix::fs::symlink("run", user.local("tree/link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(user.local("tree/socket")).unwrap();
    std::fs::set_permissions(user.local("tree/run"), PermissionsExt::from_mode(0o755)).unwrap();
    let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789);
    for name in ["tree/run", "tree/deep/note", "tree/empty"] {
        let file = std::fs::File::open(user.local(name)).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(then))
            .unwrap();
    }
    let ended = user
        .dbfs(&["upload", "-r", &user.local("tree"), "/me/tree"])
        .await;
    assert!(
        ended.err.contains("left out 1 symbolic link and 1 special file"),
        "{ended:?}"
    );
    user.dbfs(&["upload", "-r", &user.local("nothing"), "/me/nothing"])
        .await
        .done();
    let told = user
        .dbfs(&["upload", "--json", "-r", &user.local("tree"), "/me/tree"])
        .await
        .objects();
    assert_eq!(
        told[2]["left_out"],
        serde_json::json!({ "symbolic_links": 1, "special_files": 1 })
    );
    user.dbfs(&["download", "-r", "/me/tree", "/me/nothing", &user.local("back/")])
        .await
        .done();
    for (name, mode) in [("run", 0o111), ("deep/note", 0), ("empty", 0o111)] {
        let found = std::fs::metadata(user.local(&format!("back/tree/{name}"))).unwrap();
        assert_eq!(
            (found.mtime(), found.mtime_nsec()),
            (1_234_567_890, 123_456_789),
            "{name}"
        );
        assert_eq!(found.mode() & 0o111, mode, "{name}");
    }
    assert!(Path::new(&user.local("back/tree/deep/empty/er")).is_dir());
    assert!(Path::new(&user.local("back/nothing")).is_dir());
    // Without -r it is the bytes alone.
    user.dbfs(&["download", "/me/tree/run", &user.local("run")])
        .await
        .done();
    assert_eq!(std::fs::metadata(user.local("run")).unwrap().mode() & 0o111, 0);
}
