//! `dbfs version`: this build.

use super::context::Context;
use super::failure::Failure;

/// Shows the version of this build and of the protocol it speaks.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn run(context: &Context, _args: &Args) -> Result<(), Failure> {
    let console = &context.console;
    let version = env!("CARGO_PKG_VERSION");
    if console.is_json() {
        return console.document(&serde_json::json!({
            "version": version,
            "protocol": proto::PROTOCOL_VERSION,
            "protocol_min": proto::PROTOCOL_VERSION_MIN,
        }));
    }
    console.line(&format!("dbfs {version} (protocol {})", proto::PROTOCOL_VERSION))
}
