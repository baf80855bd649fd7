//! Downloads to what is no regular file, or has a name as long as names may be; what is left behind after a failure.

use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::time::Duration;

use client::download::{DownloadOptions, Sink, leftover_parts};
use client::upload::Source;
use common::time::Clock;

use crate::commands::User;
use crate::fake::Fake;
use crate::fake::data::GetFault;
use crate::{content, path};

fn pipe(at: &str) {
    let made = std::process::Command::new("mkfifo").arg(at).status().unwrap();
    assert!(made.success());
}

/// A user with a file of some chunks at `/me/f`.
async fn user(bytes: &[u8]) -> User {
    let user = User::new().await;
    let source = user.write("source", bytes);
    user.dbfs(&["upload", &source, "/me/f"]).await.done();
    user
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_is_written_through_and_never_replaced() {
    let bytes = content(5_000_000, 1);
    let user = user(&bytes).await;
    let (fifo, link) = (user.local("fifo"), user.local("link"));
    pipe(&fifo);
    symlink(&fifo, &link).unwrap();
    for target in [&fifo, &link] {
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read(fifo).unwrap()
        });
        let said = user.dbfs(&["download", "/me/f", target]).await.done();
        assert!(said.contains("digest verified"), "{said}");
        assert!(reader.join().unwrap() == bytes);
    }
    assert!(Path::new(&fifo).metadata().unwrap().file_type().is_fifo());
    // Through links, so that a defect would replace the links and not the machine's devices.
    for (device, exit) in [("/dev/null", None), ("/dev/full", Some((7, "E_LOCAL_FILE")))] {
        let link = user.local(&device[5..]);
        symlink(device, &link).unwrap();
        let ended = user.dbfs(&["download", "/me/f", &link]).await;
        match exit {
            None => drop(ended.done()),
            Some((exit, code)) => ended.fails(exit, code),
        }
        assert!(
            Path::new(&link).symlink_metadata().unwrap().is_symlink(),
            "{device}"
        );
    }
    let socket = user.local("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    user.dbfs(&["download", "/me/f", &socket])
        .await
        .fails(2, "E_INVALID");
}

#[tokio::test]
async fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let bytes = content(100, 1);
    let user = user(&bytes).await;
    let (file, link) = (user.write("deep/file", b"old"), user.local("link"));
    symlink("deep/file", &link).unwrap();
    symlink("deep/new", user.local("dangling")).unwrap();
    for target in [&link, &user.local("dangling")] {
        user.dbfs(&["download", "/me/f", target]).await.done();
        assert!(Path::new(target).symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(target).unwrap(), bytes);
    }
    assert!(Path::new(&file).symlink_metadata().unwrap().is_file());
    let names = std::fs::read_dir(user.local("deep")).unwrap();
    assert_eq!(names.count(), 2, "no part stays behind");
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_is_left_at_the_signal_to_end() {
    let user = user(b"x").await;
    let fifo = user.local("fifo");
    pipe(&fifo);
    let stop = async {
        while user.fake.world.count("resolve") == 0 {
            Clock::real().sleep(Duration::from_millis(1)).await;
        }
        Clock::real().sleep(Duration::from_millis(50)).await;
        user.shutdown.trigger();
    };
    let arguments = ["download", "/me/f", &fifo];
    let (ended, ()) = tokio::join!(user.dbfs(&arguments), stop);
    ended.fails(130, "E_INTERRUPTED");
}

#[tokio::test]
async fn the_longest_names_go_up_and_come_back() {
    let user = User::new().await;
    for name in ["n".repeat(255), "\u{20ac}".repeat(85), "\u{e4}".repeat(118)] {
        let bytes = content(1000, name.len() as u64);
        let source = user.write(&name, &bytes);
        let remote = format!("/me/{name}");
        user.dbfs(&["upload", &source, &remote]).await.done();
        let back = user.local("back/");
        std::fs::create_dir_all(&back).unwrap();
        let into = format!("{back}/");
        user.dbfs(&["download", &remote, &into]).await.done();
        assert_eq!(std::fs::read(Path::new(&back).join(&name)).unwrap(), bytes);
    }
    let names = std::fs::read_dir(user.local("back")).unwrap();
    assert_eq!(names.count(), 3, "no part stays behind");
}

#[tokio::test]
async fn what_a_failed_download_leaves_is_of_use_or_nothing() {
    let fake = Fake::start(1, 2).await;
    let client = fake.client().await;
    let bytes = content(4 << 20, 1);
    let to = path("/me/f");
    client
        .upload(Source::bytes(bytes.clone()), &to, Default::default())
        .await
        .unwrap();
    let target = fake.directory.path().join("f");
    // Every copy of everything is damaged: nothing was written that could be of use.
    for node in &fake.nodes {
        *node.get_fault.lock() = Some(GetFault::FlipByte);
    }
    let options = DownloadOptions {
        resume: true,
        ..DownloadOptions::default()
    };
    let error = client
        .download(&to, Sink::file(&target), options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), common::error::Kind::Corrupt, "{error:?}");
    assert!(leftover_parts(&target).unwrap().is_empty() && !target.exists());
}
