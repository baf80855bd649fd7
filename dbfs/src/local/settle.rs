//! Makes a new installation's files: CA, identities, the admin's password, a configuration per process, the plan.
//!
//! Invariant: the plan is written last. Dying anywhere before leaves a directory that the next `dbfs up` settles again,
//! keeping the CA and password that are there. Only a directory that is empty, or ours, is settled: `--purge` deletes it.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use client::cli::failure::{Exit, Failure};
use common::disk::write_durably;
use common::random::Random;
use common::tls::{Authority, Role};
use common::units::ByteCount;
use serde_json::Value;

use super::layout::{Cluster, Durability, Home, Kind, Plan, Process, threads_each};
use super::ready::ADMIN;
use crate::config::Config;

/// Of the free disk space, what all nodes together may take; the rest is for metadata, logs and everyone else.
const SHARED_PERMILLE: u64 = 900;
const LOOPBACK: &str = "127.0.0.1";

/// Makes everything that `plan` needs in `home`. `tune` has the last word on every configuration.
///
/// # Errors
/// Something cannot be made, or is in the way.
pub(crate) fn settle(
    home: &Home,
    plan: &Plan,
    random: &Random,
    tune: impl Fn(&mut Config),
) -> Result<(), Failure> {
    create_private(home.path())?;
    let authority = Authority::open_or_create(&created(home.ca())?)?;
    password(home, random)?;
    let nodes = u64::from(plan.size().clusters * plan.size().nodes);
    let capacity = ByteCount::new(free_bytes(home.path())? / 1000 * SHARED_PERMILLE / nodes.max(1));
    for (process, kind, _) in plan.processes() {
        let role = match kind {
            Kind::Supernode => Role::Supernode,
            Kind::Chunkserver(cluster) => Role::Chunkserver(cluster.name.clone()),
        };
        authority.issue(
            &role,
            &[LOOPBACK.to_owned()],
            &created(home.identity(&process.name))?,
        )?;
        created(home.data(&process.name))?;
        let mut config = match kind {
            Kind::Supernode => supernode(home, plan, process),
            Kind::Chunkserver(cluster) => chunkserver(home, plan, cluster, process, capacity),
        };
        tune(&mut config);
        write_config(home, process, &config)?;
    }
    home.keep(plan)
}

/// Whether `home` is empty or ours.
///
/// # Errors
/// It is somebody else's.
pub(crate) fn check_ours(home: &Home) -> Result<(), Failure> {
    if home.lock().exists() {
        return Ok(());
    }
    let mut entries = match std::fs::read_dir(home.path()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::local("cannot use", home.path(), &error)),
    };
    if entries.next().is_none() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Conflict,
        "E_EXISTS",
        format!(
            "{} is neither empty nor an installation of dbfs up",
            home.path().display()
        ),
    )
    .hint("name a directory of its own with --data"))
}

/// Creates `directory` for this user alone.
///
/// # Errors
/// It cannot be created.
pub(crate) fn create_private(directory: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| Failure::local("cannot create", directory, &error))
}

fn created(directory: std::path::PathBuf) -> Result<std::path::PathBuf, Failure> {
    create_private(&directory)?;
    Ok(directory)
}

/// A password of 24 letters and digits: 124 random bits.
fn password(home: &Home, random: &Random) -> Result<(), Failure> {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let path = home.password_file();
    if path.exists() {
        return Ok(());
    }
    let letter = || {
        let at = random.below(LETTERS.len() as u64);
        usize::try_from(at)
            .ok()
            .and_then(|at| LETTERS.get(at))
            .copied()
            .unwrap_or(b'x')
    };
    let mut text: Vec<u8> = (0..24).map(|_| letter()).collect();
    text.push(b'\n');
    write_durably(&path, &text, 0o600).map_err(|error| Failure::local("cannot write", &path, &error))
}

/// What a user may still write on the disk of `directory`.
///
/// # Errors
/// It cannot be looked at.
pub(crate) fn free_bytes(directory: &Path) -> Result<u64, Failure> {
    let found = rustix::fs::statvfs(directory)
        .map_err(|error| Failure::local("cannot look at the disk of", directory, &error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The machine's name; all processes of a local installation are one failure domain, and say so.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

fn others(all: &[Process], own: &Process) -> Vec<String> {
    let others = all.iter().filter(|process| process.name != own.name);
    others.map(|process| process.control.clone()).collect()
}

fn supernode(home: &Home, plan: &Plan, process: &Process) -> Config {
    let mut config = Config::default();
    config.metrics.listen.clone_from(&process.metrics);
    let own = &mut config.supernode;
    own.name.clone_from(&process.name);
    own.host = host();
    own.data_dir = home.data(&process.name);
    own.identity_dir = home.identity(&process.name);
    own.listen.clone_from(&process.control);
    own.join = others(&plan.supernodes, process);
    own.voters = plan.size().supernodes;
    own.admin.user = ADMIN.to_owned();
    own.admin.password_file = home.password_file();
    config
}

fn chunkserver(
    home: &Home,
    plan: &Plan,
    cluster: &Cluster,
    process: &Process,
    capacity: ByteCount,
) -> Config {
    let mut config = Config::default();
    config.metrics.listen.clone_from(&process.metrics);
    let own = &mut config.chunkserver;
    own.cluster.clone_from(&cluster.name);
    own.node.clone_from(&process.name);
    own.host = host();
    own.data_dir = home.data(&process.name);
    own.identity_dir = home.identity(&process.name);
    own.listen.control.clone_from(&process.control);
    own.listen.data.clone_from(&process.data);
    own.join = others(&cluster.nodes, process);
    own.voters = plan.size().voters();
    let threads = threads_each();
    own.limits.control_threads = own.limits.control_threads.min(threads);
    own.limits.data_threads = own.limits.data_threads.min(threads);
    own.supernodes = plan.seeds();
    own.durability = match plan.durability {
        Durability::Full => chunkserver::config::Durability::Full,
        Durability::Reduced => chunkserver::config::Durability::Reduced,
    };
    own.store.directories = vec![chunkserver::store::config::DirectoryConfig {
        path: own.data_dir.join("chunks"),
        capacity_bytes: Some(capacity),
    }];
    config
}

fn write_config(home: &Home, process: &Process, config: &Config) -> Result<(), Failure> {
    let path = home.config(&process.name);
    let fail = |error: std::io::Error| Failure::local("cannot write", &path, &error);
    let differing = differing(config).map_err(|error| fail(error.into()))?;
    let text = common::config::to_yaml(&differing).map_err(|reason| fail(std::io::Error::other(reason)))?;
    let text = format!(
        "# {} of a local installation, made by `dbfs up`; changes here are kept.\n# What is not here has its default: \
         `dbfs config-defaults` lists and explains every key.\n{text}",
        process.name
    );
    write_durably(&path, text.as_bytes(), 0o600).map_err(fail)
}

/// What of `config` is not as by default.
fn differing(config: &Config) -> serde_json::Result<Value> {
    let (own, default) = (
        serde_json::to_value(config)?,
        serde_json::to_value(Config::default())?,
    );
    Ok(without(own, &default).unwrap_or_else(|| Value::Object(serde_json::Map::new())))
}

/// `own` without what `default` says too; `None` where that is everything.
fn without(own: Value, default: &Value) -> Option<Value> {
    match (own, default) {
        (own, default) if own == *default => None,
        (Value::Object(own), Value::Object(default)) => {
            let kept = own.into_iter().filter_map(|(key, value)| {
                let other = default.get(&key).unwrap_or(&Value::Null);
                Some((key, without(value, other)?))
            });
            Some(Value::Object(kept.collect()))
        }
        (own, _) => Some(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::layout::Size;

    #[test]
    fn a_settled_installation_can_be_started() {
        common::tls::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().join("local"));
        let size = Size {
            supernodes: 3,
            clusters: 1,
            nodes: 3,
        };
        let plan = Plan::new(size, Durability::Full, 20_000..).unwrap();
        settle(&home, &plan, &Random::seeded(1), |_| ()).unwrap();
        let password = std::fs::read_to_string(home.password_file()).unwrap();
        assert_eq!(password.trim().len(), 24);
        for (process, kind, _) in plan.processes() {
            let config: Config = common::config::load(&home.config(&process.name)).unwrap();
            common::tls::Identity::load(&home.identity(&process.name)).unwrap();
            // Only what differs is written, and nothing of the other role.
            let text = std::fs::read_to_string(home.config(&process.name)).unwrap();
            let other = match kind {
                Kind::Supernode => "chunkserver:",
                Kind::Chunkserver(_) => "supernode:",
            };
            assert!(!text.contains(other) && !text.contains("timings"), "{text}");
            match kind {
                Kind::Supernode => assert_eq!(config.supernode.join.len(), 2),
                Kind::Chunkserver(_) => assert_eq!(config.chunkserver.validate(), Ok(())),
            }
        }
        settle(&home, &plan, &Random::seeded(2), |_| ()).unwrap();
        assert_eq!(std::fs::read_to_string(home.password_file()).unwrap(), password);
    }

    #[test]
    fn a_directory_of_somebody_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().to_owned());
        check_ours(&home).unwrap();
        std::fs::write(directory.path().join("thesis.tex"), "x").unwrap();
        assert_eq!(check_ours(&home).unwrap_err().code, "E_EXISTS");
        std::fs::write(home.lock(), "").unwrap();
        check_ours(&home).unwrap();
        check_ours(&Home::new(directory.path().join("missing"))).unwrap();
    }
}
