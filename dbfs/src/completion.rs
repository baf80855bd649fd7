//! `dbfs completion`: what shells need to complete command lines.

use clap::CommandFactory;
use client::cli::context::Context;
use client::cli::failure::Failure;

use crate::command_line::CommandLine;

/// Prints the completion script for a shell.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
  bash:  source <(dbfs completion bash)
  zsh:   dbfs completion zsh > ~/.zfunc/_dbfs
  fish:  dbfs completion fish > ~/.config/fish/completions/dbfs.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// Runs the command.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "dbfs", &mut script);
    context.console.raw(&script)
}
