//! `dbfs mkdir`: directories.

use super::context::Context;
use super::destination;
use super::failure::{Exit, Failure};
use super::human;
use super::partly::{Parts, command_line};
use super::remote::{profile_of, remotes};
use super::shapes::EntryShape;
use super::shapes::changes::PlannedShape;
use crate::Client;
use common::path::RemotePath;

/// Creates directories and their missing parents; one that exists is fine.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Remote directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Print what would be created
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// A file is in the way, or it is not allowed.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let remotes = remotes(&args.paths)?;
    let profile = profile_of(&remotes)?;
    let session = context.session(profile).await?;
    for remote in &remotes {
        check(&session.client, &remote.path).await?;
    }
    let console = &context.console;
    let mut parts = Parts::new("created");
    for remote in &remotes {
        let shown = human::plain(remote.path.as_str());
        match (args.dry_run, console.is_json()) {
            (true, true) => {
                console.object(&PlannedShape::new(remote.path.as_str()))?;
                continue;
            }
            (true, false) => {
                console.line(&shown)?;
                continue;
            }
            (false, _) => {}
        }
        match session.client.make_directory(&remote.path).await {
            Ok(entry) => {
                if console.is_json() {
                    console.object(&EntryShape::from(&entry))?;
                } else {
                    console.line(&format!("{shown}/"))?;
                }
                parts.done(remote.path.as_str());
            }
            Err(error) => parts.failed(remote.path.as_str(), error.into()),
        }
    }
    parts.end(context, |left| {
        let profile = profile.map_or_else(String::new, |profile| format!("{profile}:"));
        let left: Vec<String> = left.iter().map(|path| format!("{profile}{path}")).collect();
        Some(command_line(
            ["dbfs", "mkdir"]
                .into_iter()
                .chain(left.iter().map(String::as_str)),
        ))
    })
}

async fn check(client: &Client, path: &RemotePath) -> Result<(), Failure> {
    match destination::nearest(client, path).await? {
        Some(there) if there.is_file() && there.path == *path => {
            Err(Failure::new(Exit::Conflict, "E_EXISTS", format!("{path} is a file")).at(path.as_str()))
        }
        Some(there) if there.is_file() => {
            let message = format!("{} is a file", there.path);
            Err(Failure::new(Exit::Conflict, "E_NOT_A_DIRECTORY", message).at(path.as_str()))
        }
        _ => Ok(()),
    }
}
