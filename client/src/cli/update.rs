//! `dbfs update`: an existing file gets a new content in one step.

use std::path::PathBuf;

use common::ids::VersionId;
use common::path::RemotePath;

use super::context::Context;
use super::destination::Meaning;
use super::failure::{Exit, Failure};
use super::fleet::{self, Job};
use super::remote::Remote;
use super::shapes::ReceiptShape;
use super::shapes::changes::PlannedUploadShape;
use super::upload::receipt_lines;
use super::{destination, human, walk};
use crate::names::Entry;
use crate::upload::{Source, UploadOptions, UploadReceipt};
use crate::{Client, Progress};

/// Replaces a file's content in one step: readers see the old version or the new one.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
A destination that ends in / means the file of the source's name in that directory, any other means that file.")]
pub struct Args {
    /// The local file, or - for stdin
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The remote file
    #[arg(value_name = "DST")]
    destination: String,
    /// Only if this is the file's current version
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
    /// Print what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// There is no such file, or another version is current.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let remote: Remote = args.destination.parse()?;
    let meaning = destination::meaning(&remote.as_typed(), false)?;
    let is_stdin = args.source.as_os_str() == "-";
    let to = match meaning {
        Meaning::As => remote.path.clone(),
        Meaning::Into if is_stdin => {
            return Err(Failure::usage(format!("{remote} is a directory")).hint("name the file"));
        }
        Meaning::Into => remote.path.join(&walk::own_name(&args.source)?)?,
    };
    let size = if is_stdin { None } else { Some(local_size(&args)?) };
    let session = context.session(remote.profile.as_deref()).await?;
    let if_match = args.if_match.map(VersionId::new);
    let current = check(&session.client, &to, if_match).await?;
    if args.dry_run {
        return tell_plan(context, &args, &current, size);
    }
    let job = Job {
        name: args.source.display().to_string(),
        size,
        work: (),
    };
    let send = |(), progress: Progress| {
        let source = if is_stdin {
            Source::stream(tokio::io::stdin(), None)
        } else {
            Source::file(&args.source)
        };
        let options = UploadOptions {
            progress,
            shutdown: context.shutdown.clone(),
            ..UploadOptions::default()
        };
        let (client, to) = (session.client.clone(), to.clone());
        async move { Ok(client.update(source, &to, if_match, options).await?) }
    };
    let told = |receipt: UploadReceipt| {
        tell(context, &args, &receipt)?;
        Ok(receipt.path.to_string())
    };
    let parts = fleet::run(context, ("updating", "updated"), vec![job], 1, send, told).await?;
    parts.end(context, |_| None)
}

/// The source's size, if it is a file whose size is one.
fn local_size(args: &Args) -> Result<u64, Failure> {
    let source = &args.source;
    let found = std::fs::metadata(source).map_err(|error| Failure::local("cannot read", source, &error))?;
    let shown = source.display().to_string();
    if found.is_dir() {
        return Err(Failure::usage(format!("{shown} is a directory")).at(&shown));
    }
    if !found.is_file() {
        // A pipe or a device: read once, in order, like stdin.
        return Err(
            Failure::usage(format!("{shown} is neither a file nor a directory"))
                .at(&shown)
                .hint("read it through stdin: dbfs update - DST < FILE"),
        );
    }
    Ok(found.len())
}

/// What the servers would refuse in the end, told before anything is sent.
async fn check(client: &Client, to: &RemotePath, if_match: Option<VersionId>) -> Result<Entry, Failure> {
    let current = client
        .stat(to)
        .await
        .map_err(|error| Failure::from(error).at(to.as_str()))?;
    let wrong =
        |code: &str, message: String| Err(Failure::new(Exit::Conflict, code, message).at(to.as_str()));
    match current.version() {
        None => wrong("E_IS_A_DIRECTORY", format!("{to} is a directory")),
        Some(version) if if_match.is_some_and(|wanted| wanted != version) => {
            wrong("E_VERSION", format!("the current version of {to} is {version}"))
        }
        Some(_) => Ok(current),
    }
}

fn tell_plan(context: &Context, args: &Args, current: &Entry, size: Option<u64>) -> Result<(), Failure> {
    let source = args.source.display().to_string();
    let version = current.version().map_or(0, VersionId::get);
    if context.console.is_json() {
        return context.console.object(&PlannedUploadShape {
            source,
            path: current.path.to_string(),
            size,
            version: Some(version),
            dry_run: true,
        });
    }
    let (source, to) = (human::plain(&source), human::plain(current.path.as_str()));
    context
        .console
        .line(&format!("{source} -> {to} (now version {version})"))
}

fn tell(context: &Context, args: &Args, receipt: &UploadReceipt) -> Result<(), Failure> {
    let console = &context.console;
    if console.is_json() {
        return console.object(&ReceiptShape::new(&args.source.display().to_string(), receipt));
    }
    for line in receipt_lines(receipt, false) {
        console.line(&line)?;
    }
    console.line(&format!(
        "  sent    {} of {} chunks, {}",
        receipt.chunks_sent, receipt.chunks, receipt.sent
    ))
}
