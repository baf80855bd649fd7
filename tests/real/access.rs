//! Nobody reads, writes, lists or infers what is not theirs (P9).

use std::process::Stdio;

use dbfs_tests::{Installation, Ran, Shape, write_generated};

/// Runs a command as `user`, with a profile of their own.
fn run_as(installation: &Installation, user: &str, arguments: &[&str]) -> Ran {
    let mut command = installation.command();
    command.env(
        "XDG_CONFIG_HOME",
        installation.scratch().join(format!("config-{user}")),
    );
    command.env("DBFS_PASSWORD", format!("password of {user}"));
    command.env("DBFS_NEW_PASSWORD", "good enough for anybody");
    Ran::from(command.args(arguments).stdin(Stdio::null()).output().unwrap())
}

fn add_user(installation: &Installation, user: &str) {
    let mut command = installation.command();
    command.env("DBFS_NEW_PASSWORD", format!("password of {user}"));
    Ran::from(command.args(["user", "add", user]).output().unwrap()).ok();
}

#[test]
fn users_see_their_own_and_nothing_else() {
    let installation = Installation::start(Shape::ONE_CLUSTER);
    let source = installation.scratch().join("secret");
    write_generated(&source, 5000, 1);
    let source = source.to_str().unwrap();
    let supernode = installation.status().unwrap()["names"]["leader_control"]
        .as_str()
        .unwrap()
        .to_owned();
    let ca = installation.data().join("ca/ca.pem");
    for user in ["ann", "bob"] {
        add_user(&installation, user);
        let url = format!("https://{supernode}");
        run_as(
            &installation,
            user,
            &["login", &url, "--user", user, "--ca", ca.to_str().unwrap()],
        )
        .ok();
        assert!(run_as(&installation, user, &["whoami"]).ok().out.contains(user));
    }
    run_as(&installation, "ann", &["upload", source, "/ann/secret"]).ok();

    // What exists and what does not must look the same to a stranger, word for word.
    let same = |hidden: Ran, missing: Ran, code: i32| {
        assert_eq!(
            (hidden.code, missing.code),
            (code, code),
            "{}\n{}",
            hidden.err,
            missing.err
        );
        let plain = |text: &str| {
            text.lines()
                .filter(|line| !line.contains("request"))
                .collect::<String>()
        };
        assert_eq!(
            plain(&hidden.err).replace("secret", "x"),
            plain(&missing.err).replace("absent", "x")
        );
        assert_eq!((hidden.out.as_str(), missing.out.as_str()), ("", ""));
    };
    let bob = |arguments: &[&str]| run_as(&installation, "bob", arguments);
    same(bob(&["stat", "/ann/secret"]), bob(&["stat", "/ann/absent"]), 3);
    same(
        bob(&["download", "/ann/secret", "-"]),
        bob(&["download", "/ann/absent", "-"]),
        3,
    );
    same(
        bob(&["delete", "--yes", "/ann/secret"]),
        bob(&["delete", "--yes", "/ann/absent"]),
        3,
    );
    same(
        bob(&["placement", "/ann/secret"]),
        bob(&["placement", "/ann/absent"]),
        3,
    );
    assert_eq!(bob(&["list", "/ann"]).code, bob(&["list", "/nobody"]).code);
    assert_ne!(bob(&["upload", source, "/ann/planted"]).code, 0);
    assert_eq!(bob(&["search", "/", "secret"]).ok().out, "");
    assert!(!bob(&["list", "/"]).ok().out.contains("ann"));
    assert_eq!(bob(&["user", "add", "eve"]).code, 4);
    run_as(&installation, "ann", &["download", "/ann/secret", "-"]).ok();

    wrong_passwords(&installation, &supernode, ca.to_str().unwrap());
    disabled(&installation);
}

fn wrong_passwords(installation: &Installation, supernode: &str, ca: &str) {
    let url = format!("https://{supernode}");
    let wrong = |user: &str| {
        let mut command = installation.command();
        command.env("XDG_CONFIG_HOME", installation.scratch().join("config-wrong"));
        command.env("DBFS_PASSWORD", "not the password");
        Ran::from(
            command
                .args(["login", &url, "--user", user, "--ca", ca])
                .output()
                .unwrap(),
        )
    };
    let (known, unknown) = (wrong("ann"), wrong("zoe"));
    assert_eq!((known.code, unknown.code), (4, 4), "{}", known.err);
    let first = |ran: &Ran| ran.err.lines().next().unwrap_or_default().to_owned();
    assert_eq!(
        first(&known).replace("ann", "x"),
        first(&unknown).replace("zoe", "x")
    );
}

fn disabled(installation: &Installation) {
    installation.run(["user", "disable", "bob"]).ok();
    let ran = run_as(installation, "bob", &["list", "/bob"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
}
