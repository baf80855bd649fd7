//! Small files: files per second and their latencies, up and down.

use bytes::Bytes;
use client::Client;
use client::cli::context::Context;
use client::cli::failure::Failure;
use client::download::{DownloadOptions, Sink};
use client::upload::{Source, UploadOptions};
use common::path::RemotePath;

use super::Workload;
use super::large::phase;
use super::numbers::Phase;

/// Uploads small files, each with its own content, then reads them back.
///
/// # Errors
/// Something cannot be stored or read.
pub(super) async fn run(
    context: &Context,
    client: &Client,
    place: &RemotePath,
    workload: Workload,
) -> Result<Vec<Phase>, Failure> {
    let length = usize::try_from(workload.size.get()).unwrap_or(usize::MAX);
    let content = move |seed: u64| {
        let mut bytes = vec![0; length];
        blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        Bytes::from(bytes)
    };
    let upload = phase(context, "upload", place, workload, |path, seed| async move {
        let source = Source::bytes(content(seed));
        client
            .upload(source, &path, UploadOptions::default())
            .await
            .map(drop)
    })
    .await?;
    let download = phase(context, "download", place, workload, |path, _| async move {
        client
            .download(&path, Sink::discard(), DownloadOptions::default())
            .await
            .map(drop)
    })
    .await?;
    Ok(vec![upload, download])
}
