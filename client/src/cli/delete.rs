//! `dbfs delete`: files, and with -r directories, to the trash or for good.

use common::ids::VersionId;

use super::context::Context;
use super::failure::Failure;
use super::fleet;
use super::remote::{Remote, profile_of};
use super::{destination, human};
use crate::names::{DeleteOptions, Deleted, Entry};

/// Deletes files, and with -r directories.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Remote files, directories or patterns in quotes
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Delete directories with everything below them
    #[arg(short, long)]
    recursive: bool,
    /// Past the trash: the space is given back soon, and nothing can be restored
    #[arg(long)]
    permanent: bool,
    /// Only if this is the file's current version
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
    /// Print what would be deleted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// Something was not deleted.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let remotes = args
        .paths
        .iter()
        .map(|text| text.parse())
        .collect::<Result<Vec<Remote>, Failure>>()?;
    let session = context.session(profile_of(&remotes)?).await?;
    let mut entries = Vec::new();
    for remote in &remotes {
        entries.extend(destination::expand(&session.client, remote).await?);
    }
    let directories = entries.iter().filter(|entry| !entry.is_file()).count();
    if let Some(directory) = entries.iter().find(|entry| !entry.is_file())
        && !args.recursive
    {
        return Err(Failure::usage(format!("{} is a directory", directory.path))
            .hint("say -r to delete it with everything below it"));
    }
    if args.if_match.is_some() && entries.len() != 1 {
        return Err(Failure::usage("--if-match is for one file"));
    }
    if args.dry_run {
        return tell_plan(context, &entries);
    }
    if directories > 0 || args.permanent || entries.len() > remotes.len() {
        let what = describe(&entries);
        let how = if args.permanent {
            " for good, past the trash"
        } else {
            ""
        };
        context.console.confirm(&format!("Delete {what}{how}?"))?;
    }
    let options = DeleteOptions {
        recursive: args.recursive,
        permanent: args.permanent,
        if_version: args.if_match.map(VersionId::new),
    };
    let total = entries.len();
    let mut outcome = fleet::Outcome {
        done: Vec::new(),
        failed: Vec::new(),
    };
    for entry in entries {
        match session.client.delete(&entry.path, options).await {
            Ok(deleted) => {
                tell(context, &entry, deleted)?;
                outcome.done.push(deleted);
            }
            Err(error) => outcome.failed.push((entry.path.to_string(), error.into())),
        }
    }
    fleet::tell_failures(context, &outcome.failed, total);
    outcome.failure("deleted").map_or(Ok(()), Err)
}

fn describe(entries: &[Entry]) -> String {
    match entries {
        [only] if only.is_file() => only.path.to_string(),
        [only] => format!("{} with everything below it", only.path),
        several => format!("{} files and directories", several.len()),
    }
}

fn tell_plan(context: &Context, entries: &[Entry]) -> Result<(), Failure> {
    entries.iter().try_for_each(|entry| {
        if context.console.is_json() {
            context
                .console
                .object(&serde_json::json!({ "path": entry.path.as_str(), "dry_run": true }))
        } else {
            context.console.line(&human::plain(entry.path.as_str()))
        }
    })
}

fn tell(context: &Context, entry: &Entry, deleted: Deleted) -> Result<(), Failure> {
    if context.console.is_json() {
        return context.console.object(&serde_json::json!({
            "path": entry.path.as_str(), "files": deleted.files, "bytes": deleted.size.get(),
        }));
    }
    let files = human::count(deleted.files, "file");
    let path = human::plain(entry.path.as_str());
    context
        .console
        .line(&format!("{path}  deleted ({files}, {})", deleted.size))
}
