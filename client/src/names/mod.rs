//! Users, names and the state of the installation: the client's half of every call to the names layer that moves no
//! bytes. Wire types end here; what leaves this folder is validated.

pub(crate) mod account;
mod entry;
mod installation;
mod pages;
pub(crate) mod trash;
pub(crate) mod tree;
mod user;

pub use entry::{DeleteOptions, Deleted, Entry, EntryKind, ListOptions, SearchQuery};
pub use installation::{
    ClusterState, DiskInfo, Durability, GroupState, Installation, Load, Member, MemberCondition,
    NodeCondition, NodeInfo,
};
pub use pages::Pages;
pub use trash::TrashItem;
pub use user::{Login, NewUser, Role, User};
