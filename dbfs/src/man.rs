//! `dbfs man`: the manual pages, made from the same texts as `--help`.

use std::path::PathBuf;

use clap::CommandFactory;
use client::cli::context::Context;
use client::cli::failure::Failure;

use crate::command_line::CommandLine;

/// Writes the manual pages: one for dbfs, one for each of its commands.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
  dbfs man ~/.local/share/man/man1
  man dbfs-upload")]
pub(crate) struct Args {
    /// The directory to write them to; created if absent
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// The directory cannot be written.
pub(crate) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::local("cannot write", &args.directory, &error);
    std::fs::create_dir_all(&args.directory).map_err(failed)?;
    clap_mangen::generate_to(CommandLine::command(), &args.directory).map_err(failed)?;
    let directory = args.directory.display().to_string();
    if context.console.is_json() {
        return context
            .console
            .document(&serde_json::json!({ "directory": directory }));
    }
    context.console.line(&directory)
}
