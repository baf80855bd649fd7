//! The states of everything that lives and dies in DBFS, and who moves them.
//!
//! One file per thing, one enum per file; every variant says whether it may be read, may be written, may be chosen
//! for new data, and who moves it on. The transition functions are pure and exhaustive: the logs call them when they
//! apply a command, and the model in `tests/model` calls the same ones, so that code and model cannot drift apart.
//!
//! The invariant kept here: a move that the table does not list is an [`IllegalMove`], never a silent overwrite. A
//! repeat of a move that was already made is illegal too, but says so ([`IllegalMove::repeated`]): the log answers it
//! with what is recorded and changes nothing. Not kept here: what a move needs besides the state (conditions at
//! publish, the manifests that a doom re-checks). That belongs to the logs.
//!
//! | thing | states | moved by |
//! |---|---|---|
//! | [`Session`] | open -> published, refused or aborted | names log |
//! | [`Upload`] | open -> sealed or abandoned | cluster log |
//! | [`Version`] | sealed -> published or refused; published <-> trashed -> released; refused, released -> gone | names log; gone: cluster log |
//! | [`Chunk`] | live <-> marked -> doomed -> dropped | cluster log |
//! | [`Replica`] | writing -> stored <-> suspect -> leaving -> tombstoned | cluster log; tombstoned: the node |
//! | [`Node`] | joining -> live <-> suspect -> dead -> joining; live <-> draining -> gone | cluster log |

/// Declares the states of a thing: the enum, its persistent codes and its words.
macro_rules! states {
    ($(#[$doc:meta])* $name:ident is $thing:literal {
        $($(#[$state_doc:meta])* $state:ident = $code:literal $word:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$state_doc])* $state,)+ }

        impl $name {
            /// What the states belong to, in one word.
            pub const THING: &'static str = $thing;

            /// Every state, in the order of life.
            pub const ALL: &'static [Self] = &[$(Self::$state,)+];

            /// The number that stands for this state on disk. It never changes its meaning.
            pub const fn code(self) -> u8 {
                match self { $(Self::$state => $code,)+ }
            }

            /// The state that `code` stands for on disk.
            pub const fn from_code(code: u8) -> Result<Self, $crate::lifecycle::UnknownCode> {
                match code {
                    $($code => Ok(Self::$state),)+
                    _ => Err($crate::lifecycle::UnknownCode { thing: Self::THING, code }),
                }
            }

            /// The state in one word.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$state => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

/// Declares the events that move a thing: the enum, the state each leads to and the name of its arrow.
macro_rules! events {
    ($(#[$doc:meta])* $name:ident moves $states:ident {
        $($(#[$event_doc:meta])* $event:ident -> $target:ident $arrow:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$event_doc])* $event,)+ }

        impl $name {
            /// Every event.
            pub const ALL: &'static [Self] = &[$(Self::$event,)+];

            /// The state this event leads to.
            pub const fn target(self) -> $states {
                match self { $(Self::$event => $states::$target,)+ }
            }

            /// The name of this arrow of the table, one of [`ARROWS`]($crate::lifecycle::ARROWS), which the fail points
            /// carry that stand where the event takes effect.
            pub const fn arrow(self) -> &'static str {
                match self { $(Self::$event => $arrow,)+ }
            }

            const fn illegal_from(self, from: $states) -> $crate::lifecycle::IllegalMove {
                $crate::lifecycle::IllegalMove {
                    thing: $states::THING,
                    from: from.word(),
                    arrow: self.arrow(),
                    repeated: from.code() == self.target().code(),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.arrow())
            }
        }
    };
}

mod chunk;
mod node;
mod replica;
mod session;
#[cfg(test)]
mod tests;
mod upload;
mod version;

pub use chunk::{Chunk, ChunkEvent};
pub use node::{Node, NodeEvent};
pub use replica::{Replica, ReplicaEvent};
pub use session::{Session, SessionEvent};
pub use upload::{Upload, UploadEvent};
pub use version::{Heard, Version, VersionEvent};

/// Every arrow of the table, in the order of the table. Each has two [fail points](crate::fail), `:before` and `:after`;
/// the kill tests walk them all: the process dies there, and the promises still hold.
pub const ARROWS: &[&str] = &[
    "session.published",
    "session.refused",
    "session.aborted",
    "upload.sealed",
    "upload.abandoned",
    "version.published",
    "version.refused",
    "version.trashed",
    "version.restored",
    "version.released",
    "version.gone",
    "chunk.marked",
    "chunk.spared",
    "chunk.doomed",
    "chunk.dropped",
    "replica.stored",
    "replica.suspected",
    "replica.cleared",
    "replica.leaving",
    "replica.tombstoned",
    "node.admitted",
    "node.suspected",
    "node.cleared",
    "node.died",
    "node.returned",
    "node.draining",
    "node.kept",
    "node.gone",
];

/// A move that the table does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{arrow} does not apply: the {thing} is {from}")]
pub struct IllegalMove {
    /// What should have moved: `upload`, `version` and so on.
    pub thing: &'static str,
    /// The state in which it stands, and stays.
    pub from: &'static str,
    /// The arrow that was tried.
    pub arrow: &'static str,
    /// True where the thing already stands in the state the event leads to: a late or doubled command, which is
    /// answered with what is recorded.
    pub repeated: bool,
}

/// A number on disk that stands for no state this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{code} is not the code of any state of a {thing}")]
pub struct UnknownCode {
    /// What the state should have belonged to.
    pub thing: &'static str,
    /// The number that was read.
    pub code: u8,
}
