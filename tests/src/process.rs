//! One process of an installation, as the state file of `dbfs up` describes it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::wait::until;

/// What a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A member of the names group.
    Supernode,
    /// A member of a cluster.
    Chunkserver,
}

/// One process, running or not.
#[derive(Debug)]
pub struct Process {
    /// Its name in the installation: `s1`, `alpha-2`.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// The cluster of a chunkserver; empty for supernodes.
    pub cluster: String,
    /// Its configuration file.
    pub config: PathBuf,
    /// Where its log goes.
    pub log: PathBuf,
    /// `host:port` of its metrics.
    pub metrics: String,
    /// `host:port` of its data plane; empty for supernodes.
    pub data: String,
    /// Its process id, while it runs.
    pub pid: Option<u32>,
    /// Set when the test itself restarted it.
    pub(crate) child: Option<Child>,
}

impl Process {
    /// Whether it still runs (a zombie does not).
    pub fn is_running(&self) -> bool {
        self.pid.is_some_and(is_running)
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let Some(pid) = self.pid.take() else { return };
        signal(pid, "KILL");
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        until(&format!("{} to be gone", self.name), || {
            (!is_running(pid)).then_some(())
        });
    }

    /// Starts it again with its own configuration and `environment`.
    ///
    /// # Panics
    /// If it runs already, or cannot be started.
    pub fn start(&mut self, environment: &[(String, String)]) {
        assert!(!self.is_running(), "{} runs already", self.name);
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.log)
            .expect("the log opens");
        let mut command = Command::new(crate::dbfs_binary());
        command.arg(match self.role {
            Role::Supernode => "supernode",
            Role::Chunkserver => "chunkserver",
        });
        command
            .arg("--config")
            .arg(&self.config)
            .envs(environment.iter().cloned());
        command.env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("the process starts");
        self.pid = Some(child.id());
        self.child = Some(child);
    }

    /// Collects the exit of a process that this test started and that has ended by itself.
    pub fn reap(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.try_wait();
        }
    }

    /// The largest resident set it has had so far, in bytes.
    ///
    /// # Panics
    /// If it does not run.
    pub fn peak_memory(&self) -> u64 {
        peak_memory_of(self.pid.expect("the process runs"))
    }
}

/// The largest resident set that the process `pid` has had so far, in bytes; 0 once it is gone.
pub fn peak_memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or("0");
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap_or(0)
        << 10
}

/// Sends a signal by name to a process which this test, or the installation it started, has started.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    // The first thread may be a zombie while others still hold the process's files and ports.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !matches!(state, None | Some('Z' | 'X')) || threads > 1
}
