//! A whole installation of real processes.
//!
//! It is made by `dbfs up --detach` in a temporary folder with ports of its own, and ended by SIGKILL when dropped:
//! nothing of it outlives the test, whatever the test did to it.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::binary::dbfs_binary;
use crate::ports::own_ports;
use crate::process::{Process, Role};
use crate::wait::until;

/// How much of each log a failed test shows.
const LOG_LINES: usize = 40;

/// Ports that an installation may need.
const PORTS_MAX: u32 = 64;

/// How large an installation is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Members of the names group.
    pub supernodes: u32,
    /// Clusters.
    pub clusters: u32,
    /// Chunkservers per cluster.
    pub nodes: u32,
}

impl Shape {
    /// Three supernodes, two clusters of three: what `dbfs up` makes.
    pub const FULL: Shape = Shape {
        supernodes: 3,
        clusters: 2,
        nodes: 3,
    };
    /// Three supernodes and one cluster.
    pub const ONE_CLUSTER: Shape = Shape {
        supernodes: 3,
        clusters: 1,
        nodes: 3,
    };
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// # Panics
    /// If the command did not exit with 0; the message shows what it printed.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// The JSON document on standard output.
    ///
    /// # Panics
    /// If it is not one.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A running installation. Dropping it ends every process and removes every file.
pub struct Installation {
    directory: TempDir,
    /// Every process, supernodes first.
    pub processes: Vec<Process>,
    /// Given to every process at each start.
    environment: Vec<(String, String)>,
}

impl Installation {
    /// Starts one and waits until it is whole.
    pub fn start(shape: Shape) -> Self {
        Self::start_with(shape, &[])
    }

    /// As [`Installation::start`], with configuration overrides for every process (`DBFS__...` variables).
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start_with(shape: Shape, environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = environment.iter().map(own).collect();
        let mut installation = Self {
            directory,
            processes: Vec::new(),
            environment,
        };
        let (supernodes, clusters, nodes) = (
            shape.supernodes.to_string(),
            shape.clusters.to_string(),
            shape.nodes.to_string(),
        );
        let mut up = installation.command();
        up.args([
            "up",
            "--detach",
            "--supernodes",
            &supernodes,
            "--clusters",
            &clusters,
            "--nodes",
            &nodes,
            "--first-port",
            &own_ports(PORTS_MAX).to_string(),
        ]);
        if shape.nodes < 3 || shape.supernodes < 3 {
            up.args(["--durability", "reduced"]);
        }
        up.arg("--data")
            .arg(installation.data())
            .envs(installation.environment.iter().cloned());
        let ran = Ran::from(up.output().expect("dbfs up runs"));
        installation.adopt();
        ran.ok();
        installation
    }

    /// Where `dbfs up` keeps the installation.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("installation")
    }

    /// A folder for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// The `dbfs` command with the installation's profile.
    pub fn command(&self) -> Command {
        let mut command = Command::new(dbfs_binary());
        command.env("XDG_CONFIG_HOME", self.directory.path().join("config"));
        command.env("XDG_DATA_HOME", self.directory.path().join("share"));
        command.env("XDG_STATE_HOME", self.directory.path().join("state"));
        command.env_remove("DBFS_FAIL_POINTS");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command against the installation.
    pub fn run<I, S>(&self, arguments: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Ran::from(self.command().args(arguments).output().expect("dbfs runs"))
    }

    /// `dbfs status --json`.
    pub fn status(&self) -> Option<Value> {
        let ran = self.run(["status", "--json"]);
        (ran.code == 0).then(|| ran.json())
    }

    /// The process called `name`.
    ///
    /// # Panics
    /// If there is none.
    pub fn process(&mut self, name: &str) -> &mut Process {
        self.processes
            .iter_mut()
            .find(|process| process.name == name)
            .expect("the process exists")
    }

    /// Ends every process with SIGKILL.
    pub fn kill_all(&mut self) {
        self.processes.iter_mut().for_each(Process::kill);
    }

    /// Waits until every group has a leader and every node is live.
    pub fn wait_until_whole(&self) {
        until("the installation to be healthy", || {
            let status = self.status()?;
            (status["health"] == "healthy").then_some(())
        });
    }

    /// The name of the leader of `cluster`, or of the names group where that is `names`, once there is one.
    pub fn leader_of(&self, group: &str) -> String {
        until(&format!("a leader of {group}"), || {
            let status = self.status()?;
            let leader = if group == "names" {
                status["names"]["leader"].clone()
            } else {
                let clusters = status["clusters"].as_array()?;
                clusters.iter().find(|cluster| cluster["name"] == group)?["leader"].clone()
            };
            leader.as_str().map(str::to_owned)
        })
    }

    /// Starts the process `name` again, with `more` in its environment.
    pub fn restart(&mut self, name: &str, more: &[(&str, &str)]) {
        let environment = self.environment_and(more);
        let process = self.process(name);
        process.kill();
        process.start(&environment);
    }

    /// Starts every process that does not run; how many that were.
    pub fn start_missing(&mut self) -> usize {
        let environment = self.environment_and(&[]);
        let mut started = 0;
        for process in &mut self.processes {
            process.reap();
            if !process.is_running() {
                process.start(&environment);
                started += 1;
            }
        }
        started
    }

    /// Runs a command while processes that end are started again, as a supervisor would. Also how many did end.
    pub fn run_supervised(&mut self, arguments: &[&str]) -> (Ran, usize) {
        let child = self.command().args(arguments).spawn().expect("dbfs runs");
        self.supervise(child, &format!("dbfs {}", arguments.join(" ")))
    }

    /// As [`Installation::run_supervised`], for a command that runs already.
    pub fn supervise(&mut self, mut child: Child, name: &str) -> (Ran, usize) {
        let mut ended = 0;
        until(&format!("{name} to end"), || {
            ended += self.start_missing();
            child.try_wait().expect("a child can be waited for").map(|_| ())
        });
        (
            Ran::from(child.wait_with_output().expect("a child can be waited for")),
            ended,
        )
    }

    fn environment_and(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment
            .iter()
            .cloned()
            .chain(more.iter().map(own))
            .collect()
    }

    /// The sum of the samples of a metric of the process `name`, from its metrics endpoint.
    ///
    /// # Panics
    /// If the endpoint does not answer.
    pub fn metric(&self, name: &str, metric: &str) -> f64 {
        let process = self
            .processes
            .iter()
            .find(|process| process.name == name)
            .expect("the process exists");
        let text = until("the metrics endpoint", || {
            http_get(&process.metrics, "/metrics").ok()
        });
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter(|line| line.split(['{', ' ']).next() == Some(metric))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// What the process `name` answers a probe of `path` with.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn probe(&self, name: &str, path: &str) -> u16 {
        let process = self
            .processes
            .iter()
            .find(|process| process.name == name)
            .expect("the process exists");
        let text = http_get(&process.metrics, path).expect("the process answers");
        let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.expect("an HTTP status")
    }

    /// Reads what `dbfs up` wrote about its processes.
    pub fn adopt(&mut self) {
        if !self.processes.is_empty() {
            return;
        }
        let read = |name: &str| -> Option<Value> {
            serde_json::from_str(&std::fs::read_to_string(self.data().join(name)).ok()?).ok()
        };
        let (Some(plan), Some(running)) = (read("installation.json"), read("running.json")) else {
            return;
        };
        let process = |row: &Value, role, cluster: &Value| {
            let name = row["name"].as_str().unwrap_or_default().to_owned();
            let pid = running["processes"][&name]["pid"].as_u64().unwrap_or(0);
            Process {
                config: self.data().join(&name).join("config.yaml"),
                log: self.data().join("logs").join(format!("{name}.log")),
                metrics: row["metrics"].as_str().unwrap_or_default().to_owned(),
                data: row["data"].as_str().unwrap_or_default().to_owned(),
                cluster: cluster.as_str().unwrap_or_default().to_owned(),
                pid: u32::try_from(pid).ok().filter(|pid| *pid != 0),
                child: None,
                name,
                role,
            }
        };
        let rows = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut found = Vec::new();
        for row in rows(&plan["supernodes"]) {
            found.push(process(&row, Role::Supernode, &Value::Null));
        }
        for cluster in rows(&plan["clusters"]) {
            for row in rows(&cluster["nodes"]) {
                found.push(process(&row, Role::Chunkserver, &cluster["name"]));
            }
        }
        self.processes = found;
    }

    fn show_logs(&self) {
        for process in &self.processes {
            let log = std::fs::read_to_string(&process.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("---- {} ----\n{}", process.name, tail.join("\n"));
        }
    }
}

fn http_get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

impl Drop for Installation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        self.adopt();
        self.kill_all();
    }
}
