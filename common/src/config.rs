//! Configuration: defaults, then a YAML file, then the environment, then flags. Unknown keys are refused.
//!
//! A configuration is a struct with `#[serde(default, deny_unknown_fields)]` and a `Default`; every size and span is
//! a type of [`crate::units`]. Overrides name a key by its dotted path: `chunkserver.store.segment_bytes=64MiB`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The prefix of environment variables that override keys: `DBFS__CHUNKSERVER__STORE__SEGMENT_BYTES`.
pub const ENVIRONMENT_PREFIX: &str = "DBFS__";

/// The configuration cannot be used; the message says where and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not valid YAML for this configuration.
    #[error("{path} is not a valid configuration: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        reason: String,
    },
    /// An override names no key, or its value does not fit.
    #[error("cannot set '{key}' to '{value}': {reason}")]
    Override {
        /// The dotted path.
        key: String,
        /// The text given.
        value: String,
        /// What is wrong.
        reason: String,
    },
}

/// Reads `file` over the defaults of `T`.
///
/// # Errors
/// The file cannot be read, is not YAML, has an unknown key or a value that does not fit.
pub fn load<T: DeserializeOwned>(file: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(file).map_err(|source| Error::Read {
        path: file.to_owned(),
        source,
    })?;
    parse(&text).map_err(|reason| Error::Parse {
        path: file.to_owned(),
        reason,
    })
}

/// Reads YAML `text` over the defaults of `T`; the error says line, column and what was expected.
///
/// # Errors
/// As [`load`], as a text.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// `config` as YAML.
///
/// # Errors
/// A value that YAML cannot hold.
pub fn to_yaml<T: Serialize>(config: &T) -> Result<String, String> {
    serde_saphyr::to_string(config).map_err(|error| error.to_string())
}

/// Overrides found in `environment` (pairs of name and value), as dotted paths, sorted.
pub fn overrides_in(environment: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut found: Vec<_> = environment
        .into_iter()
        .filter_map(|(name, value)| {
            let path = name.strip_prefix(ENVIRONMENT_PREFIX)?;
            Some((path.to_ascii_lowercase().replace("__", "."), value))
        })
        .collect();
    found.sort();
    found
}

/// Applies `overrides` (dotted path, text) to `config`, in order.
///
/// # Errors
/// A path that names no key, or a value that does not fit it.
pub fn apply<T: Serialize + DeserializeOwned>(config: T, overrides: &[(String, String)]) -> Result<T, Error> {
    let mut current = config;
    for (key, value) in overrides {
        let fail = |reason: String| Error::Override {
            key: key.clone(),
            value: value.clone(),
            reason,
        };
        let mut tree = serde_json::to_value(&current).map_err(|error| fail(error.to_string()))?;
        let slot = key
            .split('.')
            .try_fold(&mut tree, |node, part| node.get_mut(part))
            .ok_or_else(|| fail("there is no such key".to_owned()))?;
        *slot = value_like(slot, value);
        current = serde_json::from_value(tree).map_err(|error| fail(error.to_string()))?;
    }
    Ok(current)
}

/// `text` as JSON where it reads as such (numbers, booleans, lists), otherwise as a text.
fn value_like(old: &serde_json::Value, text: &str) -> serde_json::Value {
    let as_text = || serde_json::Value::String(text.to_owned());
    if old.is_string() {
        as_text()
    } else {
        serde_json::from_str(text).unwrap_or_else(|_| as_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{ByteCount, Span};

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        segment_bytes: ByteCount,
        period: Span,
        peers: Vec<String>,
    }

    impl Default for Inner {
        fn default() -> Self {
            Self {
                segment_bytes: ByteCount::mib(256),
                period: Span::seconds(5),
                peers: Vec::new(),
            }
        }
    }

    #[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        store: Inner,
        listen: String,
    }

    #[test]
    fn layers_apply_in_order() {
        let file: Outer = parse("listen: 127.0.0.1:1\nstore:\n  segment_bytes: 64MiB\n").unwrap();
        assert_eq!(file.store.period, Span::seconds(5));
        let pairs = [
            ("DBFS__STORE__PERIOD".to_owned(), "2s".to_owned()),
            ("HOME".to_owned(), "/".to_owned()),
        ];
        let mut all = overrides_in(pairs);
        all.push(("store.peers".to_owned(), "[\"a:1\"]".to_owned()));
        let done = apply(file, &all).unwrap();
        assert_eq!(done.store.segment_bytes, ByteCount::mib(64));
        assert_eq!(done.store.period, Span::seconds(2));
        assert_eq!(done.store.peers, ["a:1"]);
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = parse::<Outer>("listen: a\nlisten_adress: b\n").unwrap_err();
        assert!(
            unknown.contains("listen_adress") && unknown.contains('2'),
            "{unknown}"
        );
        let unit = parse::<Outer>("store:\n  period: 5 parsecs\n").unwrap_err();
        assert!(unit.contains("parsecs"), "{unit}");
        let missing = apply(Outer::default(), &[("store.color".to_owned(), "red".to_owned())]).unwrap_err();
        assert!(missing.to_string().contains("no such key"), "{missing}");
    }

    #[test]
    fn yaml_round_trips() {
        let text = to_yaml(&Outer::default()).unwrap();
        assert_eq!(parse::<Outer>(&text), Ok(Outer::default()));
    }
}
