//! The whole command line, and what happens when it is not one.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use client::cli::failure::{Exit, Failure};
use client::cli::options::Options;

use crate::{bench, cert, completion, demo, local, man, role};

/// A distributed file system: one binary, one command to start, nothing acknowledged is ever lost.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "dbfs",
    version,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
First run:
  dbfs up                      an installation on this machine, ready in seconds
  dbfs upload FILE /admin/     store a file
  dbfs demo                    see it survive the loss of a node and of a leader

Errors have codes that `dbfs explain CODE` explains. Exit codes: 0 ok, 1 other, 2 usage, 3 not found, 4 not allowed,
5 unavailable (try again), 6 conflict, 7 quota or no space, 8 integrity, 9 partial, 130 interrupted."
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Client(client::cli::Command),
    Up(local::up::Args),
    Down(local::down::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    /// Runs a supernode in the foreground
    Supernode(role::Args),
    /// Runs a chunkserver in the foreground
    Chunkserver(role::Args),
    Cert(cert::Args),
    ConfigDefaults(ConfigDefaultsArgs),
    Completion(completion::Args),
    Man(man::Args),
}

impl Command {
    /// Whether this is a server that does its part of an installation.
    pub(crate) const fn is_role(&self) -> bool {
        matches!(self, Command::Supernode(_) | Command::Chunkserver(_))
    }
}

/// Prints a configuration file with every key, its default and a comment.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConfigDefaultsArgs {}

/// The command line that `arguments` are.
///
/// # Errors
/// They are none, or ask for help: it was printed, and the process ends with the number in the error.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<CommandLine, Exit> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = CommandLine::command().try_get_matches_from(&arguments);
    matches
        .and_then(|matches| CommandLine::from_arg_matches(&matches))
        .map_err(|error| refuse(&error, arguments.iter().any(|argument| argument == "--json")))
}

fn refuse(error: &clap::Error, json: bool) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody can be told that stdout is gone.
            let _ = error.print();
            return Exit::Ok;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return Exit::Usage;
        }
        _ => {}
    }
    let text = error.render().to_string();
    let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    if json {
        let failure = Failure::usage(text.lines().next().unwrap_or_default());
        eprintln!("{}", serde_json::to_string(&failure).unwrap_or_default());
    } else {
        eprintln!("error[E_USAGE]: {text}");
    }
    Exit::Usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_has_a_text() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no text");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{path} {} has no text",
                    argument.get_id()
                );
            }
            for below in command.get_subcommands() {
                check(below, &path);
            }
        }
        check(&CommandLine::command(), "");
    }
}
