//! The command's contract with people and scripts, checked on the real binary: where texts go, which numbers it ends
//! with, what it refuses before it touches anything. What needs a running installation is tested in `tests/`.

// A test that meets something else than it expects has nothing better to do than to fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::tls::{Authority, Role, install_provider};
use tempfile::TempDir;

/// A place for one test: its own home, no settings from outside.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn dbfs(&self, arguments: &[&str]) -> Ended {
        self.dbfs_with(arguments, &[])
    }

    fn dbfs_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_dbfs"))
            .args(arguments)
            .env_clear()
            .env("HOME", self.0.path())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ended(output)
    }

    /// The file names in the place, sorted.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A configuration of a supernode that could start, with `more` lines in its section.
    fn supernode(&self, more: &str) -> String {
        install_provider();
        let authority = Authority::open_or_create(self.0.path()).unwrap();
        let identity = self.0.path().join("identity");
        authority.issue(&Role::Supernode, &[], &identity).unwrap();
        let text = format!(
            "supernode:\n  name: s1\n  listen: 127.0.0.1:0\n  data_dir: {}\n  identity_dir: {}\n{more}",
            self.path("data"),
            identity.display()
        );
        let file = self.path("config.yaml");
        std::fs::write(&file, text).unwrap();
        file
    }
}

struct Ended(Output);

impl Ended {
    fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// A failure with `number` and `code`: a line and a hint on stderr, nothing on stdout.
    #[track_caller]
    fn fails(&self, number: i32, code: &str) -> &Self {
        assert_eq!(self.code(), number, "{self:?}");
        assert_eq!(self.out(), "", "{self:?}");
        assert!(self.err().contains(&format!("error[{code}]: ")), "{self:?}");
        self
    }

    #[track_caller]
    fn hints(&self) -> &Self {
        assert!(self.err().contains("\nhint: "), "{self:?}");
        self
    }

    #[track_caller]
    fn succeeds(&self) -> &Self {
        assert_eq!(self.code(), 0, "{self:?}");
        self
    }
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.0.status,
            self.out(),
            self.err()
        )
    }
}

const COMMANDS: [&str; 29] = [
    "upload",
    "download",
    "list",
    "search",
    "update",
    "delete",
    "trash",
    "mv",
    "mkdir",
    "stat",
    "cat",
    "placement",
    "status",
    "leader",
    "login",
    "logout",
    "whoami",
    "user",
    "explain",
    "version",
    "up",
    "down",
    "demo",
    "bench",
    "supernode",
    "chunkserver",
    "cert",
    "completion",
    "man",
];

#[test]
fn every_command_has_help() {
    let place = Place::new();
    let all = place.dbfs(&["--help"]);
    all.succeeds();
    for command in COMMANDS {
        assert!(
            all.out().contains(&format!("  {command}")),
            "{command} in {all:?}"
        );
        let help = place.dbfs(&[command, "--help"]);
        help.succeeds();
        assert!(
            help.out().contains("Usage: dbfs ") && help.err().is_empty(),
            "{help:?}"
        );
    }
    for (short, long) in [
        ("put", "upload"),
        ("get", "download"),
        ("ls", "list"),
        ("find", "search"),
        ("rm", "delete"),
    ] {
        assert_eq!(
            place.dbfs(&[short, "--help"]).out(),
            place.dbfs(&[long, "--help"]).out()
        );
    }
    assert!(place.names().is_empty());
}

#[test]
fn what_is_no_command_line_ends_with_2() {
    let place = Place::new();
    assert_eq!(place.dbfs(&[]).code(), 2);
    for arguments in [
        &["uplaod", "x", "/me/x"][..],
        &["upload", "x"],
        &["upload", "x", "/me/x", "--colour"],
        &["download", "/me/x", "-", "--range", "9-1"],
        &["bench"],
        &["status", "--color", "sometimes"],
        &["upload", "-j", "0", "x", "/me/x"],
    ] {
        place.dbfs(arguments).fails(2, "E_USAGE");
    }
    let json = place.dbfs(&["upload", "--json", "x"]);
    let error: serde_json::Value = serde_json::from_str(json.err().trim()).unwrap();
    assert_eq!((json.code(), error["code"].as_str()), (2, Some("E_USAGE")));
    for field in ["message", "hint", "retryable", "request_id"] {
        assert!(error.get(field).is_some(), "{field} in {error}");
    }
    place.dbfs(&["list", "no-slash"]).fails(2, "E_PATH").hints();
}

#[test]
fn without_an_installation_the_way_to_one_is_told() {
    let place = Place::new();
    let ended = place.dbfs(&["list"]);
    ended.fails(2, "E_NO_PROFILE").hints();
    assert!(ended.err().contains("dbfs up"), "{ended:?}");
    place.dbfs(&["list", "lab:/me"]).fails(3, "E_NO_PROFILE").hints();
    place.dbfs(&["down"]).fails(3, "E_NOT_RUNNING").hints();
    place.dbfs(&["bench", "--small"]).fails(2, "E_NO_PROFILE");
    let nowhere = [("HOME", "")];
    place.dbfs_with(&["list"], &nowhere).fails(1, "E_NO_HOME");
    assert!(place.names().is_empty());
}

#[test]
fn a_damaged_profile_is_left_as_it_is() {
    let place = Place::new();
    let directory = place.0.path().join("c/dbfs");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("profiles.json"), "{").unwrap();
    let config = place.path("c");
    let ended = place.dbfs_with(&["list"], &[("XDG_CONFIG_HOME", &config)]);
    ended.fails(1, "E_PROFILES").hints();
    assert_eq!(
        std::fs::read_to_string(directory.join("profiles.json")).unwrap(),
        "{"
    );
}

#[test]
fn nobody_there_can_be_tried_again() {
    let place = Place::new();
    install_provider();
    Authority::open_or_create(place.0.path()).unwrap();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap().to_string();
    drop(unused);
    let ca = place.path("ca.pem");
    let login = ["login", &address, "--user", "me", "--yes"];
    place
        .dbfs_with(&login, &[("DBFS_PASSWORD", "x")])
        .fails(5, "E_UNREACHABLE")
        .hints();
    let environment = [
        ("DBFS_CA", ca.as_str()),
        ("DBFS_ENDPOINTS", &address),
        ("DBFS_TOKEN", "x"),
    ];
    let json = place.dbfs_with(&["whoami", "--json"], &environment);
    let error: serde_json::Value = serde_json::from_str(json.err().trim()).unwrap();
    assert_eq!(
        (json.code(), error["retryable"].as_bool()),
        (5, Some(true)),
        "{json:?}"
    );
    // Where everything is said, neither a home nor profiles are needed.
    let everything = [environment.as_slice(), &[("HOME", "")]].concat();
    place
        .dbfs_with(&["whoami"], &everything)
        .fails(5, "E_UNREACHABLE");
    std::fs::create_dir_all(place.path(".config/dbfs")).unwrap();
    std::fs::write(place.path(".config/dbfs/profiles.json"), "{").unwrap();
    place
        .dbfs_with(&["whoami"], &environment)
        .fails(5, "E_UNREACHABLE");
}

#[test]
fn endpoints_that_are_no_addresses_are_told() {
    let place = Place::new();
    install_provider();
    Authority::open_or_create(place.0.path()).unwrap();
    let ca = place.path("ca.pem");
    for (endpoint, instead) in [
        ("127.0.0.1", "127.0.0.1:PORT"),
        ("https://host:7001", "host:7001"),
        ("::1:47061", "[::1]:47061"),
        ("host:x", "host:PORT"),
        ("127.0.0.1:1,host", "host:PORT"),
    ] {
        let environment = [("DBFS_CA", ca.as_str()), ("DBFS_TOKEN", "x")];
        let ended = place.dbfs_with(&["whoami", "--endpoints", endpoint], &environment);
        ended.fails(2, "E_USAGE").hints();
        assert!(ended.err().contains(&format!("write {instead}")), "{ended:?}");
    }
    place
        .dbfs(&["login", "::1:47061", "--user", "me"])
        .fails(2, "E_USAGE")
        .hints();
}

#[test]
fn an_address_that_nobody_can_connect_to_is_not_announced() {
    for more in [
        "  advertise: 0.0.0.0:7001\n",
        "  advertise: '[::]:7001'\n",
        "  advertise: host\n",
        "  join: [host]\n",
    ] {
        let place = Place::new();
        let config = place.supernode(more);
        let ended = place.dbfs(&["supernode", "--config", &config]);
        ended.fails(2, "E_CONFIG").hints();
        assert!(!place.0.path().join("data").exists(), "{more}");
    }
    // Bound to every address, and nobody to ask from which of them others come.
    let place = Place::new();
    let config = place.supernode("");
    let ended = place.dbfs(&[
        "supernode",
        "--config",
        &config,
        "--set",
        "supernode.listen=0.0.0.0:0",
    ]);
    ended.fails(2, "E_CONFIG").hints();
    assert!(ended.err().contains("advertise"), "{ended:?}");
}

#[test]
fn a_configuration_with_a_mistake_starts_nothing() {
    let place = Place::new();
    let file = place.supernode("  colour: red\n");
    let before = place.names();
    let ended = place.dbfs(&["supernode", "--config", &file]);
    ended.fails(2, "E_CONFIG").hints();
    assert!(ended.err().contains("colour"), "{ended:?}");
    let file = place.supernode("");
    for set in [
        "log.filter=???",
        "supernode.voters=2",
        "supernode.listne=x",
        "supernode.voters=many",
        "nonsense",
    ] {
        let ended = place.dbfs(&["supernode", "--config", &file, "--set", set]);
        assert_eq!(ended.code(), 2, "{set}: {ended:?}");
    }
    let missing = place.path("missing.yaml");
    place
        .dbfs(&["chunkserver", "--config", &missing])
        .fails(2, "E_CONFIG");
    assert_eq!(place.names(), before);
}

#[test]
fn an_identity_that_cannot_be_used_starts_nothing() {
    let place = Place::new();
    let file = place.supernode("");
    let key = place.0.path().join("identity/node.key");
    std::fs::write(&key, "not a key").unwrap();
    let before = place.names();
    let ended = place.dbfs(&["supernode", "--config", &file]);
    ended.fails(1, "E_IDENTITY").hints();
    assert!(ended.err().contains("node.key"), "{ended:?}");
    std::fs::remove_file(&key).unwrap();
    place
        .dbfs(&["supernode", "--config", &file])
        .fails(1, "E_IDENTITY");
    assert_eq!(place.names(), before);
}

#[test]
fn a_port_or_directory_in_use_is_told() {
    let place = Place::new();
    let file = place.supernode("");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["metrics.listen", "supernode.listen"] {
        let ended = place.dbfs(&[
            "supernode",
            "--found",
            "--config",
            &file,
            "--set",
            &format!("{key}={address}"),
        ]);
        ended.fails(5, "E_ADDRESS").hints();
        assert!(ended.err().contains(&address), "{ended:?}");
    }
    std::fs::create_dir_all(place.0.path().join("data")).unwrap();
    let lock = std::fs::File::create(place.0.path().join("data/lock")).unwrap();
    lock.lock().unwrap();
    place
        .dbfs(&["supernode", "--config", &file])
        .fails(6, "E_DATA_DIR_IN_USE")
        .hints();
    drop(lock);
    std::fs::write(place.0.path().join("data/thesis.tex"), "x").unwrap();
    place
        .dbfs(&["supernode", "--found", "--config", &file])
        .fails(2, "E_DATA_DIR")
        .hints();
}

#[test]
fn up_refuses_what_cannot_keep_its_promise() {
    let place = Place::new();
    place
        .dbfs(&["up", "--nodes", "2"])
        .fails(2, "E_DURABILITY")
        .hints();
    place
        .dbfs(&["up", "--supernodes", "1"])
        .fails(2, "E_DURABILITY")
        .hints();
    place
        .dbfs(&["up", "--supernodes", "2", "--durability", "reduced"])
        .fails(2, "E_USAGE");
    place.dbfs(&["up", "--nodes", "0"]).fails(2, "E_USAGE");
    assert!(place.names().is_empty());
    std::fs::write(place.0.path().join("thesis.tex"), "x").unwrap();
    let own = place.0.path().display().to_string();
    place.dbfs(&["up", "--data", &own]).fails(6, "E_EXISTS").hints();
    assert_eq!(place.names(), ["thesis.tex"]);
    // Without a place for the profile nothing is begun.
    let data = place.path("installation");
    place
        .dbfs_with(&["up", "--data", &data], &[("HOME", "")])
        .fails(1, "E_NO_HOME")
        .hints();
    assert_eq!(place.names(), ["thesis.tex"]);
}

#[test]
fn codes_are_explained() {
    let place = Place::new();
    let one = place.dbfs(&["explain", "E_NO_LEADER"]);
    one.succeeds();
    assert!(one.out().starts_with("E_NO_LEADER (exit code 5)\n"), "{one:?}");
    assert_eq!(place.dbfs(&["explain", "no-leader"]).out(), one.out());
    place
        .dbfs(&["explain", "E_NONSENSE"])
        .fails(3, "E_NOT_FOUND")
        .hints();
    let all = place.dbfs(&["explain", "--json"]);
    all.succeeds();
    for line in all.out().lines() {
        let code: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            code["text"].as_str().is_some_and(|text| text.len() > 20),
            "{line}"
        );
    }
}

/// Every code that stands in the sources of any crate is one that `dbfs explain` knows.
#[test]
fn no_code_is_without_an_explanation() {
    let place = Place::new();
    let known = place.dbfs(&["explain"]).out();
    let known: Vec<&str> = known
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut missing = std::collections::BTreeSet::new();
    for part in [
        "common",
        "proto",
        "consensus",
        "supernode",
        "chunkserver",
        "client",
        "dbfs/src",
    ] {
        sources(&root.join(part), &mut |text| {
            for piece in text.split("\"E_").skip(1) {
                let name: String = piece
                    .chars()
                    .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                    .collect();
                let code = format!("E_{name}");
                let is_whole =
                    !name.is_empty() && piece.get(name.len()..).is_some_and(|rest| rest.starts_with('"'));
                if is_whole && !known.contains(&code.as_str()) {
                    missing.insert(code);
                }
            }
        });
    }
    assert!(missing.is_empty(), "not explained: {missing:?}");
}

fn sources(directory: &Path, see: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path
                .file_name()
                .is_some_and(|name| name != "target" && name != "tests")
            {
                sources(&path, see);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            see(text.split("#[cfg(test)]").next().unwrap_or_default());
        }
    }
}

#[test]
fn a_bandwidth_limit_has_a_floor() {
    let place = Place::new();
    place
        .dbfs(&["upload", "--bwlimit", "1KiB", "file", "/me/"])
        .fails(2, "E_USAGE");
    let parsed = place.dbfs(&["upload", "--bwlimit", "1MiB", "file", "/me/"]);
    assert!(!parsed.err().contains("bwlimit"), "{parsed:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let place = Place::new();
    let directory = place.0.path().join("man1");
    place.dbfs(&["man", &directory.display().to_string()]).succeeds();
    let page = std::fs::read_to_string(directory.join("dbfs-upload.1")).unwrap();
    assert!(page.contains("Uploads files"), "{page}");
    assert!(directory.join("dbfs.1").exists() && directory.join("dbfs-status.1").exists());
}

#[test]
fn shells_get_their_completions() {
    let place = Place::new();
    for (shell, sign) in [
        ("bash", "_dbfs"),
        ("zsh", "#compdef dbfs"),
        ("fish", "complete -c dbfs"),
    ] {
        let script = place.dbfs(&["completion", shell]);
        script.succeeds();
        assert!(
            script.out().contains(sign) && script.out().contains("placement"),
            "{shell}"
        );
    }
    place.dbfs(&["completion", "abacus"]).fails(2, "E_USAGE");
}

#[test]
fn the_defaults_are_those_of_the_repository() {
    let place = Place::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("config.yaml");
    let printed = place.dbfs(&["config-defaults"]);
    printed.succeeds();
    assert_eq!(printed.out(), std::fs::read_to_string(file).unwrap());
}

#[test]
fn versions_are_told() {
    let place = Place::new();
    let version: serde_json::Value = serde_json::from_str(&place.dbfs(&["version", "--json"]).out()).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        place.dbfs(&["--version"]).out(),
        format!("dbfs {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn identities_are_made_by_hand() {
    let place = Place::new();
    let (ca, node) = (place.path("ca"), place.path("node"));
    place
        .dbfs(&["cert", "issue", "--ca-dir", &ca, "--supernode", &node])
        .fails(3, "E_IDENTITY")
        .hints();
    let made = place.dbfs(&["cert", "init", "--ca-dir", &ca]);
    made.succeeds();
    place
        .dbfs(&["cert", "init", "--ca-dir", &ca])
        .fails(6, "E_EXISTS");
    place
        .dbfs(&[
            "cert",
            "issue",
            "--ca-dir",
            &ca,
            "--chunkserver",
            "alpha",
            "--host",
            "127.0.0.1",
            &node,
        ])
        .succeeds();
    common::tls::Identity::load(Path::new(&node)).unwrap();
    place
        .dbfs(&["cert", "issue", "--ca-dir", &ca, "--chunkserver", "Al pha", &node])
        .fails(1, "E_TLS");
    place
        .dbfs(&["cert", "issue", "--ca-dir", &ca, &node])
        .fails(2, "E_USAGE");
    let shown = place.dbfs(&["cert", "fingerprint", &format!("{ca}/ca.pem")]);
    assert_eq!(shown.out().lines().count(), 1);
    assert!(made.out().ends_with(&shown.out()));
}
