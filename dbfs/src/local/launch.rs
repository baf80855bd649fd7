//! Starts and stops the processes of an installation.
//!
//! Invariant: no process stays behind without being known. Each is in `running.json` before the next is started, and
//! each holds a pipe from this process (signals.rs), so that it ends when this process does, however that happens,
//! unless it was told that it may stay.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use client::cli::failure::{Exit, Failure};
use common::disk::rename_durably;
use common::time::Clock;
use rustix::process::Signal;

use super::layout::{Home, Kind, Plan, threads_each};
use super::process::{Identity, Running};
use crate::signals::DETACH;

/// Tokio's own variable for the size of a runtime.
pub(crate) const RUNTIME_THREADS: &str = "TOKIO_WORKER_THREADS";
/// How long processes may take to end in order.
const STOP_GRACE: Duration = Duration::from_secs(10);
const STOP_POLL: Duration = Duration::from_millis(20);
/// A log that is longer when its process starts is set aside first.
const LOG_BYTES_MAX: u64 = 64 << 20;
const LOG_TAIL_BYTES_MAX: u64 = 4096;
const LOG_TAIL_LINES_MAX: usize = 6;

/// The processes that this process started.
#[derive(Debug)]
pub(crate) struct Fleet {
    home: Home,
    running: Running,
    children: BTreeMap<String, Child>,
}

/// A process that ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Which.
    pub(crate) name: String,
    /// How.
    pub(crate) status: ExitStatus,
    /// The end of its log.
    pub(crate) last_words: String,
}

impl Fleet {
    /// In `home`, where `running` runs already.
    pub(crate) fn new(home: Home, running: Running) -> Self {
        Self {
            home,
            running,
            children: BTreeMap::new(),
        }
    }

    /// Starts every process of `plan` that does not run, founders first.
    ///
    /// # Errors
    /// One cannot be started.
    pub(crate) fn start_all(&mut self, plan: &Plan) -> Result<(), Failure> {
        for (process, kind, founds) in plan.processes() {
            if !self.running.processes.contains_key(&process.name) {
                self.start(&process.name, kind, founds && !plan.founded)?;
            }
        }
        Ok(())
    }

    /// Starts the process `name`; with `found` it founds its group, where nothing is founded in its directory yet.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(&mut self, name: &str, kind: Kind<'_>, found: bool) -> Result<(), Failure> {
        let fail = |error: std::io::Error| {
            Failure::new(Exit::Other, "E_PROCESS", format!("cannot start {name}: {error}"))
        };
        let program = std::env::current_exe().map_err(fail)?;
        let log = open_log(&self.home.log(name)).map_err(fail)?;
        let mut command = Command::new(program);
        command.arg(match kind {
            Kind::Supernode => "supernode",
            Kind::Chunkserver(_) => "chunkserver",
        });
        command
            .arg("--config")
            .arg(self.home.config(name))
            .arg("--lifeline");
        if found {
            command.arg("--found");
        }
        if std::env::var_os(RUNTIME_THREADS).is_none() {
            command.env(RUNTIME_THREADS, threads_each().to_string());
        }
        // A group of its own: Ctrl-C is for this process, which then stops the others in order.
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().map_err(fail)?;
        if let Some(identity) = Identity::of(child.id()) {
            self.running.processes.insert(name.to_owned(), identity);
        }
        self.children.insert(name.to_owned(), child);
        self.running.save(&self.home.running())
    }

    /// Notes that this process stays with its children.
    ///
    /// # Errors
    /// The note cannot be written.
    pub(crate) fn supervise(&mut self) -> Result<(), Failure> {
        self.running.supervisor = Identity::own();
        self.running.save(&self.home.running())
    }

    /// Who has ended by itself since the last call.
    pub(crate) fn ended(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        for (name, child) in &mut self.children {
            // An error means that it is no child of ours any more, which cannot be.
            if let Ok(Some(status)) = child.try_wait() {
                ended.push(Ended {
                    name: name.clone(),
                    status,
                    last_words: tail(&self.home.log(name)),
                });
            }
        }
        for end in &ended {
            self.children.remove(&end.name);
            self.running.processes.remove(&end.name);
        }
        ended
    }

    /// Kills the process `name` without a warning, as a power cut would.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let gone = || Failure::new(Exit::NotFound, "E_NOT_RUNNING", format!("{name} does not run"));
        let mut child = self.children.remove(name).ok_or_else(gone)?;
        self.running.processes.remove(name);
        child.kill().and_then(|()| child.wait()).map_err(|_| gone())?;
        Ok(())
    }

    /// Lets the children run on after this process has ended.
    ///
    /// # Errors
    /// One of them has ended.
    pub(crate) fn detach(mut self) -> Result<(), Failure> {
        for (name, mut child) in std::mem::take(&mut self.children) {
            let told = child
                .stdin
                .take()
                .map_or(Ok(()), |mut lifeline| lifeline.write_all(&[DETACH]));
            told.map_err(|error| {
                Failure::new(Exit::Other, "E_CHILD_ENDED", format!("{name} has ended: {error}"))
            })?;
        }
        Ok(())
    }

    /// Ends all children: in order, and after a while without asking.
    pub(crate) async fn stop(mut self, clock: &Clock) {
        stop_all(&self.running.processes, clock).await;
        for child in self.children.values_mut() {
            // They have ended; this takes their remains away.
            let _ = child.wait();
        }
        self.children.clear();
        self.running = Running::default();
        // An installation that does not run needs no note of who runs.
        let _ = std::fs::remove_file(self.home.running());
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            // Only where something went so wrong that there was no time for an end in order.
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Ends `processes`: in order, and after a while without asking.
pub(crate) async fn stop_all(processes: &BTreeMap<String, Identity>, clock: &Clock) {
    for process in processes.values() {
        process.signal(Signal::TERM);
    }
    let began = clock.moment();
    while processes.values().any(Identity::runs) {
        if clock.moment().since(began) > STOP_GRACE {
            for process in processes.values() {
                process.signal(Signal::KILL);
            }
        }
        clock.sleep(STOP_POLL).await;
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        rename_durably(path, &path.with_extension("log.old"))?;
    }
    File::options().create(true).append(true).open(path)
}

/// The last lines of a log.
pub(crate) fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(LOG_TAIL_LINES_MAX)..)
        .unwrap_or_default()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_short() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        assert_eq!(tail(&path), "");
        let lines: Vec<String> = (0..2000).map(|line| format!("line {line}")).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        assert!(tail(&path).ends_with("line 1999"));
        assert_eq!(tail(&path).lines().count(), LOG_TAIL_LINES_MAX);
    }

    #[tokio::test]
    async fn who_does_not_listen_is_killed() {
        let mut deaf = Command::new("sh")
            .args(["-c", "trap '' TERM; while :; do sleep 1; done"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let processes = BTreeMap::from([("deaf".to_owned(), Identity::of(deaf.id()).unwrap())]);
        let time = common::time::ManualTime::default();
        let clock = time.clock();
        let stopping = tokio::spawn(async move { stop_all(&processes, &clock).await });
        while !stopping.is_finished() {
            time.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        assert!(!deaf.wait().unwrap().success());
    }
}
