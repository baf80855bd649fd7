//! `dbfs update`: an existing file gets a new content in one step.

use std::path::PathBuf;

use common::ids::VersionId;

use super::context::Context;
use super::failure::Failure;
use super::fleet::{self, Job};
use super::remote::Remote;
use super::shapes::ReceiptShape;
use super::upload::receipt_lines;
use super::{destination, walk};
use crate::Progress;
use crate::upload::{Source, UploadOptions, UploadReceipt};

/// Replaces a file's content in one step: readers see the old version or the new one.
#[derive(Clone, Debug, clap::Args)]
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
    let session = context.session(remote.profile.as_deref()).await?;
    let is_stdin = args.source.as_os_str() == "-";
    let mut to = remote.path.clone();
    if destination::is_directory(&session.client, &remote).await? {
        if is_stdin {
            return Err(Failure::usage(format!("{remote} is a directory")).hint("name the file"));
        }
        to = to.join(&walk::own_name(&args.source)?)?;
    }
    let size = if is_stdin {
        None
    } else {
        let metadata = std::fs::metadata(&args.source)
            .map_err(|error| Failure::local("cannot read", &args.source, &error))?;
        Some(metadata.len())
    };
    if args.dry_run {
        let current = session.client.stat(&to).await?;
        let version = current.version().map_or(0, VersionId::get);
        return context.console.line(&format!(
            "{} -> {to} (now version {version})",
            args.source.display()
        ));
    }
    let if_match = args.if_match.map(VersionId::new);
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
    let told = |receipt: &UploadReceipt| tell(context, &args, receipt);
    let outcome = fleet::run(context, "updating", vec![job], 1, send, told).await?;
    outcome.failure("updated").map_or(Ok(()), Err)
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
