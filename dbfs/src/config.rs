//! The configuration file: one struct for the whole, a section per crate, unknown keys refused.
//!
//! `config.yaml` at the root of the sources lists every key with its default and a comment; a test proves that it says
//! what the code does.

use std::path::Path;

use client::cli::failure::{Exit, Failure};
use client::cli::options::Environment;
use serde::{Deserialize, Serialize};

/// `config.yaml` as it stands at the root of the sources.
pub(crate) const DEFAULTS_TEXT: &str = include_str!("../../config.yaml");

/// The whole file. A process reads the sections that concern it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// What is logged.
    pub(crate) log: Log,
    /// Numbers for Prometheus.
    pub(crate) metrics: crate::metrics::Config,
    /// A supernode.
    pub(crate) supernode: supernode::Config,
    /// A chunkserver.
    pub(crate) chunkserver: chunkserver::Config,
}

/// The `log` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// A level, or directives such as `info,dbfs_consensus=debug`.
    pub(crate) filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info,openraft=error".to_owned(),
        }
    }
}

/// Reads `file`, then `DBFS__SECTION__KEY` from `environment`, then `set` (`key=value`), each over what was before.
///
/// # Errors
/// One of them is no configuration; the message says where and why.
pub(crate) fn load(file: &Path, environment: &Environment, set: &[String]) -> Result<Config, Failure> {
    let refuse = |error: common::config::Error| {
        let text = common::error::chain(&error);
        Failure::new(Exit::Usage, "E_CONFIG", text)
            .hint("`dbfs config-defaults` lists every key with its default")
    };
    let config = common::config::load(file).map_err(refuse)?;
    let mut overrides = common::config::overrides_in(environment.pairs());
    for pair in set {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("'{pair}' is not key=value")))?;
        overrides.push((key.to_owned(), value.to_owned()));
    }
    common::config::apply(config, &overrides).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_the_code_does() {
        let parsed: Config = common::config::parse(DEFAULTS_TEXT).unwrap();
        assert_eq!(parsed, Config::default());
    }

    /// Every key of the serialised default stands in the file, at its place, with a comment above it.
    #[test]
    fn the_file_has_every_key_with_a_comment() {
        let written = common::config::to_yaml(&Config::default()).unwrap();
        let keys = |text: &str| -> Vec<String> {
            let mut path: Vec<(usize, String)> = Vec::new();
            let mut found = Vec::new();
            for line in text.lines() {
                let trimmed = line.trim_start();
                let Some((key, _)) = trimmed.split_once(':') else {
                    continue;
                };
                if trimmed.starts_with('#') || trimmed.starts_with('-') {
                    continue;
                }
                let depth = line.len() - trimmed.len();
                path.retain(|(above, _)| *above < depth);
                path.push((depth, key.to_owned()));
                found.push(
                    path.iter()
                        .map(|(_, key)| key.as_str())
                        .collect::<Vec<_>>()
                        .join("."),
                );
            }
            found
        };
        let documented = keys(DEFAULTS_TEXT);
        for key in keys(&written) {
            assert!(documented.contains(&key), "config.yaml lacks {key}");
        }
        let mut commented = false;
        for line in DEFAULTS_TEXT.lines() {
            let trimmed = line.trim_start();
            if !trimmed.is_empty() && !trimmed.starts_with('#') && !trimmed.starts_with('-') {
                assert!(commented || trimmed.contains(" # "), "no comment above: {line}");
            }
            commented = trimmed.starts_with('#');
        }
    }

    #[test]
    fn layers_apply_in_order_and_mistakes_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.yaml");
        std::fs::write(&file, "log:\n  filter: warn\nmetrics:\n  listen: 127.0.0.1:1\n").unwrap();
        let environment = Environment::of([("DBFS__METRICS__LISTEN", "127.0.0.1:2"), ("DBFS_LOG", "x")]);
        let config = load(&file, &environment, &["log.filter=debug".to_owned()]).unwrap();
        assert_eq!(
            (config.log.filter.as_str(), config.metrics.listen.as_str()),
            ("debug", "127.0.0.1:2")
        );
        let none = Environment::default();
        assert_eq!(
            load(&file, &none, &["log.colour=red".to_owned()])
                .unwrap_err()
                .exit,
            Exit::Usage
        );
        std::fs::write(&file, "log:\n  fliter: warn\n").unwrap();
        let failure = load(&file, &none, &[]).unwrap_err();
        assert!(
            failure.message.contains("fliter") && failure.code == "E_CONFIG",
            "{failure}"
        );
        assert!(load(&directory.path().join("missing"), &none, &[]).is_err());
    }
}
