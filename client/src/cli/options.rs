//! Options that every command has, and the environment they may come from. Order: flag, `DBFS_*`, profile, default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::units::ByteCount;

use crate::throttle::BYTES_PER_SECOND_MIN;

/// When to do something that depends on whether a person is looking.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum When {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Options that every command has.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Print results and errors as JSON: one document, or one object a line for streams
    #[arg(long, global = true, help_heading = "Every command")]
    pub json: bool,
    /// Say nothing but the result and errors
    #[arg(short, long, global = true, help_heading = "Every command")]
    pub quiet: bool,
    /// Say more; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet",
          help_heading = "Every command")]
    pub verbose: u8,
    /// Use colour on stderr
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Every command",
        hide_possible_values = true,
        help = "Use colour: auto, always or never (NO_COLOR is respected)"
    )]
    pub color: When,
    /// Show progress: auto, always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Every command",
        hide_possible_values = true
    )]
    pub progress: When,
    /// Move at most so many bytes of files per second, for example 10MiB
    #[arg(
        long,
        global = true,
        value_name = "RATE",
        value_parser = bandwidth,
        help_heading = "Every command"
    )]
    pub bwlimit: Option<ByteCount>,
    /// Answer yes to every question
    #[arg(long, global = true, help_heading = "Every command")]
    pub yes: bool,
    /// The profile to use: an installation and a user
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "DBFS_PROFILE",
        help_heading = "Every command"
    )]
    pub profile: Option<String>,
    /// Addresses of supernodes (host:port), separated by commas; any one that answers is enough
    #[arg(
        long,
        global = true,
        value_name = "ADDRESSES",
        env = "DBFS_ENDPOINTS",
        value_delimiter = ',',
        help_heading = "Every command"
    )]
    pub endpoints: Vec<String>,
    /// File with the installation's CA certificate (PEM)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DBFS_CA",
        help_heading = "Every command"
    )]
    pub ca: Option<PathBuf>,
}

fn bandwidth(text: &str) -> Result<ByteCount, String> {
    let rate: ByteCount = text.parse().map_err(|error| format!("{error}"))?;
    if rate < BYTES_PER_SECOND_MIN {
        return Err(format!(
            "at least {BYTES_PER_SECOND_MIN}: a slower transfer is taken for stuck"
        ));
    }
    Ok(rate)
}

/// The environment, read once at start. Secrets come from here, from a prompt or from stdin, never from an argument.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// This process's own. Values that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let pairs = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.into_string().ok()?))
        });
        Self(pairs.collect())
    }

    /// Exactly these variables.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(owned.collect())
    }

    /// The value of `name`, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// All variables.
    pub fn pairs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone()))
    }

    /// A directory of the XDG base directory specification: `variable`, or `below_home` in the home directory.
    pub fn xdg(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        // The specification says that relative paths are to be ignored.
        let named = self
            .get(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        named.or_else(|| self.get("HOME").map(|home| PathBuf::from(home).join(below_home)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_follow_the_specification() {
        let own = Environment::of([("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]);
        assert_eq!(own.xdg("XDG_CONFIG_HOME", ".config"), Some(PathBuf::from("/c")));
        assert_eq!(
            own.xdg("XDG_DATA_HOME", ".local/share"),
            Some(PathBuf::from("/h/.local/share"))
        );
        let relative = Environment::of([("XDG_CONFIG_HOME", "c")]);
        assert_eq!(relative.xdg("XDG_CONFIG_HOME", ".config"), None);
    }
}
