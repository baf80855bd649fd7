//! The state machine under test: `log` drives it, `commands` tries each command, `reclaim` tries any order of them.

mod commands;
mod damage;
mod log;
mod plans;
mod reclaim;
