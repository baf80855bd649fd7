//! The fail points of the arrows that the names log moves along (`common::lifecycle`): right before the leader proposes,
//! and right after the commit, before anybody is told.

/// Passes the point before `arrow`.
pub(crate) fn before(arrow: &str) {
    common::fail::point(&format!("{arrow}:before"));
}

/// Passes the point after `arrow`.
pub(crate) fn after(arrow: &str) {
    common::fail::point(&format!("{arrow}:after"));
}
