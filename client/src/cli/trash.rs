//! `dbfs trash`: what was deleted or replaced and can still be brought back.

use std::time::Duration;

use common::glob::{Glob, has_wildcard};
use common::path::RemotePath;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::human;
use super::partly::Parts;
use super::remote::{Remote, profile_of, remotes};
use super::session::Session;
use super::shapes::changes::{EmptiedShape, PlannedShape, RestoredShape, TrashShape};
use crate::names::TrashItem;

/// Lists, restores and empties the trash.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dbfs trash list                       what is in one's own trash, the newest first
  dbfs trash restore /me/report.pdf     the newest that was there comes back
  dbfs trash restore '/me/logs/**'      a pattern in quotes
  dbfs trash restore 42 --to /me/old    by the number that the list shows
  dbfs trash empty /me/logs             frees the space; nothing can be restored")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Lists what is in the trash, the newest first
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Brings items back, to where they were or elsewhere in their bucket
    Restore(RestoreArgs),
    /// Releases what is in the trash: its space is given back soon
    Empty(EmptyArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct ListArgs {
    /// What was at or below this path (default: in one's own bucket; / for all that one may see)
    #[arg(value_name = "PATH")]
    path: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
struct RestoreArgs {
    /// Paths, patterns in quotes, or numbers from the list
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,
    /// Where to, for one item (default: where it was)
    #[arg(long, value_name = "PATH")]
    to: Option<String>,
    /// Print what would be restored
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct EmptyArgs {
    /// What was at or below these paths (default: one's own bucket)
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Print what would be released
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// There is no such item, something is in its place by now, or it is not allowed.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    match args.verb {
        Verb::List(args) => list(context, &args).await,
        Verb::Restore(args) => restore(context, &args).await,
        Verb::Empty(args) => empty(context, &args).await,
    }
}

async fn list(context: &Context, args: &ListArgs) -> Result<(), Failure> {
    let remote = args.path.as_deref().map(str::parse::<Remote>).transpose()?;
    let profile = remote.as_ref().and_then(|remote| remote.profile.as_deref());
    let session = context.session(profile).await?;
    let path = match &remote {
        Some(remote) => remote.path.clone(),
        None => super::list::own(&session).await?,
    };
    each(&session, &path, |item| tell_item(context, &item)).await
}

/// Shows every item at or below `path`, page by page.
async fn each(
    session: &Session,
    path: &RemotePath,
    mut see: impl FnMut(TrashItem) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut pages = session.client.trash(path);
    while let Some(page) = pages
        .next_page()
        .await
        .map_err(|error| Failure::from(error).at(path.as_str()))?
    {
        page.into_iter().try_for_each(&mut see)?;
    }
    Ok(())
}

fn tell_item(context: &Context, item: &TrashItem) -> Result<(), Failure> {
    if context.console.is_json() {
        return context.console.object(&TrashShape::from(item));
    }
    let size = item
        .size
        .map_or_else(|| "directory".to_owned(), |size| size.to_string());
    let ago = |span: Duration| human::span(Duration::from_secs(span.as_secs()));
    context.console.line(&format!(
        "{:>8}  {size:>10}  deleted {} ago, kept for {}  {}",
        item.id,
        ago(item.trashed_ago),
        ago(item.due_in),
        human::plain(item.path.as_str()),
    ))
}

async fn restore(context: &Context, args: &RestoreArgs) -> Result<(), Failure> {
    let (ids, paths): (Vec<&String>, Vec<&String>) =
        args.what.iter().partition(|text| text.parse::<u64>().is_ok());
    let paths: Vec<String> = paths.into_iter().cloned().collect();
    let remotes = remotes(&paths)?;
    let to = args.to.as_deref().map(str::parse::<Remote>).transpose()?;
    let profile = profile_of(remotes.iter().chain(&to))?;
    let session = context.session(profile).await?;
    let mut chosen: Vec<(u64, String)> = Vec::new();
    for id in ids {
        chosen.extend(id.parse().ok().map(|number| (number, id.clone())));
    }
    for remote in &remotes {
        chosen.extend(find(&session, remote).await?);
    }
    if to.is_some() && chosen.len() != 1 {
        return Err(Failure::usage("--to is for one item"));
    }
    let target = match (&to, chosen.first()) {
        (Some(to), Some((id, _))) if to.directory => Some(to.path.join(&own_name(&session, to, *id).await?)?),
        (Some(to), _) => Some(to.path.clone()),
        (None, _) => None,
    };
    let mut parts = Parts::new("restored");
    for (id, name) in &chosen {
        if args.dry_run {
            tell_planned(context, name)?;
            continue;
        }
        match session.client.restore(*id, target.as_ref()).await {
            Ok(entry) => {
                if context.console.is_json() {
                    context.console.object(&RestoredShape::new(*id, &entry))?;
                } else {
                    let path = human::plain(entry.path.as_str());
                    context.console.line(&format!("{path}  restored"))?;
                }
                parts.done(name);
            }
            Err(error) => parts.failed(
                name,
                Failure::from(error).or_hint("say --to PATH to restore it elsewhere"),
            ),
        }
    }
    parts.end(context, |_| None)
}

/// The name that item `id` had, which is in the trash of the bucket that it can be restored to.
async fn own_name(session: &Session, to: &Remote, id: u64) -> Result<String, Failure> {
    let bucket = std::iter::successors(Some(to.path.clone()), RemotePath::parent)
        .find(|path| path.components().count() <= 1)
        .unwrap_or_else(RemotePath::root);
    let mut name = None;
    each(session, &bucket, |item| {
        if item.id == id {
            name = item.path.name().map(str::to_owned);
        }
        Ok(())
    })
    .await?;
    name.ok_or_else(|| {
        let message = format!("item {id} is not in the trash of {bucket}");
        Failure::new(Exit::NotFound, "E_NOT_FOUND", message)
            .at(bucket.as_str())
            .hint("`dbfs trash list` shows what is in the trash")
    })
}

/// The newest item that was at the path; for a pattern where no item was at the path itself, the newest of each path
/// that matches.
async fn find(session: &Session, remote: &Remote) -> Result<Vec<(u64, String)>, Failure> {
    let wanted = &remote.path;
    let is_pattern = has_wildcard(wanted.as_str());
    let place = if is_pattern {
        literal_above(wanted)
    } else {
        wanted.clone()
    };
    let glob = is_pattern.then(|| Glob::parse(wanted.as_str())).transpose()?;
    let mut exact = None;
    let mut matching = std::collections::BTreeMap::new();
    each(session, &place, |item| {
        if item.path == *wanted {
            exact.get_or_insert(item.id);
        }
        let relative = item.path.as_str().trim_start_matches('/');
        if glob.as_ref().is_some_and(|glob| glob.matches(relative)) {
            matching.entry(item.path.to_string()).or_insert(item.id);
        }
        Ok(())
    })
    .await?;
    if let Some(id) = exact {
        return Ok(vec![(id, wanted.to_string())]);
    }
    if matching.is_empty() {
        let message = format!("nothing in the trash was at {wanted}");
        return Err(Failure::new(Exit::NotFound, "E_NOT_FOUND", message)
            .at(wanted.as_str())
            .hint("`dbfs trash list` shows what is in the trash"));
    }
    Ok(matching.into_iter().map(|(path, id)| (id, path)).collect())
}

/// The longest part of `path` without a wildcard.
fn literal_above(path: &RemotePath) -> RemotePath {
    let above = std::iter::successors(Some(path.clone()), RemotePath::parent);
    above
        .into_iter()
        .find(|path| !has_wildcard(path.as_str()))
        .unwrap_or_else(RemotePath::root)
}

async fn empty(context: &Context, args: &EmptyArgs) -> Result<(), Failure> {
    let remotes = remotes(&args.paths)?;
    let session = context.session(profile_of(&remotes)?).await?;
    let paths = if remotes.is_empty() {
        vec![super::list::own(&session).await?]
    } else {
        remotes.into_iter().map(|remote| remote.path).collect()
    };
    if args.dry_run {
        for path in &paths {
            each(&session, path, |item| tell_planned(context, item.path.as_str())).await?;
        }
        return Ok(());
    }
    let shown: Vec<String> = paths.iter().map(|path| human::plain(path.as_str())).collect();
    let question = format!("Delete for good what is in the trash from {}?", shown.join(", "));
    context.console.confirm(&question)?;
    let mut parts = Parts::new("emptied");
    for path in &paths {
        match session.client.empty_trash(path).await {
            Ok(items) => {
                tell_emptied(context, path.as_str(), items)?;
                parts.done(path.as_str());
            }
            Err(error) => parts.failed(path.as_str(), error.into()),
        }
    }
    parts.end(context, |_| None)
}

fn tell_planned(context: &Context, path: &str) -> Result<(), Failure> {
    if context.console.is_json() {
        return context.console.object(&PlannedShape::new(path));
    }
    context.console.line(&human::plain(path))
}

/// `items` of the trash at or below `path` are released.
pub(super) fn tell_emptied(context: &Context, path: &str, items: u64) -> Result<(), Failure> {
    if context.console.is_json() {
        return context.console.object(&EmptiedShape {
            path: path.to_owned(),
            items,
        });
    }
    let items = human::count(items, "item");
    let path = human::plain(path);
    context
        .console
        .line(&format!("{path}  {items} of the trash released"))
}
