//! The same command run again after an earlier run was cut off: it ends with what the local file has now, at once.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use client::Error;
use client::upload::{OnInterrupt, Source, UploadOptions};
use common::shutdown::Shutdown;
use common::time::Clock;
use proto::names::v1::UploadState;

use crate::commands::User;
use crate::fake::Fake;
use crate::{content, digest, path};

/// States are kept for files larger than this.
const KEPT_FROM: usize = 64 << 20;

/// A user whose upload of a large file was cut off once and then came to its end.
struct Story {
    user: User,
    source: String,
    bytes: Vec<u8>,
    state: PathBuf,
    /// The state as the cut off run left it.
    kept: Vec<u8>,
}

impl Story {
    async fn begin() -> Self {
        let mut user = User::new().await;
        user.fake.world.state().chunk_bytes = 8 << 20;
        let bytes = content(KEPT_FROM + 1, 9);
        let source = user.write("large", &bytes);
        let stop = async {
            while user.fake.world.count("plan chunks") == 0 {
                Clock::real().sleep(Duration::from_millis(1)).await;
            }
            user.shutdown.trigger();
        };
        let arguments = ["upload", &source, "/me/large"];
        let (ended, ()) = tokio::join!(user.dbfs(&arguments), stop);
        ended.fails(130, "E_INTERRUPTED");
        user.shutdown = Shutdown::new();
        let places = std::fs::read_dir(user.home.path().join(".local/state/dbfs/uploads")).unwrap();
        let states: Vec<PathBuf> = places.map(|entry| entry.unwrap().path()).collect();
        let [state] = states.as_slice() else {
            panic!("{states:?}")
        };
        Self {
            kept: std::fs::read(state).unwrap(),
            state: state.clone(),
            user,
            source,
            bytes,
        }
    }

    /// The command as after a crash that left the state behind, whatever happened since.
    async fn again(&self) -> (serde_json::Value, String) {
        std::fs::write(&self.state, &self.kept).unwrap();
        let ended = self
            .user
            .dbfs(&["upload", "--json", &self.source, "/me/large"])
            .await;
        let err = ended.err.clone();
        let receipt = ended.objects().remove(0);
        assert!(!self.state.exists(), "nothing is left to go on with");
        (receipt, err)
    }

    /// What the path shows now.
    fn shown(&self) -> (u64, common::ids::Digest) {
        let version = self.user.fake.world.state().files["/me/large"].clone();
        (version.version, version.digest)
    }

    /// Changes one byte of the local file, and nothing that the file system tells of it.
    fn change_in_silence(&mut self) {
        self.bytes[5] ^= 1;
        let modified = std::fs::metadata(&self.source).unwrap().modified().unwrap();
        let file = std::fs::File::options().write(true).open(&self.source).unwrap();
        file.write_all_at(&self.bytes[5..6], 5).unwrap();
        file.set_modified(modified).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_run_stored_is_believed_only_where_the_path_shows_the_local_bytes() {
    let mut story = Story::begin().await;
    let (receipt, err) = story.again().await;
    let (version, shown) = story.shown();
    assert_eq!((receipt["version"].as_u64(), err.as_str()), (Some(version), ""));
    assert_eq!(shown, digest(&story.bytes));
    // The same once more: found as stored.
    let (receipt, err) = story.again().await;
    assert_eq!((receipt["version"].as_u64(), err.as_str()), (Some(version), ""));
    // Another file is there now: the local one is stored again.
    let other = story.user.write("other", b"other");
    story.user.dbfs(&["upload", &other, "/me/large"]).await.done();
    let (_, err) = story.again().await;
    assert!(err.contains("does not show that any more"), "{err}");
    assert_eq!(story.shown().1, digest(&story.bytes));
    // The local file has other bytes now, and the same length and times.
    story.change_in_silence();
    let (receipt, err) = story.again().await;
    assert!(err.contains("uploaded from the beginning"), "{err}");
    let now = digest(&story.bytes);
    assert_eq!(story.shown().1, now);
    assert_eq!(receipt["digest"].as_str(), Some(now.to_string().as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_of_no_use_any_more_does_not_fail_the_first_run() {
    let mut story = Story::begin().await;
    let first = |story: &Story, state| {
        let mut world = story.user.fake.world.state();
        let upload = world.uploads.get_mut(&101).unwrap();
        upload.state = state;
        upload.refused = ("E_QUOTA".to_owned(), "the quota is used up".to_owned());
    };
    for (state, why) in [
        (UploadState::Aborted, "was aborted"),
        (UploadState::Refused, "E_QUOTA"),
    ] {
        first(&story, state);
        let (_, err) = story.again().await;
        assert!(
            err.contains("uploaded from the beginning") && err.contains(why),
            "{err}"
        );
        assert_eq!(story.shown().1, digest(&story.bytes));
        story.user.fake.world.state().files.clear();
    }
    // The file has changed: the open session is ended, so that its old content never replaces the new.
    first(&story, UploadState::Open);
    story.bytes[7] ^= 1;
    story.bytes.push(1);
    std::fs::write(&story.source, &story.bytes).unwrap();
    let (_, err) = story.again().await;
    assert!(err.contains("has changed since"), "{err}");
    assert_eq!(story.shown().1, digest(&story.bytes));
    let state = story.user.fake.world.state().uploads[&101].state;
    assert_eq!(state, UploadState::Aborted);
}

#[tokio::test]
async fn a_key_that_published_other_bytes_answers_for_them_alone() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let options = UploadOptions {
        key: Some(client.upload_key().await.unwrap()),
        ..UploadOptions::default()
    };
    let to = path("/me/f");
    let put = |source| client.upload(source, &to, options.clone());
    let first = put(Source::bytes("one")).await.unwrap();
    let streamed = put(Source::stream(&b"one"[..], None)).await.unwrap();
    assert!(streamed.already_published && streamed.version == first.version);
    for source in [Source::bytes("two"), Source::stream(&b"ones"[..], None)] {
        let error = put(source).await.unwrap_err();
        assert!(matches!(&error, Error::UploadFailed { .. }), "{error:?}");
        assert_eq!(error.code(), "E_NOT_RESUMABLE");
    }
}

#[tokio::test]
async fn a_seal_of_an_earlier_run_is_not_taken_for_ones_own() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let mut bytes = content(5 << 20, 3);
    let options = UploadOptions {
        on_interrupt: OnInterrupt::Keep,
        ..UploadOptions::default()
    };
    let (stop, checkpoint) = (options.shutdown.clone(), options.checkpoint.clone());
    // Sealed, but not published as long as nobody asks.
    fake.world.state().publish_after_asked = 1_000_000;
    let to = path("/me/f");
    let upload = client.upload(Source::bytes(bytes.clone()), &to, options);
    let (ended, ()) = tokio::join!(upload, async {
        while fake.world.count("get outcome") == 0 {
            tokio::task::yield_now().await;
        }
        stop.trigger();
    });
    ended.unwrap_err();
    fake.world.state().publish_after_asked = 0;
    let state = checkpoint.current().unwrap();
    bytes[9] ^= 1;
    let other = client
        .resume_upload(&state, Source::bytes(bytes.clone()), UploadOptions::default())
        .await
        .unwrap_err();
    assert_eq!(other.code(), "E_NOT_RESUMABLE", "{other:?}");
    bytes[9] ^= 1;
    let receipt = client
        .resume_upload(&state, Source::bytes(bytes.clone()), UploadOptions::default())
        .await
        .unwrap();
    assert_eq!(receipt.digest, digest(&bytes));
    assert!(receipt.already_published);
}
