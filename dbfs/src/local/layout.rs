//! What an installation consists of and where its files are.
//!
//! ```text
//! DIR/installation.json   the plan: written once, last, when everything else stands (its absence: nothing to start);
//!                         installation.copy.json beside it counts where it is damaged
//! DIR/ca/                 the CA
//! DIR/admin.password      0600
//! DIR/NAME/config.yaml    one configuration per process, DIR/NAME/identity/, DIR/NAME/data/
//! DIR/logs/NAME.log
//! DIR/running.json        who runs: process ids with their start times (process.rs)
//! DIR/start-missing       asks the `dbfs up` that stays with its children to start those that are missing
//! DIR/dbfs-local.lock     held by `dbfs up` while it works on the directory; also says that the directory is ours
//! ```
//!
//! Invariant: addresses are chosen once and kept, so that what was stored can be found again after any restart.

use std::path::{Path, PathBuf};

use client::cli::failure::{Exit, Failure};
use common::disk::write_durably;
use serde::{Deserialize, Serialize};

use super::process::Running;

const FORMAT: u32 = 1;

/// Names of the first clusters.
const CLUSTER_NAMES: [&str; 6] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"];

/// How many clusters may run on one machine.
const CLUSTERS_MAX: u32 = 8;
/// How many nodes per cluster may run on one machine.
const NODES_MAX: u32 = 12;

/// What is promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Two copies on two nodes, also while one node is down.
    #[default]
    Full,
    /// Fewer, where there are too few nodes; receipts and status say so.
    Reduced,
}

/// What an installation consists of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    format: u32,
    /// The supernodes, the founder first.
    pub(crate) supernodes: Vec<Process>,
    /// The clusters.
    pub(crate) clusters: Vec<Cluster>,
    /// What is promised.
    pub(crate) durability: Durability,
    /// Whether every group has been founded. Until then its founder is started with `--found`; never afterwards, so
    /// that a founder which lost its disk joins its group instead of founding a second one.
    pub(crate) founded: bool,
}

/// One cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// Its name.
    pub(crate) name: String,
    /// Its chunkservers, the founder first.
    pub(crate) nodes: Vec<Process>,
}

/// One process and its addresses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    /// Its name: also that of its directory and log.
    pub(crate) name: String,
    /// `host:port` of its gRPC services.
    pub(crate) control: String,
    /// `host:port` of its data plane; empty for supernodes.
    pub(crate) data: String,
    /// `host:port` of its metrics.
    pub(crate) metrics: String,
}

/// How much of what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    /// Supernodes.
    pub(crate) supernodes: u32,
    /// Clusters.
    pub(crate) clusters: u32,
    /// Nodes per cluster.
    pub(crate) nodes: u32,
}

impl Size {
    /// Ports in all: a supernode has two, a node one more for its data plane.
    pub(crate) const fn ports(self) -> u32 {
        2 * self.supernodes + 3 * self.clusters * self.nodes
    }

    /// Whether this many can keep what `durability` promises.
    ///
    /// # Errors
    /// They cannot, or the numbers make no sense.
    pub(crate) fn check(self, durability: Durability) -> Result<(), Failure> {
        if !matches!(self.supernodes, 1 | 3 | 5) {
            return Err(Failure::usage(
                "supernodes must be 1, 3 or 5: a group of them decides by majority",
            ));
        }
        let in_bounds = |count: u32, most: u32| (1..=most).contains(&count);
        if !in_bounds(self.clusters, CLUSTERS_MAX) || !in_bounds(self.nodes, NODES_MAX) {
            return Err(Failure::usage(format!(
                "on one machine: 1 to {CLUSTERS_MAX} clusters of 1 to {NODES_MAX} nodes"
            )));
        }
        if durability == Durability::Full && (self.nodes < 3 || self.supernodes < 3) {
            return Err(Failure::new(
                Exit::Usage,
                "E_DURABILITY",
                "fewer than 3 nodes or supernodes cannot keep two copies while one is lost",
            )
            .hint("say --durability reduced if you accept that"));
        }
        Ok(())
    }

    /// How many nodes of a cluster vote.
    pub(crate) const fn voters(self) -> u32 {
        voters(self.nodes)
    }
}

/// How many of `nodes` vote: an odd number, at most five.
pub(crate) const fn voters(nodes: u32) -> u32 {
    match nodes {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    }
}

impl Plan {
    /// An installation of `size` with addresses from `ports`, each taken once.
    pub(crate) fn new(
        size: Size,
        durability: Durability,
        mut ports: impl Iterator<Item = u16>,
    ) -> Option<Self> {
        let mut address = || ports.next().map(|port| format!("127.0.0.1:{port}"));
        let mut supernodes = Vec::new();
        for at in 1..=size.supernodes {
            supernodes.push(Process {
                name: format!("supernode-{at}"),
                control: address()?,
                data: String::new(),
                metrics: address()?,
            });
        }
        let mut clusters = Vec::new();
        for at in 0..size.clusters as usize {
            let name = CLUSTER_NAMES
                .get(at)
                .map_or_else(|| format!("cluster-{}", at + 1), |name| (*name).to_owned());
            let mut nodes = Vec::new();
            for node in 1..=size.nodes {
                nodes.push(Process {
                    name: format!("{name}-{node}"),
                    control: address()?,
                    data: address()?,
                    metrics: address()?,
                });
            }
            clusters.push(Cluster { name, nodes });
        }
        Some(Self {
            format: FORMAT,
            supernodes,
            clusters,
            durability,
            founded: false,
        })
    }

    /// How much of what it has.
    pub(crate) fn size(&self) -> Size {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        Size {
            supernodes: count(self.supernodes.len()),
            clusters: count(self.clusters.len()),
            nodes: count(self.clusters.first().map_or(0, |cluster| cluster.nodes.len())),
        }
    }

    /// Whether its addresses begin at `port`.
    pub(crate) fn begins_at(&self, port: u16) -> bool {
        let first = self.supernodes.first();
        first.is_some_and(|first| first.control.ends_with(&format!(":{port}")))
    }

    /// Control addresses of the supernodes.
    pub(crate) fn seeds(&self) -> Vec<String> {
        self.supernodes
            .iter()
            .map(|process| process.control.clone())
            .collect()
    }

    /// All processes, founders of their groups first, each with whether it founds.
    pub(crate) fn processes(&self) -> Vec<(&Process, Kind<'_>, bool)> {
        let supernodes = self
            .supernodes
            .iter()
            .enumerate()
            .map(|(at, process)| (process, Kind::Supernode, at == 0));
        let nodes = self.clusters.iter().flat_map(|cluster| {
            let each = cluster.nodes.iter().enumerate();
            each.map(move |(at, process)| (process, Kind::Chunkserver(cluster), at == 0))
        });
        let mut all: Vec<_> = supernodes.chain(nodes).collect();
        all.sort_by_key(|(_, _, founds)| !founds);
        all
    }
}

/// What a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind<'a> {
    /// A supernode.
    Supernode,
    /// A chunkserver of this cluster.
    Chunkserver(&'a Cluster),
}

/// The directory of an installation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Home(PathBuf);

/// Threads for each runtime of each process: all of them share this machine.
pub(crate) fn threads_each() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores / 4).unwrap_or(u32::MAX).max(1)
}

impl Home {
    /// At `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The CA's directory.
    pub(crate) fn ca(&self) -> PathBuf {
        self.0.join("ca")
    }

    /// The file with the first admin's password.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.0.join("admin.password")
    }

    /// The configuration of the process `name`.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.0.join(name).join("config.yaml")
    }

    /// The identity of the process `name`.
    pub(crate) fn identity(&self, name: &str) -> PathBuf {
        self.0.join(name).join("identity")
    }

    /// What the process `name` stores.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.0.join(name).join("data")
    }

    /// The log of the process `name`.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.0.join("logs").join(format!("{name}.log"))
    }

    /// Who runs.
    pub(crate) fn running(&self) -> PathBuf {
        self.0.join("running.json")
    }

    /// The lock of whoever works on the directory.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("dbfs-local.lock")
    }

    /// Exists while somebody asks the `dbfs up` that stays with its children to start those that are missing.
    pub(crate) fn request(&self) -> PathBuf {
        self.0.join("start-missing")
    }

    /// Who runs, of the processes of `plan`.
    pub(crate) fn who_runs(&self, plan: &Plan) -> Running {
        let all = plan.processes();
        let configs = all.iter().map(|(process, _, _)| {
            let config = self.config(&process.name);
            (process.name.clone(), config)
        });
        Running::look(&self.running(), &configs.collect())
    }

    fn plan_file(&self) -> PathBuf {
        self.0.join("installation.json")
    }

    fn plan_copy(&self) -> PathBuf {
        self.0.join("installation.copy.json")
    }

    /// Whether an installation stands here.
    pub(crate) fn exists(&self) -> bool {
        self.plan_file().exists() || self.plan_copy().exists()
    }

    /// The plan; `None` where nothing stands here. Where the file is damaged or gone, its copy counts.
    ///
    /// # Errors
    /// Neither can be read, or both are of another build.
    pub(crate) fn plan(&self) -> Result<Option<Plan>, Failure> {
        match (read_plan(&self.plan_file()), read_plan(&self.plan_copy())) {
            (Ok(Some(plan)), _) | (Ok(None) | Err(_), Ok(Some(plan))) => Ok(Some(plan)),
            (Err(failure), _) | (Ok(None), Err(failure)) => Err(failure),
            (Ok(None), Ok(None)) => Ok(None),
        }
    }

    /// Keeps the plan, twice: it is the one file without which nothing can be started.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn keep(&self, plan: &Plan) -> Result<(), Failure> {
        for path in [self.plan_copy(), self.plan_file()] {
            let fail = |error: std::io::Error| Failure::local("cannot write", &path, &error);
            let text = serde_json::to_vec_pretty(plan).map_err(|error| fail(error.into()))?;
            write_durably(&path, &text, 0o600).map_err(fail)?;
        }
        Ok(())
    }
}

fn read_plan(path: &Path) -> Result<Option<Plan>, Failure> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::local("cannot read", path, &error)),
    };
    let damaged = |reason: String| {
        Failure::new(
            Exit::Usage,
            "E_DATA_DIR",
            format!("{} cannot be used: {reason}", path.display()),
        )
        .hint("name another directory with --data; --reset deletes this one with all its files")
    };
    let plan: Plan = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if plan.format == FORMAT {
        Ok(Some(plan))
    } else {
        Err(damaged(format!(
            "its format is {}, this build knows {FORMAT}",
            plan.format
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        supernodes: 3,
        clusters: 2,
        nodes: 3,
    };

    #[test]
    fn a_plan_has_an_address_for_everyone_and_survives() {
        let plan = Plan::new(SIZE, Durability::Full, 20_000..).unwrap();
        assert_eq!(plan.size(), SIZE);
        let all = plan.processes();
        assert_eq!(all.len(), 9);
        assert!(all.iter().take(3).all(|(_, _, founds)| *founds));
        assert!(all.iter().skip(3).all(|(_, _, founds)| !*founds));
        let mut addresses: Vec<_> = all
            .iter()
            .flat_map(|(process, _, _)| [&process.control, &process.data, &process.metrics])
            .filter(|address| !address.is_empty())
            .collect();
        let count = addresses.len();
        addresses.sort();
        addresses.dedup();
        assert_eq!((addresses.len(), count), (24, 24));
        assert_eq!(SIZE.ports(), 24);
        assert!(plan.begins_at(20_000) && !plan.begins_at(20_001));
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().to_owned());
        assert_eq!(home.plan().unwrap(), None);
        home.keep(&plan).unwrap();
        assert_eq!(home.plan().unwrap().as_ref(), Some(&plan));
        // One damaged or lost file is not the end of an installation.
        std::fs::write(home.plan_file(), "{").unwrap();
        assert_eq!(home.plan().unwrap().as_ref(), Some(&plan));
        std::fs::remove_file(home.plan_file()).unwrap();
        assert_eq!(home.plan().unwrap(), Some(plan));
        std::fs::write(home.plan_copy(), "{").unwrap();
        assert_eq!(home.plan().unwrap_err().code, "E_DATA_DIR");
        assert!(Plan::new(SIZE, Durability::Full, 1..10).is_none());
    }

    #[test]
    fn fewer_than_three_must_be_wanted() {
        let size = |supernodes, nodes| Size {
            supernodes,
            clusters: 1,
            nodes,
        };
        SIZE.check(Durability::Full).unwrap();
        assert_eq!(
            size(1, 3).check(Durability::Full).unwrap_err().code,
            "E_DURABILITY"
        );
        assert_eq!(
            size(3, 2).check(Durability::Full).unwrap_err().code,
            "E_DURABILITY"
        );
        size(1, 1).check(Durability::Reduced).unwrap();
        assert!(size(2, 3).check(Durability::Reduced).is_err());
        assert!(size(3, 0).check(Durability::Reduced).is_err());
        assert_eq!((voters(2), voters(4), voters(7)), (1, 3, 5));
    }
}
