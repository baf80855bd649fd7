//! `dbfs upload`: local files, trees or stdin become remote files.
//!
//! Invariant: a file is either wholly there afterwards or not at all; what an earlier run of the same command left
//! unfinished is continued (`send.rs`), and its outcome found out, before anything is sent twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::ids::VersionId;
use common::path::RemotePath;
use common::units::ByteCount;

use super::context::Context;
use super::destination::Meaning;
use super::failure::Failure;
use super::fleet::{self, Job};
use super::glob::Selection;
use super::kept::{self, LeftOut, SummaryShape};
use super::partly::Parts;
use super::remote::{Remote, sources_and_destination};
use super::resume::Keeper;
use super::send::send_one;
use super::session::Session;
use super::shapes::ReceiptShape;
use super::shapes::changes::PlannedUploadShape;
use super::{destination, human, walk};
use crate::Progress;
use crate::upload::{Condition, UploadOptions, UploadReceipt};

/// So many targets are looked at before anything moves.
const ROOTS_CHECKED_MAX: usize = 64;

/// Uploads at once by default: enough that small files do not wait for each other's commits.
const PARALLEL_DEFAULT: u64 = 16;

/// Uploads files, directories (-r) or stdin (-).
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dbfs upload report.pdf /me/reports/          keeps the name: /me/reports/report.pdf
  dbfs upload -r photos /me/                   /me/photos/...
  dbfs upload -r photos /me/pictures           /me/pictures/...
  tar c src | dbfs upload - /me/src.tar        from stdin

A destination that ends in / means into that directory: the source keeps its name. Any other means as that name, also
for a directory, whatever stands there: the same command run twice does the same. Several sources need a destination
that ends in /. With -r empty directories, modification times and the executable bit are kept; owners, other permissions,
extended attributes and hard links are not, symbolic links and special files are left out and counted. An interrupted upload of a large file goes on where it stopped when the same command is run again.")]
pub struct Args {
    /// Local files or directories, or - for stdin; last the destination (/bucket/dir/name)
    #[arg(required = true, num_args = 2.., value_names = ["SRC", "DST"])]
    paths: Vec<String>,
    /// Upload directories with everything below them
    #[arg(short, long)]
    recursive: bool,
    /// Files at once
    #[arg(short, long, value_name = "N", default_value_t = PARALLEL_DEFAULT,
          value_parser = clap::value_parser!(u64).range(1..=fleet::PARALLEL_MAX))]
    jobs: u64,
    /// With -r: only files that match this glob (repeatable)
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// With -r: not what matches this glob (repeatable)
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// With -r: follow symbolic links instead of leaving them out
    #[arg(long)]
    follow: bool,
    /// Keep this with the file (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    meta: Vec<String>,
    /// Only where there is no file yet
    #[arg(long, conflicts_with = "if_match")]
    if_none_match: bool,
    /// Only if this is the file's current version
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
    /// Begin anew where an earlier upload was interrupted
    #[arg(long)]
    no_resume: bool,
    /// Print what would be uploaded
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// One file to be uploaded.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The local file; `None` for stdin.
    pub(super) local: Option<PathBuf>,
    /// Where it goes.
    pub(super) to: RemotePath,
}

/// What a plan found out.
#[derive(Debug, Default)]
struct Plan {
    jobs: Vec<Job<Item>>,
    /// Where they go, and where they are.
    empty_directories: Vec<(RemotePath, PathBuf)>,
    failed: Vec<(String, Failure)>,
    left_out: LeftOut,
}

/// Runs the command.
///
/// # Errors
/// Nothing was uploaded, or not everything (`E_PARTIAL`).
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let (sources, to) = sources_and_destination(&args.paths)?;
    let to: Remote = to.parse()?;
    let metadata = metadata(&args.meta)?;
    if sources.len() > 1 && sources.iter().any(|source| source == "-") {
        return Err(Failure::usage("stdin (-) can only be uploaded by itself"));
    }
    let session = context.session(to.profile.as_deref()).await?;
    let plan = plan(&session, &args, sources, &to).await?;
    if let Some(left_out) = plan.left_out.words()
        && !context.console.is_json()
    {
        context
            .console
            .note(&format!("left out {left_out} (--follow follows links)"));
    }
    if args.dry_run {
        return tell_plan(context, &plan);
    }
    let options = UploadOptions {
        condition: condition(args.if_none_match, args.if_match),
        metadata,
        shutdown: context.shutdown.clone(),
        ..UploadOptions::default()
    };
    carry_out(context, &session, plan, &options, &args).await
}

async fn carry_out(
    context: &Context,
    session: &Session,
    plan: Plan,
    options: &UploadOptions,
    args: &Args,
) -> Result<(), Failure> {
    let began = context.seams.clock.moment();
    let several = plan.jobs.len() + plan.failed.len() > 1;
    let keeper = Keeper::new(context, session, !args.no_resume);
    let send = |item: Item, progress: Progress| {
        let mut options = UploadOptions {
            progress,
            ..options.clone()
        };
        let found = item
            .local
            .as_deref()
            .filter(|_| args.recursive)
            .map(std::fs::metadata);
        // What cannot be looked at is told when it is read.
        if let Some(Ok(found)) = found {
            for (key, value) in kept::of(&found) {
                options.metadata.entry(key).or_insert(value);
            }
        }
        let (client, keeper) = (session.client.clone(), keeper.clone());
        async move {
            let source = item
                .local
                .as_deref()
                .map_or_else(|| "-".to_owned(), |path| path.display().to_string());
            match Box::pin(send_one(&client, &keeper, &item, options)).await {
                Ok(receipt) => Ok((source, receipt)),
                Err(failure) => Err(failure.at(&source)),
            }
        }
    };
    let mut bytes = 0;
    let told = |(source, receipt): (String, UploadReceipt)| {
        bytes += receipt.size.get();
        tell_receipt(context, &source, &receipt, several)?;
        Ok(source)
    };
    let verbs = ("uploading", "uploaded");
    let mut parts = fleet::run(context, verbs, plan.jobs, args.jobs, send, told).await?;
    let files = parts.count_done();
    for (name, failure) in plan.failed {
        parts.failed(&name, failure);
    }
    for (directory, local) in &plan.empty_directories {
        let kept = std::fs::metadata(local)
            .map(|found| kept::of(&found))
            .unwrap_or_default();
        if let Err(error) = session.client.make_directory_with(directory, &kept).await {
            parts.failed(directory.as_str(), error.into());
        }
    }
    if args.recursive && context.console.is_json() {
        let summary = SummaryShape::new(files, bytes, plan.left_out);
        context.console.object(&summary)?;
    }
    if several && !context.console.is_json() {
        let elapsed = context.seams.clock.moment().since(began);
        context.console.line(&format!(
            "{}, {} in {} ({:.0} files/s, {})",
            human::count(files as u64, "file"),
            ByteCount::new(bytes),
            human::span(elapsed),
            files as f64 / elapsed.as_secs_f64().max(0.001),
            human::rate(bytes, elapsed),
        ))?;
    }
    parts.end(context, |_| None)
}

/// A source and what it becomes.
struct Root<'a> {
    source: &'a str,
    to: RemotePath,
    /// `None` for stdin.
    local: Option<(PathBuf, std::fs::Metadata)>,
}

/// Looks at everything before anything moves.
async fn roots<'a>(session: &Session, sources: &'a [String], to: &Remote) -> Result<Vec<Root<'a>>, Failure> {
    let meaning = destination::meaning(&to.as_typed(), sources.len() > 1)?;
    let mut roots = Vec::new();
    for source in sources {
        let is_stdin = source == "-";
        if is_stdin && meaning == Meaning::Into {
            return Err(Failure::usage("stdin has no name of its own")
                .hint("name the whole destination, for example /me/dir/name"));
        }
        let path = Path::new(source);
        let local = if is_stdin {
            None
        } else {
            let found =
                std::fs::metadata(path).map_err(|error| Failure::local("cannot read", path, &error))?;
            Some((path.to_owned(), found))
        };
        let to = match meaning {
            Meaning::Into => to.path.join(&walk::own_name(path)?)?,
            Meaning::As => to.path.clone(),
        };
        roots.push(Root { source, to, local });
    }
    destination::check_distinct(roots.iter().map(|root| (root.to.to_string(), root.source)))?;
    // What lies at the targets of many sources is told by the servers, one by one.
    for root in roots.iter().take(ROOTS_CHECKED_MAX) {
        let is_file = root.local.as_ref().is_none_or(|(_, found)| !found.is_dir());
        destination::check_remote(&session.client, &root.to, is_file).await?;
    }
    Ok(roots)
}

async fn plan(session: &Session, args: &Args, sources: &[String], to: &Remote) -> Result<Plan, Failure> {
    let selection = Selection::new(&args.include, &args.exclude)?;
    let mut plan = Plan::default();
    for Root { source, to, local } in roots(session, sources, to).await? {
        let Some((local, found)) = local else {
            plan.jobs.push(job("stdin", None, None, to));
            continue;
        };
        let local = local.as_path();
        if found.is_dir() {
            if !args.recursive {
                return Err(
                    Failure::usage(format!("{source} is a directory")).hint("say -r to upload all below it")
                );
            }
            plan_tree(&mut plan, local, &to, &selection, args.follow);
        } else if found.is_file() {
            plan.jobs
                .push(job(source, Some(local.to_owned()), Some(found.len()), to));
        } else {
            // A pipe or a device: read once, in order, like stdin.
            return Err(
                Failure::usage(format!("{source} is neither a file nor a directory"))
                    .hint("read it through stdin: dbfs upload - DST < FILE"),
            );
        }
    }
    Ok(plan)
}

fn job(name: &str, local: Option<PathBuf>, size: Option<u64>, to: RemotePath) -> Job<Item> {
    Job {
        name: name.to_owned(),
        size,
        work: Item { local, to },
    }
}

fn plan_tree(plan: &mut Plan, local: &Path, to: &RemotePath, selection: &Selection, follow: bool) {
    let tree = walk::walk(local, selection, follow);
    plan.left_out.symbolic_links += tree.left_out.symbolic_links;
    plan.left_out.special_files += tree.left_out.special_files;
    plan.failed.extend(tree.failed);
    for file in tree.files {
        match to.join(&file.relative) {
            Ok(to) => plan
                .jobs
                .push(job(&file.relative, Some(file.local), Some(file.size), to)),
            Err(error) => plan.failed.push((file.relative, error.into())),
        }
    }
    for directory in tree.empty_directories {
        let path = if directory.is_empty() {
            Ok(to.clone())
        } else {
            to.join(&directory)
        };
        match path {
            Ok(path) => plan.empty_directories.push((path, local.join(&directory))),
            Err(error) => plan.failed.push((directory, error.into())),
        }
    }
}

fn tell_plan(context: &Context, plan: &Plan) -> Result<(), Failure> {
    for job in &plan.jobs {
        if context.console.is_json() {
            let source = job
                .work
                .local
                .as_deref()
                .map_or("-".into(), Path::to_string_lossy);
            context.console.object(&PlannedUploadShape {
                source: source.into_owned(),
                path: job.work.to.to_string(),
                size: job.size,
                version: None,
                dry_run: true,
            })?;
        } else {
            let size = job
                .size
                .map_or_else(|| "?".to_owned(), |size| ByteCount::new(size).to_string());
            context.console.line(&format!(
                "{} -> {} ({size})",
                human::plain(&job.name),
                human::plain(job.work.to.as_str())
            ))?;
        }
    }
    let mut parts = Parts::new("planned");
    plan.jobs.iter().for_each(|job| parts.done(&job.name));
    for (name, failure) in &plan.failed {
        parts.failed(name, failure.clone());
    }
    parts.end(context, |_| None)
}

fn tell_receipt(
    context: &Context,
    source: &str,
    receipt: &UploadReceipt,
    several: bool,
) -> Result<(), Failure> {
    let console = &context.console;
    if console.is_json() {
        return console.object(&ReceiptShape::new(source, receipt));
    }
    if several && console.verbosity() == 0 {
        return Ok(());
    }
    for line in receipt_lines(receipt, several) {
        console.line(&line)?;
    }
    Ok(())
}

/// A receipt for people: one line, or three with the proof.
pub(super) fn receipt_lines(receipt: &UploadReceipt, short: bool) -> Vec<String> {
    let path = human::plain(receipt.path.as_str());
    let again = if receipt.already_published {
        ", stored by an earlier run"
    } else {
        ""
    };
    let first = format!("{path}  {}  version {}{again}", receipt.size, receipt.version);
    if short {
        return vec![first];
    }
    let mut lines = vec![first, format!("  digest  {}", receipt.digest)];
    if let Some(durability) = receipt.durability {
        let names: Vec<&str> = receipt.places.iter().map(|place| place.name.as_str()).collect();
        let nodes = if names.is_empty() {
            String::new()
        } else {
            format!(" on {}", names.join(", "))
        };
        let reduced = if durability.reduced {
            ", reduced durability"
        } else {
            ""
        };
        lines.push(format!(
            "  copies  {}{nodes} in cluster {} ({}, {}{reduced})",
            durability.copies,
            receipt.cluster,
            human::count(durability.hosts.into(), "host"),
            human::count(durability.zones.into(), "zone"),
        ));
    }
    lines
}

fn condition(absent: bool, version: Option<u64>) -> Condition {
    match version {
        Some(version) => Condition::Version(VersionId::new(version)),
        None if absent => Condition::Absent,
        None => Condition::Any,
    }
}

fn metadata(pairs: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let split = |pair: &String| {
        pair.split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .ok_or_else(|| Failure::usage(format!("'{pair}' is not KEY=VALUE")))
    };
    pairs.iter().map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_has_keys() {
        let pairs =
            |texts: &[&str]| metadata(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(pairs(&["a=b=c"]).unwrap()["a"], "b=c");
        assert!(pairs(&["=b"]).is_err() && pairs(&["b"]).is_err());
    }

    #[test]
    fn conditions_are_what_was_asked() {
        assert_eq!(condition(false, None), Condition::Any);
        assert_eq!(condition(true, None), Condition::Absent);
        assert_eq!(condition(false, Some(7)), Condition::Version(VersionId::new(7)));
    }
}
