//! The commands end to end against the fake installation: what they print, what they end with, what they store.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use client::Seams;
use client::cli::console::Console;
use client::cli::context::Context;
use client::cli::failure::Failure;
use client::cli::options::{Environment, Options};
use client::cli::profile::{Profile, Store};
use common::error::Kind;
use common::shutdown::Shutdown;
use common::time::{Clock, WallTime};
use parking_lot::Mutex;
use proto::error::RpcError;
use serde_json::Value;

use crate::content;
use crate::fake::Fake;
use crate::fake::world::Fault;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: client::cli::Command,
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Heard {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) result: Result<(), Failure>,
}

impl Ended {
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert!(self.result.is_ok(), "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn fails(&self, exit: u8, code: &str) {
        let failure = self.result.as_ref().unwrap_err();
        assert_eq!(
            (failure.exit.number(), failure.code.as_str()),
            (exit, code),
            "{self:?}"
        );
    }

    #[track_caller]
    pub(crate) fn objects(self) -> Vec<Value> {
        let text = self.done();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// A user at a terminal that nobody looks at.
pub(crate) struct User {
    pub(crate) fake: Fake,
    pub(crate) home: tempfile::TempDir,
    pub(crate) shutdown: Shutdown,
}

impl User {
    /// Logged in by a profile, as `dbfs login` would have made it.
    pub(crate) async fn new() -> Self {
        let fake = Fake::start(1, 3).await;
        let user = Self::unknown(fake);
        user.know(Some("sesame"), None);
        user
    }

    fn unknown(fake: Fake) -> Self {
        Self {
            fake,
            home: tempfile::tempdir().unwrap(),
            shutdown: Shutdown::new(),
        }
    }

    fn environment(&self) -> Environment {
        Environment::of([("HOME", self.home.path().to_str().unwrap())])
    }

    fn store(&self) -> Store {
        Store::of(&self.environment()).unwrap()
    }

    fn know(&self, token: Option<&str>, password: Option<&str>) {
        let settings = self.fake.settings();
        let hour = WallTime::from_millis(Clock::real().wall().as_millis() + 3_600_000);
        let profile = Profile {
            supernodes: settings.supernodes,
            ca_pem: settings.ca_pem,
            user: "me".to_owned(),
            token: token.map(str::to_owned),
            token_expires: token.map(|_| hour),
            password: password.map(str::to_owned),
            data_dir: None,
        };
        let store = self.store();
        store
            .update(|all| {
                all.profiles.insert("lab".to_owned(), profile);
            })
            .unwrap();
    }

    pub(crate) fn local(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    pub(crate) async fn dbfs(&self, arguments: &[&str]) -> Ended {
        self.dbfs_in(self.environment(), arguments).await
    }

    async fn dbfs_in(&self, environment: Environment, arguments: &[&str]) -> Ended {
        let line = Line::parse_from([&["dbfs"], arguments].concat());
        let (out, err) = (Heard::default(), Heard::default());
        let context = Context {
            console: Console::to_writers(&line.options, Box::new(out.clone()), Box::new(err.clone())),
            options: line.options,
            environment,
            seams: Seams::real(),
            shutdown: self.shutdown.clone(),
            reload: common::reload::Reload::default(),
            login_again: Arc::default(),
        };
        let result = client::cli::run(&context, line.command).await;
        Ended {
            out: out.text(),
            err: err.text(),
            result,
        }
    }
}

/// The token is over, and what the new login gave can be saved nowhere.
#[tokio::test]
async fn a_login_that_cannot_be_saved_counts_for_the_command() {
    let user = User::new().await;
    user.know(None, Some("secret"));
    // Not even root can take a directory for the lock.
    let lock = user.store().path().with_file_name("profiles.lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    let ended = user.dbfs(&["whoami", "--json"]).await;
    assert!(ended.err.contains("counts for this command only"), "{ended:?}");
    let said = ended.done();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["name"], "me");
    // A profile without a password takes it from the environment.
    std::fs::remove_dir(&lock).unwrap();
    user.know(None, None);
    let mut pairs: Vec<(String, String)> = user.environment().pairs().collect();
    pairs.push(("DBFS_PASSWORD".to_owned(), "secret".to_owned()));
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    user.dbfs_in(Environment::of(pairs), &["whoami"]).await.done();
}

#[tokio::test]
async fn a_file_goes_up_and_comes_back() {
    let user = User::new().await;
    let bytes = content(5_000_000, 1);
    let source = user.write("film.mov", &bytes);
    let said = user.dbfs(&["upload", &source, "/me/film.mov"]).await.done();
    let digest = blake3::hash(&bytes).to_string();
    assert!(said.contains("/me/film.mov") && said.contains(&digest), "{said}");
    let receipt = user
        .dbfs(&["upload", "--json", &source, "lab:/me/"])
        .await
        .objects();
    let [receipt] = receipt.as_slice() else {
        panic!("{receipt:?}")
    };
    assert_eq!(
        (receipt["path"].as_str(), receipt["size"].as_u64()),
        (Some("/me/film.mov"), Some(5_000_000))
    );
    assert_eq!(
        (receipt["chunks"].as_u64(), receipt["digest"].as_str()),
        (Some(3), Some(digest.as_str()))
    );
    let to = user.local("back.mov");
    let said = user.dbfs(&["download", "/me/film.mov", &to]).await.done();
    assert!(said.contains("digest verified"), "{said}");
    assert_eq!(std::fs::read(&to).unwrap(), bytes);
    user.dbfs(&["download", "--range", "10-19", "/me/film.mov", &to])
        .await
        .done();
    assert_eq!(std::fs::read(&to).unwrap(), bytes[10..20]);
    let place = user.dbfs(&["placement", "--json", "/me/film.mov"]).await.done();
    let place: Value = serde_json::from_str(&place).unwrap();
    assert_eq!(place["chunks"][2]["copies"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_tree_goes_up_and_comes_back() {
    let user = User::new().await;
    let mut expected = Vec::new();
    for at in 0..40 {
        let name = format!("src/d{}/f{at}.txt", at % 3);
        let bytes = content(at * 100, at as u64);
        user.write(&name, &bytes);
        expected.push((name, bytes));
    }
    user.write("src/target/junk.o", b"x");
    let source = user.local("src");
    user.dbfs(&["upload", &source, "/me/src"])
        .await
        .fails(2, "E_USAGE");
    let plan = user
        .dbfs(&["upload", "-r", "-n", "--exclude", "target", &source, "/me/src"])
        .await
        .done();
    assert_eq!(plan.lines().count(), 40);
    assert_eq!(user.fake.world.count("open upload"), 0);
    let said = user
        .dbfs(&["upload", "-r", "--exclude", "target", &source, "/me/src"])
        .await
        .done();
    assert!(said.starts_with("40 files"), "{said}");
    assert!(
        !user
            .fake
            .world
            .state()
            .files
            .contains_key("/me/src/target/junk.o")
    );
    let to = user.local("back");
    let said = user
        .dbfs(&["download", "-r", "-j", "4", "/me/src", &to])
        .await
        .done();
    assert!(
        said.starts_with("40 files") && said.contains("every byte verified"),
        "{said}"
    );
    for (name, bytes) in &expected {
        let local = Path::new(&to).join(name.strip_prefix("src/").unwrap());
        assert_eq!(std::fs::read(local).unwrap(), *bytes, "{name}");
    }
    let said = user
        .dbfs(&[
            "download",
            "-r",
            "--include",
            "*7.txt",
            "/me/src",
            &user.local("some/"),
        ])
        .await
        .done();
    assert!(said.starts_with("4 files"), "{said}");
    assert!(Path::new(&user.local("some/src/d1/f7.txt")).exists());
}

#[tokio::test]
async fn what_fails_alone_is_told_and_the_rest_is_done() {
    let user = User::new().await;
    for at in 0..5 {
        user.write(&format!("in/f{at}"), &[at; 10]);
    }
    let refusal = RpcError::new(Kind::Full, "E_QUOTA", "the quota of me is used up");
    user.fake
        .world
        .script("open upload", Fault::Refuse(refusal.clone()));
    let ended = user.dbfs(&["upload", "-r", &user.local("in"), "/me/in"]).await;
    ended.fails(9, "E_PARTIAL");
    assert!(
        ended.err.contains("quota of me") && ended.out.starts_with("4 files"),
        "{ended:?}"
    );
    user.fake.world.script("open upload", Fault::Refuse(refusal));
    let ended = user.dbfs(&["upload", &user.local("in/f1"), "/me/f1"]).await;
    ended.fails(7, "E_QUOTA");
    assert_eq!(ended.out, "");
    user.dbfs(&["upload", &user.local("missing"), "/me/f1"])
        .await
        .fails(3, "E_LOCAL_FILE");
}

#[tokio::test]
async fn conditions_and_updates() {
    let user = User::new().await;
    let (old, new) = (user.write("old", b"old"), user.write("new", b"newer"));
    user.dbfs(&["update", &old, "/me/f"])
        .await
        .fails(3, "E_NOT_FOUND");
    user.dbfs(&["upload", "--if-none-match", &old, "/me/f"])
        .await
        .done();
    user.dbfs(&["upload", "--if-none-match", &new, "/me/f"])
        .await
        .fails(6, "E_CONFLICT");
    let stat = user.dbfs(&["stat", "--json", "/me/f"]).await.done();
    let stat: Value = serde_json::from_str(&stat).unwrap();
    let version = stat["version"].as_u64().unwrap();
    user.dbfs(&["update", "--if-match", "7", &new, "/me/f"])
        .await
        .fails(6, "E_VERSION");
    let said = user
        .dbfs(&["update", "--if-match", &version.to_string(), &new, "/me/f"])
        .await
        .done();
    assert!(said.contains("1 of 1 chunks, 5 B"), "{said}");
    user.dbfs(&["stat", "/me/missing"]).await.fails(3, "E_NOT_FOUND");
}

#[tokio::test]
async fn names_are_listed_searched_moved_and_deleted() {
    let user = User::new().await;
    let file = user.write("f", b"12345");
    for name in ["/me/a.txt", "/me/b.txt", "/me/c.log"] {
        user.dbfs(&["upload", &file, name]).await.done();
    }
    assert_eq!(user.dbfs(&["list", "/me"]).await.done(), "a.txt\nb.txt\nc.log\n");
    assert_eq!(
        user.dbfs(&["list"]).await.done(),
        "/me/a.txt\n/me/b.txt\n/me/c.log\n"
    );
    let long = user.dbfs(&["list", "-l", "/me"]).await.done();
    assert!(
        long.contains("5 B  1970-01-01 00:00:01") && long.contains("me  a.txt"),
        "{long}"
    );
    let entries = user.dbfs(&["list", "--json", "/me/*.txt"]).await.objects();
    let paths: Vec<_> = entries
        .iter()
        .map(|entry| entry["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["/me/a.txt", "/me/b.txt"]);
    assert_eq!(
        user.dbfs(&["search", "-0", ".txt"]).await.done(),
        "/me/a.txt\0/me/b.txt\0"
    );
    assert_eq!(
        user.dbfs(&["search", "--limit", "1", "/me", ".txt"]).await.done(),
        "/me/a.txt\n"
    );
    assert_eq!(
        user.dbfs(&["mv", "/me/c.log", "/me/d.log"]).await.done(),
        "/me/c.log -> /me/d.log\n"
    );
    user.dbfs(&["mkdir", "/me/logs"]).await.done();
    assert_eq!(
        user.dbfs(&["mv", "/me/d.log", "/me/logs/"]).await.done(),
        "/me/d.log -> /me/logs/d.log\n"
    );
    user.dbfs(&["delete", "/me/logs"]).await.fails(2, "E_USAGE");
    user.dbfs(&["delete", "/me/*.txt"]).await.fails(2, "E_USAGE");
    assert_eq!(
        user.dbfs(&["delete", "-n", "/me/*.txt"]).await.done(),
        "/me/a.txt\n/me/b.txt\n"
    );
    let said = user.dbfs(&["delete", "--yes", "/me/*.txt"]).await.done();
    assert!(said.starts_with("/me/a.txt  deleted (1 file, 5 B)\n"), "{said}");
    user.dbfs(&["delete", "/me/a.txt"]).await.fails(3, "E_NOT_FOUND");
    user.dbfs(&["mv", "/me/x", "other:/me/y"])
        .await
        .fails(3, "E_NO_PROFILE");
}

#[tokio::test]
async fn the_first_login_pins_what_was_compared() {
    let user = User::unknown(Fake::start(1, 1).await);
    let settings = user.fake.settings();
    let address = settings.supernodes[0].clone();
    let fingerprint = common::tls::fingerprint(&settings.ca_pem).unwrap();
    let environment = |password: &str| {
        Environment::of([
            ("HOME", user.home.path().to_str().unwrap()),
            ("DBFS_PASSWORD", password),
        ])
    };
    let login = ["login", &address, "--user", "me", "--as", "lab"];
    // Nobody can be asked here.
    let asked = user.dbfs_in(environment("secret"), &login).await;
    asked.fails(2, "E_USAGE");
    assert!(asked.err.contains(&fingerprint), "{asked:?}");
    let wrong = [&login[..], &["--fingerprint", "abcd"]].concat();
    user.dbfs_in(environment("secret"), &wrong)
        .await
        .fails(4, "E_FINGERPRINT");
    let right = [&login[..], &["--fingerprint", &fingerprint]].concat();
    user.dbfs_in(environment("guess"), &right)
        .await
        .fails(4, "E_LOGIN");
    assert!(user.store().load().unwrap().profiles.is_empty());
    user.dbfs_in(environment("secret"), &right).await.done();
    let whoami = user.dbfs(&["whoami", "--json"]).await.done();
    assert_eq!(serde_json::from_str::<Value>(&whoami).unwrap()["name"], "me");
    // The CA is known now: the next login asks nothing.
    user.dbfs_in(environment("secret"), &["login"]).await.done();
    user.dbfs(&["logout"]).await.done();
    user.dbfs(&["whoami"]).await.fails(4, "E_NOT_LOGGED_IN");
}

#[tokio::test]
async fn only_a_local_profile_logs_in_again_by_itself() {
    let user = User::unknown(Fake::start(1, 1).await);
    user.know(Some("old"), None);
    user.dbfs(&["whoami"]).await.fails(4, "E_NOT_LOGGED_IN");
    user.know(Some("old"), Some("secret"));
    user.dbfs(&["whoami"]).await.done();
    assert_eq!(
        user.store().load().unwrap().profiles["lab"].token.as_deref(),
        Some("sesame")
    );
    let home = user.home.path().to_str().unwrap().to_owned();
    user.know(None, None);
    let by_environment = Environment::of([
        ("HOME", home.as_str()),
        ("DBFS_USER", "me"),
        ("DBFS_PASSWORD", "secret"),
    ]);
    user.dbfs_in(by_environment, &["whoami"]).await.done();
    let by_token = Environment::of([("HOME", home.as_str()), ("DBFS_TOKEN", "sesame")]);
    user.dbfs_in(by_token, &["whoami"]).await.done();
}

#[tokio::test]
async fn an_interrupted_large_upload_goes_on_where_it_stopped() {
    let mut user = User::new().await;
    user.fake.world.state().chunk_bytes = 4 << 20;
    let bytes = content((64 << 20) + 1, 9);
    let source = user.write("large", &bytes);
    let stop = async {
        while user.fake.world.count("plan chunks") == 0 {
            Clock::real().sleep(Duration::from_millis(1)).await;
        }
        user.shutdown.trigger();
    };
    let upload = ["upload", &source, "/me/large"];
    let (ended, ()) = tokio::join!(user.dbfs(&upload), stop);
    ended.fails(130, "E_INTERRUPTED");
    assert!(!user.fake.world.state().files.contains_key("/me/large"));
    user.shutdown = Shutdown::new();
    let receipt = user
        .dbfs(&["upload", "--json", &source, "/me/large"])
        .await
        .objects();
    assert_eq!(receipt[0]["chunks"], 17);
    assert_eq!(
        receipt[0]["digest"].as_str(),
        Some(blake3::hash(&bytes).to_string().as_str())
    );
    assert_eq!(
        user.fake.world.state().uploads.len(),
        1,
        "the same upload was continued"
    );
    let left = std::fs::read_dir(user.home.path().join(".local/state/dbfs/uploads")).unwrap();
    assert_eq!(left.count(), 0);
}
