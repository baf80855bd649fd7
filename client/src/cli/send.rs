//! One local file that is sent, going on with what an earlier run of the same command left unfinished.
//!
//! Invariant (P1, P4): "stored" is said of an earlier run's version only where the path shows the bytes that the local
//! file has now. Whatever an earlier run left that cannot go on (another file, another content, a session that has
//! ended) is ended at the servers first, so that its old content never replaces the new, and the file is uploaded from
//! the beginning by the same command.

use std::path::Path;

use super::failure::Failure;
use super::human;
use super::resume::{Keeper, Unfinished};
use super::upload::Item;
use crate::names::EntryKind;
use crate::upload::{OnInterrupt, ResumeState, Source, UploadOptions, UploadReceipt};
use crate::{Client, Error};

/// Uploads one file.
pub(super) async fn send_one(
    client: &Client,
    keeper: &Keeper,
    item: &Item,
    options: UploadOptions,
) -> Result<UploadReceipt, Failure> {
    let Some(local) = &item.local else {
        let source = Source::stream(tokio::io::stdin(), None);
        return Ok(client.upload(source, &item.to, options).await?);
    };
    let Some(unfinished) = keeper.of(local, &item.to) else {
        return Ok(client.upload(Source::file(local), &item.to, options).await?);
    };
    let options = UploadOptions {
        on_interrupt: OnInterrupt::Keep,
        ..options
    };
    if let Some(state) = unfinished.load() {
        match go_on(client, &unfinished, &state, local, &options).await? {
            Going::Done(receipt) => return Ok(receipt),
            Going::Anew(why) => {
                let name = human::plain(&local.display().to_string());
                unfinished.note(&format!("{name} is uploaded from the beginning: {why}"));
            }
        }
        let forgetting = Box::pin(client.forget_upload(&state));
        let forgotten = options.shutdown.guard(forgetting).await;
        forgotten.unwrap_or(Err(Error::Interrupted))?;
        unfinished.forget();
    }
    let kept = unfinished.keep(&options.checkpoint);
    let result = client
        .upload(Source::file(local), &item.to, options.clone())
        .await;
    drop(kept);
    unfinished.settle(&options, &result);
    Ok(result?)
}

/// How far going on came.
enum Going {
    Done(UploadReceipt),
    /// Not at all, and why.
    Anew(String),
}

/// Goes on with the upload of `state`.
async fn go_on(
    client: &Client,
    unfinished: &Unfinished,
    state: &ResumeState,
    local: &Path,
    options: &UploadOptions,
) -> Result<Going, Failure> {
    if !unfinished.resumes {
        return Ok(Going::Anew("--no-resume".to_owned()));
    }
    if state.condition != options.condition {
        return Ok(Going::Anew("it was begun under another condition".to_owned()));
    }
    if state.metadata != options.metadata {
        return Ok(Going::Anew("it was begun with other metadata".to_owned()));
    }
    let kept = unfinished.keep(&options.checkpoint);
    let result = client
        .resume_upload(state, Source::file(local), options.clone())
        .await;
    drop(kept);
    let receipt = match result {
        Err(error) if error.is_upload_over() => return Ok(Going::Anew(error.innermost().to_string())),
        result => {
            unfinished.settle(options, &result);
            result?
        }
    };
    if receipt.already_published && !shows(client, &receipt).await? {
        let path = &receipt.path;
        return Ok(Going::Anew(format!(
            "an earlier run stored it, but {path} does not show that any more"
        )));
    }
    Ok(Going::Done(receipt))
}

/// Whether the path of `receipt` has the bytes that it speaks of now.
async fn shows(client: &Client, receipt: &UploadReceipt) -> Result<bool, Failure> {
    match client.stat(&receipt.path).await {
        Ok(entry) => Ok(matches!(&entry.kind, EntryKind::File { size, digest, .. }
            if *size == receipt.size && *digest == receipt.digest)),
        Err(error) if error.kind() == common::error::Kind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}
