//! Starts and stops the processes of an installation.
//!
//! Invariant: no process stays behind without being known. Each is in `running.json` before the next is started (and is
//! found by its command line where that file is lost), and each holds a pipe from this process (signals.rs), so that it ends when this process does, however that happens,
//! unless it was told that it may stay.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::cli::failure::{Exit, Failure};
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
    /// How: its exit status, or why it could not even be started.
    pub(crate) how: String,
    /// The end of its log.
    pub(crate) last_words: String,
}

impl Ended {
    /// For people: who, how, and what it said last.
    pub(crate) fn told(&self) -> String {
        // A role says why it ends in its last line: `error[CODE]: ...`, a hint after it.
        let lines: Vec<&str> = self.last_words.lines().collect();
        let from = lines.iter().rposition(|line| line.starts_with("error["));
        let words = lines.get(from.unwrap_or(0)..).unwrap_or_default();
        let mut told = format!("{} does not run ({})", self.name, self.how);
        for word in words {
            told.push_str("\n  ");
            told.push_str(word);
        }
        told
    }
}

/// This program, to be started again: the very file that runs, also where another one took its place meanwhile.
pub(crate) fn own_program() -> &'static str {
    "/proc/self/exe"
}

/// What `ps` shows of a process that is started from [`own_program`].
fn own_name() -> OsString {
    std::env::args_os().next().unwrap_or_else(|| "dbfs".into())
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

    /// Starts every process of `plan` that does not run, founders first. Who could not be started.
    pub(crate) fn start_all(&mut self, plan: &Plan) -> Vec<Ended> {
        let mut missing = Vec::new();
        for (process, kind, founds) in plan.processes() {
            if self.running.processes.contains_key(&process.name) {
                continue;
            }
            if let Err(failure) = self.start(&process.name, kind, founds && !plan.founded) {
                missing.push(Ended {
                    name: process.name.clone(),
                    how: failure.message,
                    last_words: String::new(),
                });
            }
        }
        missing
    }

    /// Starts the process `name`; with `found` it founds its group, where nothing is founded in its directory yet.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(&mut self, name: &str, kind: Kind<'_>, found: bool) -> Result<(), Failure> {
        let fail = |error: std::io::Error| {
            Failure::new(Exit::Other, "E_PROCESS", format!("cannot start {name}: {error}"))
        };
        let log_path = self.home.log(name);
        let log = open_log(&log_path).map_err(fail)?;
        let mut command = Command::new(own_program());
        command.arg0(own_name()).arg(match kind {
            Kind::Supernode => "supernode",
            Kind::Chunkserver(_) => "chunkserver",
        });
        command
            .arg("--config")
            .arg(self.home.config(name))
            .arg("--lifeline")
            .arg("--log")
            .arg(log_path);
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
        if let Err(failure) = self.running.save(&self.home.running()) {
            tracing::warn!(%failure, "who runs cannot be noted; it is found without the note");
        }
        Ok(())
    }

    /// Notes that this process stays with its children.
    ///
    /// # Errors
    /// The note cannot be written.
    pub(crate) fn supervise(&mut self) -> Result<(), Failure> {
        self.running.supervisor = Identity::own();
        self.running.save(&self.home.running())
    }

    /// Who has ended by itself since the last call, of the children and of those that ran before.
    pub(crate) fn ended(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        let end = |name: &String, how: String| Ended {
            name: name.clone(),
            how,
            last_words: tail(&self.home.log(name)),
        };
        for (name, child) in &mut self.children {
            // An error means that it is no child of ours any more, which cannot be.
            if let Ok(Some(status)) = child.try_wait() {
                ended.push(end(name, status.to_string()));
            }
        }
        for (name, process) in &self.running.processes {
            if !self.children.contains_key(name) && !process.runs() {
                ended.push(end(name, "it is gone".to_owned()));
            }
        }
        for end in &ended {
            self.children.remove(&end.name);
            self.running.processes.remove(&end.name);
        }
        ended
    }

    /// Whether the process `name` runs.
    pub(crate) fn runs(&self, name: &str) -> bool {
        self.running.processes.contains_key(name)
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

    /// Lets the children run on after this process has ended. One that has ended meanwhile is started by the next `up`.
    pub(crate) fn detach(mut self) {
        for (name, mut child) in std::mem::take(&mut self.children) {
            let told = child
                .stdin
                .take()
                .map_or(Ok(()), |mut lifeline| lifeline.write_all(&[DETACH]));
            if let Err(error) = told {
                tracing::warn!(name, %error, "a process ended before it was left alone");
            }
        }
    }

    /// Ends everything that runs in the installation: in order, and after a while without asking.
    pub(crate) async fn stop(mut self, clock: &Clock) {
        let all = std::mem::take(&mut self.running.processes);
        self.end(&all, clock).await;
    }

    /// Ends the children alone: what ran before goes on.
    pub(crate) async fn stop_children(mut self, clock: &Clock) {
        let (own, before) = std::mem::take(&mut self.running.processes)
            .into_iter()
            .partition(|(name, _)| self.children.contains_key(name));
        self.running.processes = before;
        self.end(&own, clock).await;
    }

    async fn end(&mut self, processes: &BTreeMap<String, Identity>, clock: &Clock) {
        stop_all(processes, clock).await;
        for child in self.children.values_mut() {
            // They have ended; this takes their remains away.
            let _ = child.wait();
        }
        self.children.clear();
        self.running.supervisor = None;
        // The note only helps: who runs is found without it too.
        let _ = if self.running.processes.is_empty() {
            std::fs::remove_file(self.home.running()).map_err(drop)
        } else {
            self.running.save(&self.home.running()).map_err(drop)
        };
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
