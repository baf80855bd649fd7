//! What users attach to a version: small, bounded, in order of key.

use std::collections::BTreeMap;

use proto::names_log::v1 as log;

use super::refusal::Refusal;

/// The most entries of one version.
pub(crate) const METADATA_ENTRIES_MAX: usize = 64;
/// The longest key, in bytes.
pub(crate) const METADATA_KEY_BYTES_MAX: usize = 128;
/// All keys and values of one version together, in bytes.
pub(crate) const METADATA_BYTES_MAX: usize = 8 << 10;

/// Metadata within its bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Checks `entries`.
    ///
    /// # Errors
    /// `Invalid`: too many, too large, a key that is empty or has control characters, or one of the system's own keys
    /// with a value that is none.
    pub(crate) fn new(entries: impl IntoIterator<Item = (String, String)>) -> Result<Self, Refusal> {
        let all: BTreeMap<String, String> = entries.into_iter().collect();
        let refuse = |message: String| Err(Refusal::invalid("E_METADATA", message));
        if all.len() > METADATA_ENTRIES_MAX {
            return refuse(format!(
                "{} metadata entries; at most {METADATA_ENTRIES_MAX} are kept",
                all.len()
            ));
        }
        let bad_key = |key: &&String| {
            key.is_empty() || key.len() > METADATA_KEY_BYTES_MAX || key.chars().any(char::is_control)
        };
        if let Some(key) = all.keys().find(bad_key) {
            return refuse(format!(
                "{key:?} cannot be a metadata key: 1 to {METADATA_KEY_BYTES_MAX} bytes without control characters"
            ));
        }
        if let Some((key, value)) = all
            .iter()
            .find(|(key, value)| !proto::metadata::is_allowed(key, value))
        {
            return refuse(format!(
                "{key:?} cannot be {value:?}: keys that begin with '{}' are the system's own",
                proto::metadata::PREFIX
            ));
        }
        let bytes: usize = all.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > METADATA_BYTES_MAX {
            return refuse(format!(
                "{bytes} bytes of metadata; at most {METADATA_BYTES_MAX} are kept"
            ));
        }
        Ok(Self(all))
    }

    /// In order of key, as commands carry them.
    pub(crate) fn into_log(self) -> Vec<log::Metadata> {
        let entries = self.0.into_iter();
        entries.map(|(key, value)| log::Metadata { key, value }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &[(&str, &str)]) -> Result<Metadata, Refusal> {
        Metadata::new(entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn bounds_are_kept() {
        let ordered = of(&[("b", "2"), ("a", "1")]).unwrap().into_log();
        assert_eq!(ordered[0].key, "a");
        assert!(of(&[("dbfs.executable", "true"), ("dbfs.modified-nanos", "12")]).is_ok());
        assert!(of(&[("dbfs.mine", "x")]).is_err());
        assert!(of(&[("", "x")]).is_err() && of(&[("a\n", "x")]).is_err());
        assert!(of(&[("a", &"x".repeat(METADATA_BYTES_MAX))]).is_err());
        let many = (0..65).map(|n| (n.to_string(), String::new()));
        assert!(Metadata::new(many).is_err());
    }
}
