//! What the names layer decides, as pure functions: who may do what, where a new file goes, whether a publication
//! stands. Time and randomness come in as arguments; nothing here touches a database, a socket or a clock.
//!
//! Read [`permission`] first, then [`publication`], then [`placement`].

pub(crate) mod permission;
pub(crate) mod publication;
pub(crate) mod refusal;

pub(crate) mod dedupe;
pub(crate) mod fingerprint;
pub(crate) mod placement;
pub(crate) mod quota;

pub(crate) mod metadata;
pub(crate) mod page;
pub(crate) mod user_name;
