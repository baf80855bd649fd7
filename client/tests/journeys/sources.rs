//! Local files that are not what the file system says, or to which something happens while they are uploaded; readers
//! that panic; commands that are told to end.

use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use client::upload::{Source, UploadReceipt};
use client::{Client, Error};
use common::error::Kind;
use common::time::Clock;

use crate::commands::User;
use crate::fake::Fake;
use crate::{content, digest, path};

const CHUNK: usize = 2 << 20;

/// Uploads a file of some chunks and does `harm` to it once one that it can harm is stored and others are under way.
async fn while_uploaded(harm: impl FnOnce(&Path)) -> (Result<UploadReceipt, Error>, PathBuf, Fake) {
    let fake = Fake::start(1, 3).await;
    let client: Client = fake.client().await;
    let file = fake.directory.path().join("source");
    std::fs::write(&file, content(4 * CHUNK + 5, 11)).unwrap();
    // What is done from now on bears another time.
    let changed = |path: &Path| {
        (
            path.metadata().unwrap().ctime(),
            path.metadata().unwrap().ctime_nsec(),
        )
    };
    let other = fake.directory.path().join("other");
    while {
        std::fs::write(&other, "x").unwrap();
        changed(&other) == changed(&file)
    } {}
    // The first node has the first chunk and the fourth.
    for (node, slowness) in fake.nodes.iter().zip([10, 50, 50]) {
        *node.slowness.lock() = Duration::from_millis(slowness);
    }
    let to = path("/me/f");
    let upload = client.upload(Source::file(&file), &to, Default::default());
    let vandal = async {
        while fake.nodes[0].puts.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        harm(&file);
    };
    let (result, ()) = tokio::join!(upload, vandal);
    (result, file, fake)
}

#[tokio::test]
async fn what_leaves_the_content_alone_is_no_change() {
    let harmless: [fn(&Path); 4] = [
        |file| std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap(),
        |file| std::fs::hard_link(file, file.with_extension("link")).unwrap(),
        |file| std::fs::remove_file(file).unwrap(),
        |file| {
            let times = std::fs::FileTimes::new().set_accessed(std::time::SystemTime::UNIX_EPOCH);
            std::fs::File::open(file).unwrap().set_times(times).unwrap();
        },
    ];
    for harm in harmless {
        let (result, _, _fake) = while_uploaded(harm).await;
        assert_eq!(result.unwrap().digest, digest(&content(4 * CHUNK + 5, 11)));
    }
}

#[tokio::test]
async fn content_that_changes_is_noticed_also_where_its_time_is_set_back() {
    let change = |file: &Path, set_back: bool| {
        let modified = std::fs::metadata(file).unwrap().modified().unwrap();
        let open = std::fs::File::options().write(true).open(file).unwrap();
        for at in 0..4 {
            open.write_all_at(b"changed", at * CHUNK as u64).unwrap();
        }
        if set_back {
            open.set_modified(modified).unwrap();
        }
    };
    for set_back in [false, true] {
        let (result, _, _fake) = while_uploaded(|file| change(file, set_back)).await;
        let error = result.unwrap_err();
        assert_eq!(error.code(), "E_SOURCE_CHANGED", "{set_back}: {error:?}");
    }
}

#[tokio::test]
async fn a_file_that_grows_is_read_to_its_end() {
    let grow = |file: &Path| {
        let mut log = std::fs::File::options().append(true).open(file).unwrap();
        log.write_all(&content(CHUNK, 12)).unwrap();
    };
    let (result, file, _fake) = while_uploaded(grow).await;
    let (receipt, now) = (result.unwrap(), std::fs::read(file).unwrap());
    assert_eq!(receipt.size.get(), now.len() as u64);
    assert_eq!((receipt.digest, receipt.chunks), (digest(&now), 6));
}

#[tokio::test]
async fn files_without_a_true_length_are_read_to_their_end() {
    let user = User::new().await;
    let mut sources = vec!["/proc/cpuinfo", "/proc/self/mountinfo"];
    sources.extend(
        ["/sys/kernel/uevent_seqnum", "/sys/kernel/fscaps"]
            .into_iter()
            .filter(|path| Path::new(path).exists()),
    );
    for source in sources {
        let text = std::fs::read(source).unwrap();
        for command in ["upload", "update"] {
            let receipt = user.dbfs(&[command, "--json", source, "/me/f"]).await.objects();
            assert_eq!(receipt[0]["size"].as_u64(), Some(text.len() as u64), "{source}");
        }
    }
}

#[tokio::test]
async fn a_pipe_is_refused_by_every_command_that_takes_a_file() {
    let user = User::new().await;
    let (pipe, file) = (user.local("pipe"), user.write("file", b"x"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    user.dbfs(&["upload", &file, "/me/f"]).await.done();
    for arguments in [
        ["upload", &pipe, "/me/f"],
        ["update", &pipe, "/me/f"],
        ["update", &user.local(""), "/me/f"],
    ] {
        let ended = user.dbfs(&arguments).await;
        assert_eq!(ended.result.unwrap_err().exit.number(), 2, "{arguments:?}");
    }
    let client = user.fake.client().await;
    let error = client
        .upload(Source::file(&pipe), &path("/me/f"), Default::default())
        .await;
    assert_eq!(error.unwrap_err().kind(), Kind::Invalid);
}

/// Gives some bytes, then panics.
struct Panics(usize);

impl tokio::io::AsyncRead for Panics {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        assert!(self.0 > 0, "the reader fell over");
        let count = self.0.min(into.remaining());
        into.put_slice(&vec![1; count]);
        self.0 -= count;
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_panic_is_neither_an_interruption_nor_the_end_of_the_input() {
    for length in [0, 10, CHUNK, 3 * CHUNK + 9] {
        let fake = Fake::start(1, 3).await;
        let client = fake.client().await;
        let error = client
            .upload(
                Source::stream(Panics(length), None),
                &path("/me/f"),
                Default::default(),
            )
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("E_PANIC", Kind::Fatal),
            "{length}: {error:?}"
        );
        let ended = client::cli::failure::Failure::from(error);
        assert_eq!(ended.exit.number(), 1);
        assert!(fake.world.state().files.is_empty(), "{length}");
        assert_eq!(fake.world.count("abort upload"), 1);
    }
}

#[tokio::test]
async fn a_tree_that_is_told_to_end_says_so_once() {
    for json in [true, false] {
        let user = User::new().await;
        for at in 0..60 {
            user.write(&format!("in/f{at}"), &content(100, at));
        }
        let stop = async {
            while user.fake.world.state().files.len() < 3 {
                Clock::real().sleep(Duration::from_millis(1)).await;
            }
            user.shutdown.trigger();
        };
        let mut arguments = vec!["upload", "-r", "-j", "1"];
        arguments.extend(json.then_some("--json"));
        let source = user.local("in");
        arguments.extend([source.as_str(), "/me/in"]);
        let (ended, ()) = tokio::join!(user.dbfs(&arguments), stop);
        ended.fails(130, "E_INTERRUPTED");
        assert_eq!(ended.err, "", "one failure, told by the caller");
        let message = &ended.result.as_ref().unwrap_err().message;
        assert!(message.contains("of 60 files were done"), "{message}");
    }
}
