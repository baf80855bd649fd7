//! Profiles: which installations this user knows, and as whom. `profiles.json` in `$XDG_CONFIG_HOME/dbfs/`, mode 0600.
//!
//! Invariant (P9, P11): the file holds secrets, so nobody else may read it; it is replaced durably and under a lock, so
//! that two commands at once, or a power cut, lose nothing of it. A file of a newer build is refused, not rewritten. Where
//! the file is a link, what it leads to is replaced, never the link.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::time::WallTime;
use serde::{Deserialize, Serialize};

use super::failure::{Exit, Failure};
use super::options::Environment;
use crate::durable;

const FORMAT: u32 = 1;
const NAME_BYTES_MAX: usize = 64;

/// One installation and one user.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Control addresses (`host:port`) of supernodes.
    pub supernodes: Vec<String>,
    /// The CA certificate that was pinned at the first login.
    pub ca_pem: String,
    /// The login name.
    pub user: String,
    /// The token of the last login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When the token ends, by this machine's wall clock: a hint to log in anew early. The server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires: Option<WallTime>,
    /// Only where `dbfs up` made both the password and the profile: the data lies on the same disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The data directory of the local installation that `dbfs up` made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile")
            .field("supernodes", &self.supernodes)
            .field("user", &self.user)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("password", &self.password.as_ref().map(|_| "..."))
            .finish_non_exhaustive()
    }
}

/// All profiles of this user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    format: u32,
    /// The one that is used where none is named.
    #[serde(default)]
    pub default: Option<String>,
    /// By name.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

impl Default for Profiles {
    fn default() -> Self {
        Self {
            format: FORMAT,
            default: None,
            profiles: BTreeMap::new(),
        }
    }
}

impl Profiles {
    /// The profile `name`, or the default one; `None` where there is none at all and none was named.
    ///
    /// # Errors
    /// The one named does not exist.
    pub fn choose(&self, name: Option<&str>) -> Result<Option<(&str, &Profile)>, Failure> {
        let only = || match self.profiles.len() {
            1 => self.profiles.keys().next(),
            _ => None,
        };
        let Some(wanted) = name.or_else(|| self.default.as_ref().or_else(only).map(String::as_str)) else {
            return Ok(None);
        };
        let found = self.profiles.get_key_value(wanted);
        match found {
            Some((name, profile)) => Ok(Some((name, profile))),
            None if name.is_none() => Ok(None),
            None => {
                let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
                Err(Failure::new(
                    Exit::NotFound,
                    "E_NO_PROFILE",
                    format!("there is no profile '{wanted}'"),
                )
                .hint(if known.is_empty() {
                    "run `dbfs up` for a local installation, or `dbfs login HOST:PORT`".to_owned()
                } else {
                    format!("known profiles: {}", known.join(", "))
                }))
            }
        }
    }
}

/// Whether `name` can be a profile's name: it stands before the colon in `profile:/bucket/...`.
pub fn is_profile_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Where profiles are kept.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// In `$XDG_CONFIG_HOME/dbfs/` or `~/.config/dbfs/`.
    ///
    /// # Errors
    /// Neither variable is set.
    pub fn of(environment: &Environment) -> Result<Self, Failure> {
        let base = environment.xdg("XDG_CONFIG_HOME", ".config").ok_or_else(|| {
            Failure::new(
                Exit::Other,
                "E_NO_HOME",
                "neither HOME nor XDG_CONFIG_HOME is set",
            )
            .hint("set HOME, so that profiles have a place")
        })?;
        Ok(Self {
            directory: base.join("dbfs"),
        })
    }

    /// The file with all profiles.
    pub fn path(&self) -> PathBuf {
        self.directory.join("profiles.json")
    }

    /// All profiles; none where there is no file yet.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or of a newer build.
    pub fn load(&self) -> Result<Profiles, Failure> {
        let path = self.path();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Profiles::default()),
            Err(error) => return Err(Failure::local("cannot read", &path, &error)),
        };
        keep_private(&path)?;
        let damaged = |reason: String| {
            Failure::new(
                Exit::Other,
                "E_PROFILES",
                format!("{} cannot be used: {reason}", path.display()),
            )
            .hint("move the file away and log in again")
        };
        let profiles: Profiles = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if profiles.format != FORMAT {
            return Err(damaged(format!(
                "its format is {}, this build knows {FORMAT}",
                profiles.format
            )));
        }
        Ok(profiles)
    }

    /// Changes the profiles in one step: nobody else changes them meanwhile.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn update(&self, change: impl FnOnce(&mut Profiles)) -> Result<(), Failure> {
        let (file, _lock) = self.lock()?;
        let mut profiles = self.load()?;
        change(&mut profiles);
        let fail = |error: &std::io::Error| Failure::local("cannot write to", &file, error);
        let text = serde_json::to_vec_pretty(&profiles).map_err(|error| fail(&error.into()))?;
        durable::write(&file, &text, 0o600).map_err(|error| fail(&error))
    }

    /// Whether profiles can be changed: for a command that would find out too late.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn check_writable(&self) -> Result<(), Failure> {
        let (file, _lock) = self.lock()?;
        self.load()?;
        // It is replaced by a new file beside it, which is what has to be possible.
        let probe = file.with_extension("probe");
        lock_file(&probe)
            .and_then(|_| std::fs::remove_file(&probe))
            .map_err(|error| Failure::local("cannot write to", &file, &error))
    }

    /// The file to write, and a lock that others who write it wait for. A link is written through: the lock and the new
    /// file are made beside what it leads to.
    fn lock(&self) -> Result<(PathBuf, File), Failure> {
        let fail = |error: &std::io::Error| Failure::local("cannot write to", &self.directory, error);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| fail(&error))?;
        let file = followed(self.path()).map_err(|error| fail(&error))?;
        let lock = lock_file(&file.with_file_name("profiles.lock")).map_err(|error| fail(&error))?;
        durable::lock(&lock, &file).map_err(|error| fail(&error))?;
        Ok((file, lock))
    }
}

/// Links to be followed at most, as the kernel does.
const LINKS_MAX: usize = 40;

/// The file that `path` leads to, which need not exist yet.
fn followed(mut path: PathBuf) -> std::io::Result<PathBuf> {
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::InvalidInput | std::io::ErrorKind::NotFound
                ) =>
            {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other(format!(
        "{} is a link that leads to itself",
        path.display()
    )))
}

fn lock_file(path: &Path) -> std::io::Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Takes the right to read from everyone else, should someone have given it.
fn keep_private(path: &Path) -> Result<(), Failure> {
    let fail = |error: &std::io::Error| Failure::local("cannot protect", path, error);
    let mode = std::fs::metadata(path)
        .map_err(|error| fail(&error))?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    match std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)) {
        // Who cannot write the file cannot protect it either, and still may use it.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied
            ) =>
        {
            tracing::warn!(path = %path.display(), "others may read the profiles, and this user cannot change that");
            Ok(())
        }
        done => done.map_err(|error| fail(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(directory: &Path) -> Store {
        Store::of(&Environment::of([(
            "XDG_CONFIG_HOME",
            directory.to_str().unwrap(),
        )]))
        .unwrap()
    }

    fn profile(user: &str) -> Profile {
        Profile {
            supernodes: vec!["127.0.0.1:7001".to_owned()],
            user: user.to_owned(),
            token: Some("secret".to_owned()),
            ..Profile::default()
        }
    }

    #[test]
    fn profiles_are_private_and_survive() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        assert_eq!(store.load().unwrap(), Profiles::default());
        store
            .update(|all| {
                all.profiles.insert("local".to_owned(), profile("admin"));
            })
            .unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.path()), 0o600);
        assert_eq!(mode(&store.directory), 0o700);
        std::fs::set_permissions(store.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(store.load().unwrap().profiles["local"], profile("admin"));
        assert_eq!(mode(&store.path()), 0o600);
        assert!(!format!("{:?}", profile("x")).contains("secret"));
    }

    #[test]
    fn a_link_is_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let (own, kept) = (directory.path().join("own"), directory.path().join("kept"));
        let store = store(&own);
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::create_dir_all(&store.directory).unwrap();
        // The first one leads to nothing yet.
        std::os::unix::fs::symlink("../../kept/real.json", store.path()).unwrap();
        for user in ["a", "b"] {
            store
                .update(|all| {
                    all.profiles.insert(user.to_owned(), profile(user));
                })
                .unwrap();
            assert!(std::fs::symlink_metadata(store.path()).unwrap().is_symlink());
            assert!(kept.join("real.json").exists());
        }
        assert_eq!(store.load().unwrap().profiles.len(), 2);
        store.check_writable().unwrap();
        std::fs::remove_file(store.path()).unwrap();
        std::os::unix::fs::symlink("profiles.json", store.path()).unwrap();
        assert!(store.update(|_| ()).is_err());
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        std::thread::scope(|scope| {
            for at in 0..8 {
                let store = store.clone();
                scope.spawn(move || {
                    store
                        .update(|all| {
                            all.profiles.insert(format!("p{at}"), profile("u"));
                        })
                        .unwrap();
                });
            }
        });
        assert_eq!(store.load().unwrap().profiles.len(), 8);
    }

    #[test]
    fn the_profile_is_the_one_named_else_the_default_else_the_only_one() {
        let mut all = Profiles::default();
        assert!(all.choose(None).unwrap().is_none());
        assert_eq!(all.choose(Some("x")).unwrap_err().exit, Exit::NotFound);
        all.profiles.insert("a".to_owned(), profile("a"));
        assert_eq!(all.choose(None).unwrap().unwrap().0, "a");
        all.profiles.insert("b".to_owned(), profile("b"));
        assert!(all.choose(None).unwrap().is_none());
        all.default = Some("b".to_owned());
        assert_eq!(all.choose(None).unwrap().unwrap().0, "b");
        assert_eq!(all.choose(Some("a")).unwrap().unwrap().0, "a");
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        std::fs::create_dir_all(&store.directory).unwrap();
        for text in [
            "{",
            r#"{"format":9,"profiles":{}}"#,
            r#"{"format":1,"colour":"red"}"#,
        ] {
            std::fs::write(store.path(), text).unwrap();
            assert_eq!(store.load().unwrap_err().code, "E_PROFILES", "{text}");
            assert!(store.update(|_| ()).is_err());
            assert_eq!(std::fs::read_to_string(store.path()).unwrap(), text);
        }
    }
}
