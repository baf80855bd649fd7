//! `dbfs mv`: files and directories get another place within their bucket.
//!
//! Invariant: everything is looked at before anything moves, so that a mistake or a taken name moves nothing.

use common::path::RemotePath;

use super::context::Context;
use super::destination::{self, Meaning, Named};
use super::failure::{Exit, Failure};
use super::human;
use super::partly::{Parts, command_line};
use super::remote::{Remote, profile_of, remotes, sources_and_destination};
use super::shapes::changes::{MoveShape, MovedShape};
use crate::Client;
use crate::names::{Entry, EntryKind};

/// Moves or renames files and directories within one bucket, in one step each, whatever they contain.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dbfs mv /me/a /me/b              /me/a becomes /me/b
  dbfs mv /me/a /me/old/           /me/a becomes /me/old/a
  dbfs mv '/me/*.log' /me/logs/    several sources need a destination that ends in /

A destination that ends in / means into that directory, any other means as that name, whatever stands there. Everything
is checked before anything is moved.")]
pub struct Args {
    /// Remote files, directories or patterns; last the destination
    #[arg(required = true, num_args = 2.., value_names = ["SRC", "DST"])]
    paths: Vec<String>,
    /// Take the place of a file that is there
    #[arg(long)]
    replace: bool,
    /// Print what would be moved
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// Something is in the way, or source and destination are in different buckets.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let (sources, to) = sources_and_destination(&args.paths)?;
    let (sources, to): (_, Remote) = (remotes(sources)?, to.parse()?);
    let profile = profile_of(sources.iter().chain([&to]))?;
    let session = context.session(profile).await?;
    let named = destination::expand_all(&session.client, &sources).await?;
    let steps = plan(&session.client, &sources, named, &to, args.replace).await?;
    if args.dry_run {
        return steps
            .iter()
            .try_for_each(|(entry, to)| tell_plan(context, &entry.path, to));
    }
    let mut parts = Parts::new("moved");
    for (entry, to) in steps {
        match session.client.rename(&entry.path, &to, args.replace).await {
            Ok(moved) => {
                tell(context, &entry.path, &moved)?;
                parts.done(entry.path.as_str());
            }
            Err(error) => parts.failed(entry.path.as_str(), error.into()),
        }
    }
    parts.end(context, |left| {
        let profile = profile.map_or_else(String::new, |profile| format!("{profile}:"));
        let left: Vec<String> = left.iter().map(|path| format!("{profile}{path}")).collect();
        let replace = args.replace.then_some("--replace");
        let words = ["dbfs", "mv"].into_iter().chain(replace);
        let last = args.paths.last().map(String::as_str);
        Some(command_line(
            words.chain(left.iter().map(String::as_str)).chain(last),
        ))
    })
}

async fn plan(
    client: &Client,
    sources: &[Remote],
    named: Named,
    to: &Remote,
    replace: bool,
) -> Result<Vec<(Entry, RemotePath)>, Failure> {
    let meaning = destination::meaning(&to.as_typed(), destination::are_several(sources, &named))?;
    let count = named.entries.len();
    let named = named.outermost();
    if named.entries.len() < count && !sources.iter().any(|source| source.path.as_str().contains("**")) {
        return Err(Failure::usage(
            "one of the sources lies below another, which takes it along",
        ));
    }
    let mut steps = Vec::new();
    for entry in named.entries {
        let to = match (meaning, entry.path.name()) {
            (Meaning::Into, Some(name)) => to.path.join(name)?,
            _ => to.path.clone(),
        };
        steps.push((entry, to));
    }
    let pairs = steps
        .iter()
        .map(|(entry, to)| (to.to_string(), entry.path.as_str()));
    destination::check_distinct(pairs)?;
    for (entry, to) in &steps {
        check(client, entry, to, replace).await?;
    }
    Ok(steps)
}

/// What the servers would refuse, told before anything moves.
async fn check(client: &Client, entry: &Entry, to: &RemotePath, replace: bool) -> Result<(), Failure> {
    let from = &entry.path;
    let wrong = |code: &str, message: String| Err(Failure::new(Exit::Usage, code, message).at(from.as_str()));
    if entry.kind == EntryKind::Bucket || to.components().count() < 2 {
        return wrong(
            "E_BUCKET",
            format!("{from} cannot become {to}: buckets are not moved"),
        );
    }
    if from.bucket() != to.bucket() {
        return wrong(
            "E_OTHER_BUCKET",
            format!("{from} and {to} are in different buckets"),
        )
        .map_err(|failure: Failure| failure.hint("copy it and delete the original"));
    }
    if from == to {
        return Ok(());
    }
    if from.contains(to) {
        return wrong("E_INTO_ITSELF", format!("{from} cannot be moved into itself"));
    }
    let taken = |code: &str, message: String| Failure::new(Exit::Conflict, code, message).at(to.as_str());
    match destination::nearest(client, to).await? {
        Some(there) if there.path == *to => match (replace, entry.is_file(), there.is_file()) {
            (true, true, true) => Ok(()),
            (true, true, false) => Err(taken("E_IS_A_DIRECTORY", format!("{to} is a directory"))),
            (true, false, true) => Err(taken("E_NOT_A_DIRECTORY", format!("{to} is a file"))),
            (_, _, false) => {
                let hint = format!("write {to}/ to move it into that directory");
                Err(taken("E_EXISTS", format!("{to} exists already")).hint(hint))
            }
            (false, _, true) => {
                Err(taken("E_EXISTS", format!("{to} exists already")).hint("say --replace to take its place"))
            }
        },
        Some(there) if there.is_file() => {
            Err(taken("E_NOT_A_DIRECTORY", format!("{} is a file", there.path)))
        }
        _ => Ok(()),
    }
}

fn tell_plan(context: &Context, from: &RemotePath, to: &RemotePath) -> Result<(), Failure> {
    if context.console.is_json() {
        return context.console.object(&MoveShape::planned(from, to));
    }
    context.console.line(&line(from, to))
}

fn tell(context: &Context, from: &RemotePath, moved: &Entry) -> Result<(), Failure> {
    if context.console.is_json() {
        return context.console.object(&MovedShape::new(from, moved));
    }
    context.console.line(&line(from, &moved.path))
}

fn line(from: &RemotePath, to: &RemotePath) -> String {
    format!("{} -> {}", human::plain(from.as_str()), human::plain(to.as_str()))
}
