//! The handle through which everything is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::ids::{UploadId, VersionId};
use common::path::RemotePath;

use crate::download::{self, DownloadOptions, DownloadReport, Placement, Sink};
use crate::error::Error;
use crate::names::{
    DeleteOptions, Deleted, Entry, Installation, ListOptions, Login, NewUser, Pages, SearchQuery, TrashItem,
    User, account, trash, tree,
};
use crate::routing::Router;
use crate::settings::Settings;
use crate::update;
use crate::upload::{self, ResumeState, Source, UploadKey, UploadOptions, UploadReceipt};

/// A connection to an installation. Cloning is cheap; clones share connections and the login.
///
/// Must be made and used inside a tokio runtime.
#[derive(Clone)]
pub struct Client(Arc<Router>);

impl Client {
    /// Finds a supernode that answers and learns of the others.
    ///
    /// # Errors
    /// `Unreachable` where none answers, `Tls` where the CA certificate is not one, `Protocol` where versions do
    /// not fit.
    pub async fn connect(settings: Settings) -> Result<Self, Error> {
        let router = Router::new(settings)?;
        router.hello().await?;
        Ok(Self(Arc::new(router)))
    }

    /// The supernodes' control addresses as far as known, the leader first.
    pub fn supernodes(&self) -> Vec<String> {
        self.0.supernodes().order(true)
    }

    /// The token in use.
    pub fn token(&self) -> Option<String> {
        self.0.token()
    }

    /// Exchanges a password for a token, which this client and its clones use from now on.
    ///
    /// # Errors
    /// `Denied` where user and password do not fit or the user is disabled.
    pub async fn login(&self, user: &str, password: &str) -> Result<Login, Error> {
        account::login(&self.0, user, password).await
    }

    /// Who the token says the caller is.
    ///
    /// # Errors
    /// `Denied` without a valid token.
    pub async fn whoami(&self) -> Result<User, Error> {
        account::whoami(&self.0).await
    }

    /// Admin: creates a user and the bucket of the same name.
    ///
    /// # Errors
    /// `Denied`, `Conflict` where the name is taken, `Invalid` for a bad name or password.
    pub async fn create_user(&self, user: NewUser) -> Result<User, Error> {
        account::create(&self.0, user).await
    }

    /// Admin: all users. Others: themselves.
    ///
    /// # Errors
    /// `Denied` without a valid token.
    pub async fn list_users(&self) -> Result<Vec<User>, Error> {
        account::list(&self.0).await
    }

    /// Changes the caller's password (`user` is `None`), or as admin anyone's.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Invalid` for a bad password.
    pub async fn set_password(&self, user: Option<&str>, password: &str) -> Result<User, Error> {
        account::set_password(&self.0, user, password).await
    }

    /// Admin: forbids or allows a user to log in; tokens already issued are refused as well.
    ///
    /// # Errors
    /// `Denied`, `NotFound`.
    pub async fn set_user_enabled(&self, user: &str, enabled: bool) -> Result<User, Error> {
        account::set_enabled(&self.0, user, enabled).await
    }

    /// What stands at `path`.
    ///
    /// # Errors
    /// `NotFound`, also where the caller may not know that it exists.
    pub async fn stat(&self, path: &RemotePath) -> Result<Entry, Error> {
        tree::stat(&self.0, path).await
    }

    /// The entries of the directory `path`, by pages; `/` lists the buckets which the caller may see.
    pub fn list(&self, path: &RemotePath, options: ListOptions) -> Pages {
        tree::list(&self.0, path, options)
    }

    /// Files below `path` that match, by pages.
    pub fn search(&self, path: &RemotePath, query: SearchQuery) -> Pages {
        tree::search(&self.0, path, query)
    }

    /// Moves a file, or with `recursive` a directory's content, to the trash.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Conflict` where `if_version` is not current or a directory is not empty.
    pub async fn delete(&self, path: &RemotePath, options: DeleteOptions) -> Result<Deleted, Error> {
        tree::delete(&self.0, path, options).await
    }

    /// Sets aside a cluster that is lost for good (admin).
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Conflict` where it still reports.
    pub async fn retire_cluster(&self, name: &str) -> Result<(), Error> {
        tree::retire_cluster(&self.0, name).await
    }

    /// Creates a directory and its missing parents; an existing directory is no error.
    ///
    /// # Errors
    /// `Denied`, `Conflict` where a file is in the way.
    pub async fn make_directory(&self, path: &RemotePath) -> Result<Entry, Error> {
        tree::make_directory(&self.0, path, &BTreeMap::new()).await
    }

    /// As [`Client::make_directory`], and replaces what is kept with the directory by `metadata` where that has any entry.
    ///
    /// # Errors
    /// As there; `Invalid` where the metadata is too large or uses a key of the system's own otherwise than
    /// [`proto::metadata`] says.
    pub async fn make_directory_with(
        &self,
        path: &RemotePath,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Entry, Error> {
        tree::make_directory(&self.0, path, metadata).await
    }

    /// Moves a file or directory within one bucket. `replace` allows to take the place of a file at `to`.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Conflict` where `to` exists, `Invalid` across buckets.
    pub async fn rename(&self, from: &RemotePath, to: &RemotePath, replace: bool) -> Result<Entry, Error> {
        tree::rename(&self.0, from, to, replace).await
    }

    /// What was deleted or replaced at or below `path` and can be brought back, the newest first, by pages.
    pub fn trash(&self, path: &RemotePath) -> Pages<TrashItem> {
        trash::list(&self.0, path)
    }

    /// Brings an item of the trash back, to where it was or to `to` in the same bucket.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Conflict` where something is there by now.
    pub async fn restore(&self, id: u64, to: Option<&RemotePath>) -> Result<Entry, Error> {
        trash::restore(&self.0, id, to).await
    }

    /// Releases what is in the trash at or below `path`, and says how many items that were.
    ///
    /// # Errors
    /// `NotFound`, `Denied`.
    pub async fn empty_trash(&self, path: &RemotePath) -> Result<u64, Error> {
        trash::empty(&self.0, path).await
    }

    /// The whole installation: groups, leaders, nodes, space, durability in force.
    ///
    /// # Errors
    /// `Denied` without a valid token.
    pub async fn status(&self) -> Result<Installation, Error> {
        tree::status(&self.0).await
    }

    /// Each chunk of a file and where its copies are.
    ///
    /// # Errors
    /// `NotFound`, `NotAFile`, `Unreachable` where no member of the file's cluster answers.
    pub async fn placement(&self, path: &RemotePath, version: Option<VersionId>) -> Result<Placement, Error> {
        download::placement(&self.0, path, version).await
    }

    /// A new upload's key, for whoever wants to be able to retry an upload after losing this process.
    ///
    /// # Errors
    /// `Unreachable` where the names group's time cannot be learned.
    pub async fn upload_key(&self) -> Result<UploadKey, Error> {
        upload::new_key(&self.0).await
    }

    /// Stores `source` at `to` as one new version: durable as the receipt says, visible wholly or not at all.
    /// Missing directories are created.
    ///
    /// # Errors
    /// `UploadFailed`: certain never to appear; its source says why. `OutcomeUnknown`: retry with the same key or
    /// resume. `UploadInterrupted`: only with [`crate::upload::OnInterrupt::Keep`].
    pub async fn upload(
        &self,
        source: Source,
        to: &RemotePath,
        options: UploadOptions,
    ) -> Result<UploadReceipt, Error> {
        Box::pin(upload::run(&self.0, source, to, options, None)).await
    }

    /// Goes on with an upload that was interrupted or whose outcome is unknown: finds out how it ended, or hashes
    /// `source` again and sends the chunks that are missing. `options` counts and stops as for [`Client::upload`];
    /// key, condition and metadata come from `state`.
    ///
    /// # Errors
    /// As [`Client::upload`], and `NotResumable` where the upload was aborted or refused, is too old, or `source` is
    /// another file, has changed, or does not have the bytes that were published; also inside `UploadFailed`. After
    /// [`Client::forget_upload`] it can be uploaded from the beginning.
    pub async fn resume_upload(
        &self,
        state: &ResumeState,
        source: Source,
        options: UploadOptions,
    ) -> Result<UploadReceipt, Error> {
        let (path, begun, options) = state.restore(options)?;
        Box::pin(upload::run(&self.0, source, &path, options, Some(begun))).await
    }

    /// Makes sure that an upload which is not to go on is never published from now on; one that was published already
    /// stays. Must come before the same path is uploaded anew, or the old content could replace the new.
    ///
    /// # Errors
    /// Nobody answers: the upload may still be published.
    pub async fn forget_upload(&self, state: &ResumeState) -> Result<(), Error> {
        upload::forget(&self.0, state).await
    }

    /// Commits that an upload which is still open will never be published.
    ///
    /// # Errors
    /// `Refused` with code `E_PUBLISHED` where it was published already.
    pub async fn abort_upload(&self, upload: UploadId) -> Result<(), Error> {
        upload::abort(&self.0, upload).await
    }

    /// Replaces the file at `path` in one step. With `if_match` only if that version is current.
    ///
    /// # Errors
    /// As [`Client::upload`]; `Refused` inside `UploadFailed` where there is no file or another version.
    pub async fn update(
        &self,
        source: Source,
        path: &RemotePath,
        if_match: Option<VersionId>,
        options: UploadOptions,
    ) -> Result<UploadReceipt, Error> {
        self.upload(source, path, update::options(if_match, options))
            .await
    }

    /// Reads a file, verifying every block and, where all of it is read, the digest of every chunk and of the whole.
    ///
    /// # Errors
    /// `NotFound`, `NotAFile`, `ChunkNotReadable` where every copy of a chunk is bad or out of reach, `Local` where
    /// the sink fails, `Invalid` for a range that begins beyond the end.
    pub async fn download(
        &self,
        path: &RemotePath,
        sink: Sink,
        options: DownloadOptions,
    ) -> Result<DownloadReport, Error> {
        Box::pin(download::run(&self.0, path, sink, options)).await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("supernodes", &self.supernodes())
            .finish_non_exhaustive()
    }
}
