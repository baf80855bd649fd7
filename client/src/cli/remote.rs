//! Remote paths on the command line: `/bucket/dir/name`, `profile:/bucket/...`, and where a copy of something goes.

use common::path::RemotePath;

use super::failure::Failure;
use super::profile::is_profile_name;

/// A remote path as typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Remote {
    /// The profile before the colon, if there was one.
    pub profile: Option<String>,
    /// The path, without a slash at its end.
    pub path: RemotePath,
    /// Whether it ended in a slash: it means a directory, whether it exists or not.
    pub directory: bool,
}

impl std::str::FromStr for Remote {
    type Err = Failure;
    fn from_str(text: &str) -> Result<Self, Failure> {
        let (profile, rest) = match text.split_once(":/") {
            Some((profile, rest)) if is_profile_name(profile) => {
                (Some(profile.to_owned()), format!("/{rest}"))
            }
            _ => (None, text.to_owned()),
        };
        let trimmed = rest.trim_end_matches('/');
        let directory = rest.len() != trimmed.len();
        let path = if trimmed.is_empty() && directory {
            RemotePath::root()
        } else {
            let path: Result<RemotePath, _> = trimmed.parse();
            path.map_err(|error| Failure::from(error).at(text))?
        };
        Ok(Self {
            profile,
            path,
            directory,
        })
    }
}

impl Remote {
    /// The path with the slash at its end that was typed.
    pub(super) fn as_typed(&self) -> String {
        let slash = if self.directory && !self.path.is_root() {
            "/"
        } else {
            ""
        };
        format!("{}{slash}", self.path)
    }
}

/// All of `texts`.
///
/// # Errors
/// One is no remote path.
pub(super) fn remotes(texts: &[String]) -> Result<Vec<Remote>, Failure> {
    texts.iter().map(|text| text.parse()).collect()
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(profile) = &self.profile {
            write!(f, "{profile}:")?;
        }
        self.path.fmt(f)
    }
}

/// The one profile that all of `remotes` name; `None` where none names one.
///
/// # Errors
/// Two name different ones.
pub(super) fn profile_of<'a>(
    remotes: impl IntoIterator<Item = &'a Remote>,
) -> Result<Option<&'a str>, Failure> {
    let mut found = None;
    for remote in remotes {
        let named = remote.profile.as_deref();
        match found {
            _ if named.is_none() => {}
            Some(other) if Some(other) != named => {
                return Err(Failure::usage("all paths of one command must be of one profile")
                    .hint("copy between installations by way of a download and an upload"));
            }
            _ => found = named,
        }
    }
    Ok(found)
}

/// Splits the arguments of a command with several sources and one destination.
///
/// # Errors
/// There are fewer than two.
pub(super) fn sources_and_destination(paths: &[String]) -> Result<(&[String], &str), Failure> {
    match paths.split_last() {
        Some((destination, sources)) if !sources.is_empty() => Ok((sources, destination)),
        _ => Err(Failure::usage("name at least one source and the destination")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_name_a_profile_and_mean_a_directory() {
        let remote: Remote = "lab:/me/dir/".parse().unwrap();
        assert_eq!(remote.profile.as_deref(), Some("lab"));
        assert_eq!((remote.path.as_str(), remote.directory), ("/me/dir", true));
        assert_eq!(remote.to_string(), "lab:/me/dir");
        let plain: Remote = "/me/a:/b".parse().unwrap();
        assert_eq!((plain.profile, plain.path.as_str()), (None, "/me/a:/b"));
        let root: Remote = "/".parse().unwrap();
        assert!(root.path.is_root() && root.directory);
        for bad in ["", "me/x", "lab:me", "/me/../x", "/me//x"] {
            assert!(bad.parse::<Remote>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_command_speaks_to_one_installation() {
        let remotes =
            |texts: &[&str]| -> Vec<Remote> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        assert_eq!(profile_of(&remotes(&["/a", "x:/b"])).unwrap(), Some("x"));
        assert!(profile_of(&remotes(&["y:/a", "x:/b"])).is_err());
        assert_eq!(profile_of(&remotes(&["/a"])).unwrap(), None);
    }
}
