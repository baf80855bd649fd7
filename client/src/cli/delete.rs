//! `dbfs delete`: files, and with -r directories, to the trash or for good.
//!
//! Invariant: what a pattern matched is shown and asked about before anything is deleted.

use common::ids::VersionId;

use super::context::Context;
use super::destination::{self, Named};
use super::failure::{Exit, Failure};
use super::human;
use super::partly::{Parts, command_line};
use super::remote::{Remote, profile_of, remotes};
use super::shapes::changes::{DeletedShape, PlannedShape};
use crate::Client;
use crate::names::{DeleteOptions, Deleted, Entry};

/// Lines of a question; the rest is counted.
const LINES_MAX: usize = 20;

/// Deletes files, and with -r directories.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dbfs delete /me/report.pdf         to the trash
  dbfs delete -r /me/old             a directory with everything below it
  dbfs delete '/me/logs/**/*.tmp'    shows what matches and asks (--yes answers)
  dbfs delete --permanent /me/x      past the trash, also what is in the trash already

A path that exists is itself and never a pattern. `dbfs trash` lists and restores what was deleted.")]
pub struct Args {
    /// Remote files, directories or patterns in quotes
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Delete directories with everything below them
    #[arg(short, long)]
    recursive: bool,
    /// Past the trash, or out of it: the space is given back soon, and nothing can be restored
    #[arg(long)]
    permanent: bool,
    /// Only if this is the file's current version
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
    /// Print what would be deleted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// What is to be deleted.
#[derive(Default)]
struct Plan {
    named: Named,
    /// Paths at which nothing is but in the trash.
    trashed: Vec<Remote>,
}

/// Runs the command.
///
/// # Errors
/// Something was not deleted.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let remotes = remotes(&args.paths)?;
    let profile = profile_of(&remotes)?;
    let session = context.session(profile).await?;
    let plan = plan(&session.client, &args, &remotes).await?;
    if args.dry_run {
        let trashed = plan.trashed.iter().map(|remote| &remote.path);
        let mut paths = plan.named.entries.iter().map(|entry| &entry.path).chain(trashed);
        return paths.try_for_each(|path| {
            if context.console.is_json() {
                return context.console.object(&PlannedShape::new(path.as_str()));
            }
            context.console.line(&human::plain(path.as_str()))
        });
    }
    ask(context, &args, &plan)?;
    let options = DeleteOptions {
        recursive: args.recursive,
        permanent: args.permanent,
        if_version: args.if_match.map(VersionId::new),
    };
    let mut parts = Parts::new("deleted");
    for entry in &plan.named.entries {
        match session.client.delete(&entry.path, options).await {
            Ok(deleted) => {
                tell(context, entry.path.as_str(), deleted)?;
                parts.done(entry.path.as_str());
            }
            Err(error) => parts.failed(entry.path.as_str(), error.into()),
        }
    }
    for remote in &plan.trashed {
        match session.client.empty_trash(&remote.path).await {
            Ok(items) => {
                super::trash::tell_emptied(context, remote.path.as_str(), items)?;
                parts.done(remote.path.as_str());
            }
            Err(error) => parts.failed(remote.path.as_str(), error.into()),
        }
    }
    parts.end(context, |left| {
        let profile = profile.map_or_else(String::new, |profile| format!("{profile}:"));
        let left: Vec<String> = left.iter().map(|path| format!("{profile}{path}")).collect();
        let flags = [(args.recursive, "-r"), (args.permanent, "--permanent")];
        let flags = flags
            .into_iter()
            .filter_map(|(given, flag)| given.then_some(flag));
        let words = ["dbfs", "delete"].into_iter().chain(flags);
        Some(command_line(words.chain(left.iter().map(String::as_str))))
    })
}

async fn plan(client: &Client, args: &Args, remotes: &[Remote]) -> Result<Plan, Failure> {
    let mut there = Vec::new();
    let mut trashed = Vec::new();
    for remote in remotes {
        let only_in_trash = args.permanent
            && args.if_match.is_none()
            && destination::look(client, &remote.path).await?.is_none()
            && client
                .trash(&remote.path)
                .next_page()
                .await?
                .is_some_and(|items| !items.is_empty());
        if only_in_trash { &mut trashed } else { &mut there }.push(remote.clone());
    }
    let named = destination::expand_all(client, &there).await?;
    if let Some(directory) = named.entries.iter().find(|entry| !entry.is_file())
        && !args.recursive
    {
        return Err(Failure::new(
            Exit::Usage,
            "E_USAGE",
            format!("{} is a directory", directory.path),
        )
        .at(directory.path.as_str())
        .hint("say -r to delete it with everything below it"));
    }
    if args.if_match.is_some() && (named.entries.len() != 1 || !trashed.is_empty()) {
        return Err(Failure::usage("--if-match is for one file"));
    }
    Ok(Plan {
        named: named.outermost(),
        trashed,
    })
}

/// Asks where more than one named file goes, or something goes for good; shows what a pattern matched.
fn ask(context: &Context, args: &Args, plan: &Plan) -> Result<(), Failure> {
    let entries = &plan.named.entries;
    let is_more = entries.iter().any(|entry| !entry.is_file());
    if !(is_more || args.permanent || plan.named.by_pattern) {
        return Ok(());
    }
    let console = &context.console;
    let mut shown = Vec::new();
    if plan.named.by_pattern {
        shown = entries.iter().take(LINES_MAX).map(line).collect();
        if entries.len() > LINES_MAX {
            shown.push(format!("and {} more", entries.len() - LINES_MAX));
        }
        if !console.is_json() {
            console.tell("the pattern matches:");
            shown.iter().for_each(|line| console.tell(&format!("  {line}")));
        }
    }
    let what = describe(entries, &plan.trashed);
    let how = if args.permanent { " for good" } else { "" };
    console
        .confirm(&format!("Delete {what}{how}?"))
        .map_err(|failure| {
            if console.is_json() {
                failure.sides(Vec::new(), shown)
            } else {
                failure
            }
        })
}

fn line(entry: &Entry) -> String {
    let slash = if entry.is_file() { "" } else { "/" };
    format!("{}{slash}", human::plain(entry.path.as_str()))
}

fn describe(entries: &[Entry], trashed: &[Remote]) -> String {
    let mut what = match entries {
        [] => String::new(),
        [only] if only.is_file() => human::plain(only.path.as_str()),
        [only] => format!("{} with everything below it", human::plain(only.path.as_str())),
        several => format!("{} files and directories", several.len()),
    };
    for remote in trashed {
        let and = if what.is_empty() { "" } else { " and " };
        what = format!(
            "{what}{and}what is in the trash from {}",
            human::plain(remote.path.as_str())
        );
    }
    what
}

fn tell(context: &Context, path: &str, deleted: Deleted) -> Result<(), Failure> {
    if context.console.is_json() {
        return context.console.object(&DeletedShape::new(path, deleted));
    }
    let files = human::count(deleted.files, "file");
    let path = human::plain(path);
    context
        .console
        .line(&format!("{path}  deleted ({files}, {})", deleted.size))
}
