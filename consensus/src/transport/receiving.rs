//! A snapshot on its way to this member: a file that grows, named after the digest of the whole, so that a transfer that
//! broke off goes on where it stopped.

use std::io;
use std::path::{Path, PathBuf};

use common::ids::Digest;
use proto::raft::v1 as pb;
use tokio::io::AsyncWriteExt;
use tonic::Streaming;

use crate::log::blocking;
use crate::schema;
use crate::state::{Scratch, check_space, digest_of};

const PREFIX: &str = "incoming-";

fn name(digest: Digest) -> String {
    format!("{PREFIX}{digest}")
}

/// How much is held of the snapshot with this digest and length.
pub(crate) fn held(directory: &Path, digest: Digest, length: u64) -> u64 {
    let found = std::fs::metadata(directory.join(name(digest)));
    found.map_or(0, |found| found.len()).min(length)
}

/// Receives `parts` behind what is held. What was received when it fails is kept, unless it is damaged.
pub(crate) async fn receive(
    directory: &Path,
    reserve_bytes: u64,
    header: &pb::SnapshotHeader,
    mut parts: Streaming<pb::SnapshotPart>,
) -> io::Result<Scratch> {
    let announced = Digest::try_from(header.digest.as_ref()).map_err(schema::invalid)?;
    let path = directory.join(name(announced));
    let mut file = begin(&path, directory, reserve_bytes, header).await?;
    let mut received = header.offset;
    while let Some(part) = parts.message().await.map_err(io::Error::other)? {
        let Some(pb::snapshot_part::Part::Bytes(bytes)) = part.part else {
            return Err(schema::invalid("a snapshot part holds no bytes"));
        };
        received += bytes.len() as u64;
        if received > header.length {
            return Err(schema::invalid("the snapshot is longer than announced"));
        }
        file.write_all(&bytes).await?;
        // What is written counts as held, also when the next part does not come.
        file.flush().await?;
    }
    drop(file);
    if received != header.length {
        return Err(schema::invalid("the snapshot is shorter than announced"));
    }
    let scratch = Scratch::at(path.clone());
    blocking(move || {
        if digest_of(&path)? != (received, announced) {
            return Err(schema::invalid("the snapshot arrived damaged"));
        }
        common::disk::sync_file(&std::fs::File::open(path)?)?;
        Ok(scratch)
    })
    .await
}

/// Opens the file at the offset at which the sender goes on, if there is space for the rest.
async fn begin(
    path: &Path,
    directory: &Path,
    reserve_bytes: u64,
    header: &pb::SnapshotHeader,
) -> io::Result<tokio::fs::File> {
    let (path, directory) = (path.to_owned(), directory.to_owned());
    let (offset, length) = (header.offset, header.length);
    let file = blocking(move || {
        if offset == 0 {
            remove_unfinished(&directory)?;
        }
        check_space(&directory, length.saturating_sub(offset), reserve_bytes)?;
        let file = std::fs::File::options().create(true).append(true).open(path)?;
        if file.metadata()?.len() != offset {
            return Err(schema::invalid(
                "another part of the snapshot is held than the sender believes",
            ));
        }
        Ok(file)
    });
    Ok(tokio::fs::File::from_std(file.await?))
}

fn remove_unfinished(directory: &Path) -> io::Result<()> {
    let unfinished = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(PREFIX);
    let entries: Vec<_> = std::fs::read_dir(directory)?.collect::<io::Result<_>>()?;
    let paths = entries.into_iter().filter(unfinished).map(|entry| entry.path());
    paths
        .collect::<Vec<PathBuf>>()
        .iter()
        .try_for_each(std::fs::remove_file)
}
