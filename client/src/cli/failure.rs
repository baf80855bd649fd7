//! What a command says when it fails, and the number it ends with.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use common::error::{Kind, chain};
use proto::error::RpcError;
use serde::Serialize;

/// How a command ends. The numbers are part of the contract with scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done.
    Ok,
    /// Anything without a number of its own.
    Other,
    /// The command line cannot be carried out as it is.
    Usage,
    /// What was named does not exist.
    NotFound,
    /// Not allowed, or not logged in.
    Denied,
    /// Nobody could answer: the same command may succeed later.
    Unavailable,
    /// A condition did not hold.
    Conflict,
    /// Over quota, or no space.
    Full,
    /// Bytes failed their checksum.
    Integrity,
    /// Some of several things were done.
    Partial,
    /// Ended by a signal.
    Interrupted,
}

impl Exit {
    /// The process's exit code.
    pub const fn number(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Other => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Denied => 4,
            Exit::Unavailable => 5,
            Exit::Conflict => 6,
            Exit::Full => 7,
            Exit::Integrity => 8,
            Exit::Partial => 9,
            Exit::Interrupted => 130,
        }
    }

    /// How a command ends on an error of `kind`.
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Retry | Kind::NotLeader | Kind::Stale | Kind::Busy => Exit::Unavailable,
            Kind::NotFound => Exit::NotFound,
            Kind::Denied => Exit::Denied,
            Kind::Corrupt => Exit::Integrity,
            Kind::Full => Exit::Full,
            Kind::Conflict => Exit::Conflict,
            Kind::Invalid => Exit::Usage,
            Kind::Fatal => Exit::Other,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.number())
    }
}

/// Why a command did not do what was asked. Printed as `error[CODE]: message`, `hint: ...` and the request id, or with
/// `--json` as one object with the fields of this struct.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Failure {
    /// Stable name, explained by `dbfs explain CODE`.
    pub code: String,
    /// One sentence that names the thing concerned.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// Whether the same command may succeed later without anyone changing anything.
    pub retryable: bool,
    /// The request as the server logged it; may be empty.
    pub request_id: String,
    /// The remote or local path concerned; may be empty.
    pub path: String,
    /// With `E_PARTIAL` what was done and what was not; `done` and `not_done` in JSON.
    #[serde(flatten)]
    pub sides: Option<Box<Sides>>,
    /// The number the command ends with.
    #[serde(serialize_with = "as_number", rename = "exit")]
    pub exit: Exit,
}

/// Names of what was done and of what was not, as far as they are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Sides {
    /// What was done.
    pub done: Vec<String>,
    /// What was not; where a question could not be asked, what it was about.
    pub not_done: Vec<String>,
}

fn as_number<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(exit.number())
}

/// The reader of our output went away (`dbfs list | head`): an end without a word, not a failure.
const CLOSED: &str = "E_OUTPUT_CLOSED";

impl Failure {
    /// Ends with `exit` under a stable `code`.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            hint: String::new(),
            retryable: exit == Exit::Unavailable,
            request_id: String::new(),
            path: String::new(),
            sides: None,
            exit,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds what to do about it where nothing is said yet.
    #[must_use]
    pub fn or_hint(mut self, hint: &str) -> Self {
        if self.hint.is_empty() {
            hint.clone_into(&mut self.hint);
        }
        self
    }

    /// Says which path is concerned, where that is not said yet.
    #[must_use]
    pub fn at(mut self, path: &str) -> Self {
        if self.path.is_empty() {
            path.clone_into(&mut self.path);
        }
        self
    }

    /// Lists what was done and what was not.
    #[must_use]
    pub fn sides(mut self, done: Vec<String>, not_done: Vec<String>) -> Self {
        self.sides = Some(Box::new(Sides { done, not_done }));
        self
    }

    /// The command line cannot be carried out as it is.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "E_USAGE", message)
    }

    /// A local file could not be used: `action` as in "cannot read".
    pub fn local(action: &str, path: &Path, error: &io::Error) -> Self {
        let (exit, hint) = match error.kind() {
            io::ErrorKind::NotFound => (Exit::NotFound, "check the path"),
            io::ErrorKind::PermissionDenied => (Exit::Denied, "check the permissions of the file"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (Exit::Full, "make room on the local disk")
            }
            _ => (Exit::Other, ""),
        };
        Self::new(
            exit,
            "E_LOCAL_FILE",
            format!("{action} {}: {error}", path.display()),
        )
        .at(&path.display().to_string())
        .hint(hint)
    }

    /// Standard output could not be written.
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::new(Exit::Ok, CLOSED, "the reader of the output went away")
        } else {
            Self::new(
                Exit::Other,
                "E_OUTPUT",
                format!("cannot write the result: {error}"),
            )
        }
    }

    /// The user pressed Ctrl-C, or the process was told to end.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "E_INTERRUPTED", "interrupted")
    }

    /// As above, while something was done to `total` files, and when `done` of them were done.
    pub fn interrupted_while(verb: &str, done: usize, total: usize) -> Self {
        if total < 2 {
            return Self::interrupted();
        }
        let message = format!("interrupted while {verb}: {done} of {total} files were done");
        Self::new(Exit::Interrupted, "E_INTERRUPTED", message)
            .hint("run the same command again for the rest: what is done already is not harmed by it")
    }

    /// Whether this is only the end of an output that nobody reads.
    pub fn is_silent(&self) -> bool {
        self.code == CLOSED
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        Self {
            retryable: error.kind.is_passing(),
            request_id: error.request_id,
            ..Self::new(Exit::of(error.kind), &error.code, error.message).hint(error.hint)
        }
    }
}

impl From<common::path::Error> for Failure {
    fn from(error: common::path::Error) -> Self {
        Self::new(Exit::Usage, "E_PATH", error.to_string()).hint("remote paths look like /bucket/dir/name")
    }
}

impl From<common::address::Error> for Failure {
    fn from(error: common::address::Error) -> Self {
        let instead = match error.instead.as_str() {
            "" => "host:port",
            instead => instead,
        };
        Self::usage(error.to_string()).hint(format!("write {instead}"))
    }
}

impl From<common::tls::Error> for Failure {
    fn from(error: common::tls::Error) -> Self {
        Self::new(Exit::Other, "E_TLS", chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_end_with_the_numbers_of_the_contract() {
        let pairs = [
            (Kind::Retry, 5),
            (Kind::NotLeader, 5),
            (Kind::Stale, 5),
            (Kind::NotFound, 3),
            (Kind::Denied, 4),
            (Kind::Busy, 5),
            (Kind::Corrupt, 8),
            (Kind::Full, 7),
            (Kind::Conflict, 6),
            (Kind::Invalid, 2),
            (Kind::Fatal, 1),
        ];
        for (kind, number) in pairs {
            assert_eq!(Exit::of(kind).number(), number, "{kind}");
        }
        assert_eq!(Exit::Interrupted.number(), 130);
    }

    #[test]
    fn servers_words_reach_the_user() {
        let error = RpcError::new(Kind::Full, "E_QUOTA", "over quota").hint("delete something");
        let failure = Failure::from(error);
        assert_eq!(failure.to_string(), "error[E_QUOTA]: over quota");
        assert_eq!((failure.exit, failure.retryable), (Exit::Full, false));
        let json = serde_json::to_value(&failure).unwrap();
        for field in ["code", "message", "hint", "retryable", "request_id"] {
            assert!(json.get(field).is_some(), "{field}");
        }
    }
}
