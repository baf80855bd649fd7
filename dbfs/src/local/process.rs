//! Processes by id and start time, so that a signal never reaches a stranger who got the same id later.
//!
//! Invariant: a signal goes through a pid descriptor that was opened before the start time was compared; the kernel
//! keeps such a descriptor bound to that one process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use client::cli::failure::Failure;
use common::disk::write_durably;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process, for as long as this machine runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The process id.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since the machine booted.
    started: u64,
    /// Which boot of the machine.
    boot: String,
}

impl Identity {
    /// Of the process `pid`; `None` where there is none.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            started: started(pid)?,
            boot: boot(),
        })
    }

    /// Of this process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether it still runs. One that has ended and that nobody has waited for counts as gone.
    pub(crate) fn runs(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends `signal`, if it still runs; whether it does.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return false;
        };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
            return false;
        };
        self.runs() && pidfd_send_signal(descriptor, signal).is_ok()
    }
}

/// The start time of `pid` as the kernel counts it; `None` where there is no such process, or only its remains. While a
/// process ends, its first thread may be gone before another one lets go of the ports and the data directory.
fn started(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may have blanks and parentheses of its own.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    if matches!(state, "Z" | "X") && threads() <= 1 {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The processes of this machine that play a role with one of `configs`.
fn roles_of(configs: &BTreeMap<String, PathBuf>) -> Vec<(String, Identity)> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut arguments = line.split(|byte| *byte == 0).skip(1);
        if !matches!(arguments.next()?, b"supernode" | b"chunkserver") || arguments.next()? != b"--config" {
            return None;
        }
        let config = Path::new(OsStr::from_bytes(arguments.next()?));
        let (name, _) = configs.iter().find(|(_, own)| own.as_path() == config)?;
        Some((name.clone(), Identity::of(pid)?))
    })
    .collect()
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Who runs in an installation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Running {
    /// The `dbfs up` that stays with its children, where one does.
    pub(crate) supervisor: Option<Identity>,
    /// The roles, by name.
    pub(crate) processes: BTreeMap<String, Identity>,
}

impl Running {
    /// What `path` says, without those that have ended. A file that is missing or damaged says that nobody runs.
    pub(crate) fn load(path: &Path) -> Self {
        let all: Self = std::fs::read(path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self {
            supervisor: all.supervisor.filter(Identity::runs),
            processes: all
                .processes
                .into_iter()
                .filter(|(_, process)| process.runs())
                .collect(),
        }
    }

    /// Who of `configs` (name and configuration file of each process) runs: as the note at `path` says, and as the
    /// processes of this machine say themselves, since the note may be missing, damaged or older than they are.
    pub(crate) fn look(path: &Path, configs: &BTreeMap<String, PathBuf>) -> Self {
        let mut running = Self::load(path);
        running.processes.retain(|name, _| configs.contains_key(name));
        for (name, identity) in roles_of(configs) {
            running.processes.entry(name).or_insert(identity);
        }
        running
    }

    /// Writes it to `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let fail = |error: std::io::Error| Failure::local("cannot write", path, &error);
        let text = serde_json::to_vec_pretty(self).map_err(|error| fail(error.into()))?;
        write_durably(path, &text, 0o600).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    fn child() -> std::process::Child {
        Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_stranger_with_the_same_id_is_left_alone() {
        let mut child = child();
        let own = Identity::of(child.id()).unwrap();
        assert!(own.runs());
        let older = Identity {
            started: own.started - 1,
            ..own.clone()
        };
        let of_another_boot = Identity {
            boot: "other".to_owned(),
            ..own.clone()
        };
        assert!(!older.signal(Signal::KILL) && !of_another_boot.signal(Signal::KILL));
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(own.signal(Signal::KILL));
        child.wait().unwrap();
        assert!(!own.runs() && !own.signal(Signal::KILL));
    }

    #[test]
    fn who_runs_is_found_without_a_note() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("running.json");
        let config = directory.path().join("alpha-1/config.yaml");
        let configs = BTreeMap::from([("alpha-1".to_owned(), config.clone())]);
        // A shell that runs a script called as the role is: its command line is that of the role.
        std::fs::write(directory.path().join("supernode"), "read line\n").unwrap();
        let mut role = Command::new("sh")
            .arg0("dbfs")
            .args(["supernode", "--config"])
            .arg(&config)
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let of = |running: &Running| running.processes.get("alpha-1").map(|found| found.pid);
        while of(&Running::look(&note, &configs)).is_none() {
            std::thread::yield_now();
        }
        for text in ["", "{", r#"{"supervisor":null,"processes":{"old":7}}"#] {
            std::fs::write(&note, text).unwrap();
            assert_eq!(of(&Running::look(&note, &configs)), Some(role.id()), "{text}");
        }
        let others = BTreeMap::from([("alpha-1".to_owned(), directory.path().join("config.yaml"))]);
        assert_eq!(of(&Running::look(&note, &others)), None);
        role.kill().unwrap();
        role.wait().unwrap();
        assert_eq!(of(&Running::look(&note, &configs)), None);
    }

    #[test]
    fn who_has_ended_is_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("running.json");
        assert_eq!(Running::load(&path), Running::default());
        let mut child = child();
        let running = Running {
            supervisor: Identity::own(),
            processes: BTreeMap::from([("a".to_owned(), Identity::of(child.id()).unwrap())]),
        };
        running.save(&path).unwrap();
        assert_eq!(Running::load(&path), running);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Running::load(&path).processes.is_empty());
    }
}
