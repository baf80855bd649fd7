//! Logs: structured, to stderr, one line each. ERROR needs a human, WARN is unexpected but survived, INFO is a state
//! change, DEBUG a request.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Sends this process's logs to stderr. `filter` is a level (`info`) or directives (`info,dbfs_consensus=debug`);
/// the environment variable `DBFS_LOG` goes before it. Called once, by the binary.
///
/// # Errors
/// `filter` is not a filter.
pub fn start(filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let directives = std::env::var("DBFS_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::try_new(directives)?;
    // A second call keeps the first subscriber: tests in one process share it.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    Ok(())
}
