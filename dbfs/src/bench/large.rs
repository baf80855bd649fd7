//! Large files: bytes per second, up and down.

use std::time::Duration;

use client::Client;
use client::cli::context::Context;
use client::cli::failure::Failure;
use client::download::{DownloadOptions, Sink};
use client::upload::{Source, UploadOptions};
use common::path::RemotePath;
use futures::{StreamExt, TryStreamExt};

use super::Workload;
use super::numbers::{Phase, cpu_time};

/// Uploads generated files, then reads them back, verifying and discarding.
///
/// # Errors
/// Something cannot be stored or read.
pub(super) async fn run(
    context: &Context,
    client: &Client,
    place: &RemotePath,
    workload: Workload,
) -> Result<Vec<Phase>, Failure> {
    let upload = phase(context, "upload", place, workload, |path, seed| async move {
        let source = Source::generated(workload.size, seed);
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

/// Runs `operation` for every file of `workload`, as many at once as it says.
///
/// # Errors
/// That of the first operation that fails.
pub(super) async fn phase<F, Fut>(
    context: &Context,
    name: &'static str,
    place: &RemotePath,
    workload: Workload,
    operation: F,
) -> Result<Phase, Failure>
where
    F: Fn(RemotePath, u64) -> Fut,
    Fut: Future<Output = Result<(), client::Error>>,
{
    context.console.note(&format!(
        "{name}: {} of {}",
        client::cli::human::count(workload.files, "file"),
        workload.size
    ));
    let clock = &context.seams.clock;
    let operation = &operation;
    let (began, cpu) = (clock.moment(), cpu_time());
    let timed = (0..workload.files).map(|at| async move {
        let path = place.join(&format!("{:03}/{at:06}", at % 100))?;
        let began = clock.moment();
        operation(path, at).await?;
        Ok::<Duration, Failure>(clock.moment().since(began))
    });
    let width = usize::try_from(workload.parallel).unwrap_or(1);
    let spans: Vec<Duration> = futures::stream::iter(timed)
        .buffer_unordered(width)
        .try_collect()
        .await?;
    let elapsed = clock.moment().since(began);
    Ok(Phase::new(
        name,
        workload,
        elapsed,
        cpu_time().saturating_sub(cpu),
        spans,
    ))
}
