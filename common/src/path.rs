//! Paths as users write them: `/bucket/dir/name`, validated once at the edge.
//!
//! Invariant: a [`RemotePath`] has no empty, `.` or `..` component, no NUL or other control character, no component
//! above 255 bytes and is at most 4096 bytes long, so that it means the same to every layer and protocol.

use std::fmt;
use std::str::FromStr;

/// The longest component, in bytes.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// The longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;

/// A valid absolute path. `/` alone is the root above all buckets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemotePath(String);

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin with a slash.
    #[error("'{0}' is not a remote path: it must begin with '/' and a bucket, for example /me/file")]
    NotAbsolute(String),
    /// A component is empty (`//`, or a slash at the end).
    #[error("'{0}' has an empty component: write single slashes, and none at the end")]
    EmptyComponent(String),
    /// A component is `.` or `..`.
    #[error("'{0}' contains '.' or '..' as a component, which remote paths do not have")]
    Traversal(String),
    /// NUL, a newline or another control character.
    #[error("{0:?} contains a control character")]
    Control(String),
    /// A component is too long.
    #[error("a component of the path has {0} bytes; at most 255 are allowed")]
    LongComponent(usize),
    /// The path is too long.
    #[error("the path has {0} bytes; at most 4096 are allowed")]
    LongPath(usize),
}

impl RemotePath {
    /// `/`.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The whole text, beginning with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// The components in order; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|component| !component.is_empty())
    }

    /// The first component; `None` for the root.
    pub fn bucket(&self) -> Option<&str> {
        self.components().next()
    }

    /// The last component; `None` for the root.
    pub fn name(&self) -> Option<&str> {
        self.components().next_back()
    }

    /// The path above; `None` for the root.
    pub fn parent(&self) -> Option<RemotePath> {
        if self.is_root() {
            return None;
        }
        let (above, _) = self.0.rsplit_once('/')?;
        Some(if above.is_empty() {
            Self::root()
        } else {
            Self(above.to_owned())
        })
    }

    /// This path and one more component below it, or several separated by slashes.
    ///
    /// # Errors
    /// The result would not be a path.
    pub fn join(&self, below: &str) -> Result<RemotePath, Error> {
        let base = if self.is_root() { "" } else { &self.0 };
        format!("{base}/{below}").parse()
    }

    /// Whether `other` is this path or lies below it.
    pub fn contains(&self, other: &RemotePath) -> bool {
        self.is_root()
            || other.0 == self.0
            || other
                .0
                .strip_prefix(&self.0)
                .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for RemotePath {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > PATH_BYTES_MAX {
            return Err(Error::LongPath(text.len()));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(Error::NotAbsolute(text.to_owned()));
        };
        if rest.is_empty() {
            return Ok(Self::root());
        }
        if text.chars().any(char::is_control) {
            return Err(Error::Control(text.to_owned()));
        }
        for component in rest.split('/') {
            match component {
                "" => return Err(Error::EmptyComponent(text.to_owned())),
                "." | ".." => return Err(Error::Traversal(text.to_owned())),
                long if long.len() > COMPONENT_BYTES_MAX => return Err(Error::LongComponent(long.len())),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths_are_taken_apart() {
        let path: RemotePath = "/me/a b/\u{1f980} \"x\"".parse().unwrap();
        assert_eq!(
            path.components().collect::<Vec<_>>(),
            ["me", "a b", "\u{1f980} \"x\""]
        );
        assert_eq!(
            (path.bucket(), path.name()),
            (Some("me"), Some("\u{1f980} \"x\""))
        );
        assert_eq!(path.parent().unwrap().as_str(), "/me/a b");
        let bucket: RemotePath = "/me".parse().unwrap();
        assert!(bucket.parent().unwrap().is_root() && RemotePath::root().parent().is_none());
        assert!(bucket.contains(&path) && !bucket.contains(&"/mee".parse().unwrap()));
        assert_eq!(RemotePath::root().join("x").unwrap().as_str(), "/x");
    }

    #[test]
    fn bad_paths_are_refused() {
        let long = format!("/me/{}", "x".repeat(256));
        let deep = format!("/me{}", "/abc".repeat(1024));
        for text in [
            "", "me", "//", "/me/", "/me//x", "/me/../x", "/./me", "/me/a\0b", "/me/a\nb", &long, &deep,
        ] {
            assert!(text.parse::<RemotePath>().is_err(), "{text:?}");
        }
        assert!(format!("/me/{}", "x".repeat(255)).parse::<RemotePath>().is_ok());
    }
}
