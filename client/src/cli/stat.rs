//! `dbfs stat`: what stands at a path.

use super::context::Context;
use super::failure::Failure;
use super::remote::{profile_of, remotes};
use super::shapes::EntryShape;
use super::{destination, human};
use crate::names::{Entry, EntryKind};

/// Shows a file, directory or bucket.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Remote paths, or patterns in quotes
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// A path does not exist, or may not be seen.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let remotes = remotes(&args.paths)?;
    let session = context.session(profile_of(&remotes)?).await?;
    let named = destination::expand_all(&session.client, &remotes).await?;
    let (entries, single) = (named.entries, remotes.len() == 1 && !named.by_pattern);
    for entry in &entries {
        match (context.console.is_json(), single) {
            (true, true) => context.console.document(&EntryShape::from(entry))?,
            (true, false) => context.console.object(&EntryShape::from(entry))?,
            (false, _) => describe(context, entry)?,
        }
    }
    Ok(())
}

fn describe(context: &Context, entry: &Entry) -> Result<(), Failure> {
    let console = &context.console;
    console.line(&human::plain(entry.path.as_str()))?;
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![format!("  {name}"), value]);
    match &entry.kind {
        EntryKind::Bucket => row("kind", "bucket".to_owned()),
        EntryKind::Directory => row("kind", "directory".to_owned()),
        EntryKind::File {
            version,
            size,
            digest,
            clusters,
        } => {
            row("kind", "file".to_owned());
            row("size", format!("{size} ({} bytes)", size.get()));
            row("version", version.to_string());
            row("digest", digest.to_string());
            row("cluster", clusters.join(", "));
        }
    }
    if entry.modified.as_millis() != 0 {
        row("modified", format!("{} UTC", human::date(entry.modified)));
    }
    if !entry.owner.is_empty() {
        row("owner", human::plain(&entry.owner));
    }
    for (key, value) in &entry.metadata {
        row(&format!("meta {}", human::plain(key)), human::plain(value));
    }
    human::table(&rows, &[])
        .iter()
        .try_for_each(|line| console.line(line))
}
