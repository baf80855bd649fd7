//! `dbfs`, the one binary: the commands of `client::cli`, the roles, and a local installation of real processes.
//!
//! Owns what concerns the process as such: arguments, signals, logs, exit codes, configuration files, child processes.
//! Never knows how anything is stored or decided. Read `command_line.rs` first, then `role.rs`, then `local/mod.rs`.

mod command_line;

mod config;
mod descriptors;
mod logs;
mod metrics;
mod role;
mod signals;

mod cert;
mod completion;

mod bench;
mod demo;
mod local;
mod man;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use client::cli::context::Context;
use client::cli::failure::{Exit, Failure};
use client::cli::options::Environment;
use command_line::{Command, CommandLine};
use common::shutdown::Shutdown;
use common::time::Clock;
use local::launch::RUNTIME_THREADS;

/// How much longer than the command itself allows it may take to end after a signal.
const END_WITHIN: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    common::tls::install_provider();
    let line = match command_line::parse(std::env::args_os()) {
        Ok(line) => line,
        Err(exit) => return exit.into(),
    };
    descriptors::raise_limit();
    let runtime = match threads(&line.command).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error[E_PROCESS]: cannot start threads: {error}");
            return Exit::Other.into();
        }
    };
    let shutdown = Shutdown::new();
    let context = Arc::new(Context::of_process(
        line.options.clone(),
        Environment::of_process(),
        shutdown.clone(),
    ));
    // A command that asks for a password, say, does not notice the signal to end: it is left behind.
    let patience = match &line.command {
        Command::Client(command) => Some(client::cli::grace(command) + END_WITHIN),
        _ => None,
    };
    let out_of_patience = out_of_patience(patience, shutdown.clone(), context.seams.clock.clone());
    // On the threads that serve its connections too: the main thread would have to be woken for every answer.
    let work = runtime.spawn({
        let context = Arc::clone(&context);
        async move {
            let hangup = if line.command.is_role() {
                signals::Hangup::Reload(context.reload.clone())
            } else {
                signals::Hangup::End
            };
            if let Err(error) = signals::listen(&shutdown, hangup) {
                eprintln!("error[E_PROCESS]: cannot listen for signals: {error}");
                return Exit::Other;
            }
            match Box::pin(run(&context, line)).await {
                Ok(()) => Exit::Ok,
                Err(failure) => {
                    context.console.failure(&failure);
                    failure.exit
                }
            }
        }
    });
    let exit = runtime.block_on(async {
        tokio::select! {
            ended = work => ended.unwrap_or_else(|error| panicked(&error)),
            () = out_of_patience => Exit::Interrupted,
        }
    });
    // A read of stdin or a name look-up that nobody waits for any more must not keep the process.
    runtime.shutdown_background();
    exit.into()
}

/// Resolves when a command has taken longer than `patience` after the signal to end.
async fn out_of_patience(patience: Option<Duration>, shutdown: Shutdown, clock: Clock) {
    let Some(patience) = patience else {
        return std::future::pending().await;
    };
    shutdown.triggered().await;
    clock.sleep(patience).await;
}

/// A panic is a defect, told as one and not as anything that was asked for.
fn panicked(error: &tokio::task::JoinError) -> Exit {
    eprintln!("error[E_PANIC]: the command broke down: {error}");
    eprintln!("hint: report this: no input and no answer should make it panic");
    Exit::Other
}

/// The threads of this process. A client leaves half of the processors to its hashing, which has threads of its own, and
/// to servers that may be on the same machine; more would mostly wake each other.
fn threads(command: &Command) -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let is_set = std::env::var_os(RUNTIME_THREADS).is_some();
    if !command.is_role() && !is_set {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        builder.worker_threads((cores / 2).max(1));
    }
    builder
}

async fn run(context: &Context, line: CommandLine) -> Result<(), Failure> {
    if !line.command.is_role() {
        let filter = match line.options.verbose {
            0 => "error",
            1 => "warn,dbfs_client=info",
            _ => "info,dbfs_client=debug",
        };
        let started = common::telemetry::start(filter);
        started.map_err(|error| Failure::usage(format!("DBFS_LOG is not a filter: {error}")))?;
    }
    let result = match line.command {
        Command::Client(command) => client::cli::run(context, command).await,
        Command::Supernode(args) => role::supernode(context, args).await,
        Command::Chunkserver(args) => role::chunkserver(context, args).await,
        Command::Up(args) => local::up::run(context, args).await,
        Command::Down(args) => local::down::run(context, args).await,
        Command::Demo(args) => demo::run(context, args).await,
        Command::Bench(args) => bench::run(context, args).await,
        Command::Cert(args) => cert::run(context, args),
        Command::ConfigDefaults(_) => context.console.raw(config::DEFAULTS_TEXT.as_bytes()),
        Command::Completion(args) => completion::run(context, &args),
        Command::Man(args) => man::run(context, &args),
    };
    // What was done already is told, also where the command failed in the end.
    result.and(context.console.flush())
}
