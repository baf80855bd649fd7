//! What the demonstration is played on: an installation in a temporary directory, and commands run as a user would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use client::Client;
use client::cli::console::Colour;
use client::cli::context::Context;
use client::cli::failure::{Exit, Failure};
use client::cli::options::Environment;
use common::units::{ByteCount, Span};
use tempfile::TempDir;

use crate::local::launch::{Fleet, own_program};
use crate::local::layout::{Durability, Home, Plan, Size};
use crate::local::process::Running;
use crate::local::{settle, up};

/// A node that is silent for so long is given up: short, because nobody wants to wait.
const DEAD_AFTER: Span = Span::seconds(5);
/// What the demonstration writes at most, for two large files: sources, two copies, downloads, and room to breathe.
const DISK_FACTOR: u64 = 12;

/// The installation and its surroundings.
pub(super) struct Stage {
    /// With the environment of the temporary place.
    pub(super) context: Context,
    /// What is installed.
    pub(super) plan: Plan,
    /// Its processes.
    pub(super) fleet: Option<Fleet>,
    directory: TempDir,
    home: Home,
    keep: bool,
}

impl Stage {
    /// Makes the files of an installation; nothing runs yet.
    pub(super) fn build(context: &Context, size: Size, keep: bool) -> Result<Self, Failure> {
        let place = std::env::temp_dir();
        let directory = tempfile::Builder::new()
            .prefix("dbfs-demo-")
            .tempdir()
            .map_err(|error| Failure::local("cannot create a directory in", &place, &error))?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (config, data, state) = (path("config"), path("share"), path("state"));
        let environment = Environment::of([
            ("HOME", directory.path().to_str().unwrap_or_default()),
            ("XDG_CONFIG_HOME", config.as_str()),
            ("XDG_DATA_HOME", data.as_str()),
            ("XDG_STATE_HOME", state.as_str()),
        ]);
        let context = Context {
            environment,
            ..context.clone()
        };
        let home = Home::new(directory.path().join("installation"));
        let plan = up::settle_new(&context, &home, size, Durability::Full, None, |config| {
            config.chunkserver.timings.dead_after = DEAD_AFTER;
        })?;
        Ok(Self {
            fleet: Some(Fleet::new(home.clone(), Running::default())),
            context,
            plan,
            directory,
            home,
            keep,
        })
    }

    /// Starts the installation and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub(super) async fn start(&mut self) -> Result<Client, Failure> {
        let fleet = self.fleet.as_mut().ok_or_else(stopped)?;
        let started = up::bring_up(&self.context, &self.home, &mut self.plan, fleet).await?;
        match started.missing.first() {
            Some(ended) => Err(Failure::new(Exit::Other, "E_CHILD_ENDED", ended.told())),
            None => Ok(started.client),
        }
    }

    /// Kills the process `name` as a power cut would.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn kill(&mut self, name: &str) -> Result<(), Failure> {
        self.fleet.as_mut().ok_or_else(stopped)?.kill(name)
    }

    /// The temporary directory.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A place for files of the demonstration's own.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whether the disk has room for two large files of `size` and all that comes of them.
    ///
    /// # Errors
    /// It has not.
    pub(super) fn check_room(&self, size: ByteCount) -> Result<(), Failure> {
        let needed = ByteCount::new(size.get() * DISK_FACTOR);
        let free = settle::free_bytes(self.directory.path())?;
        if free >= needed.get() {
            return Ok(());
        }
        let place = self.directory.path().parent().unwrap_or(Path::new("/")).display();
        Err(Failure::new(
            Exit::Full,
            "E_NO_SPACE",
            format!(
                "the demonstration needs {needed} in {place}; {} are free",
                ByteCount::new(free)
            ),
        )
        .hint("name a larger place with TMPDIR, or smaller files with --size"))
    }

    /// Says what comes next.
    ///
    /// # Errors
    /// Stdout is gone.
    pub(super) fn say(&self, text: &str) -> Result<(), Failure> {
        let console = &self.context.console;
        if console.is_json() {
            console.object(&serde_json::json!({ "step": text }))?;
        } else {
            console.line("")?;
            console.line(&console.paint_out(Colour::Bold, text))?;
        }
        console.flush()
    }

    /// Says what was found.
    ///
    /// # Errors
    /// Stdout is gone.
    pub(super) fn found(&self, text: &str) -> Result<(), Failure> {
        let console = &self.context.console;
        if console.is_json() {
            console.object(&serde_json::json!({ "found": text }))?;
        } else {
            console.line(&format!("  {text}"))?;
        }
        console.flush()
    }

    /// Shows and runs `dbfs ARGUMENTS` as a user would, as a process of its own.
    ///
    /// # Errors
    /// It does not end with `expected`.
    pub(super) async fn dbfs(&self, arguments: &[&str], expected: Exit) -> Result<(), Failure> {
        let console = &self.context.console;
        let shown = arguments.join(" ");
        let json = console.is_json();
        if !json {
            console.line(&console.paint_out(Colour::Dim, &format!("  $ dbfs {shown}")))?;
            console.flush()?;
        }
        let fail = |error: std::io::Error| {
            Failure::new(
                Exit::Other,
                "E_PROCESS",
                format!("cannot run dbfs {shown}: {error}"),
            )
        };
        let mut command = Command::new(own_program());
        command
            .args(arguments)
            .args(["--yes", "--progress", "never"])
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            // Another installation's settings are not for this one.
            if name.to_string_lossy().starts_with("DBFS_") {
                command.env_remove(&name);
            }
        }
        command.envs(self.context.environment.pairs());
        if json {
            command.stdout(Stdio::null());
        }
        let output = tokio::task::spawn_blocking(move || command.status()).await;
        let status = output
            .map_err(std::io::Error::other)
            .and_then(|status| status)
            .map_err(fail)?;
        if status.code() == Some(expected.number().into()) {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Other,
            "E_DEMO",
            format!("dbfs {shown} ended with {status}, not with {}", expected.number()),
        ))
    }

    /// Stops everything and takes everything away, or says where it is.
    ///
    /// # Errors
    /// Something cannot be taken away.
    pub(super) async fn clear(mut self) -> Result<(), Failure> {
        if let Some(fleet) = self.fleet.take() {
            fleet.stop(&self.context.seams.clock).await;
        }
        let path = self.directory.path().to_owned();
        if self.keep {
            let path = self.directory.keep();
            self.context.console.note(&format!("kept {}", path.display()));
            return Ok(());
        }
        self.directory
            .close()
            .map_err(|error| Failure::local("cannot delete", &path, &error))
    }
}

fn stopped() -> Failure {
    Failure::new(
        Exit::NotFound,
        "E_NOT_RUNNING",
        "the demonstration's installation does not run",
    )
}
