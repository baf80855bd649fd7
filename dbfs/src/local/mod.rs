//! A local installation: real processes of this same binary on loopback, with a CA, users and data that stay.
//!
//! Owns the directory of such an installation, its processes and the profile of whoever started it. Knows of the roles
//! only their configuration and what their status says.
//!
//! Read [`layout`] first (what stands in the directory), then [`launch`], then [`up`].

pub(crate) mod layout;

mod ports;
pub(crate) mod settle;

mod beside;
mod board;
pub(crate) mod launch;
pub(crate) mod process;
mod ready;
mod restarts;

pub(crate) mod down;
pub(crate) mod up;
