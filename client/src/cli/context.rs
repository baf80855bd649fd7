//! What every command is given: options, environment, terminal, seams, and the signal to end.

use std::sync::{Arc, OnceLock};

use common::reload::Reload;
use common::shutdown::Shutdown;

use super::console::Console;
use super::options::{Environment, Options};
use crate::Seams;

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Options that every command has.
    pub options: Options,
    /// The environment, read once.
    pub environment: Environment,
    /// The terminal.
    pub console: Console,
    /// Time, randomness, connections.
    pub seams: Seams,
    /// Given when the user presses Ctrl-C.
    pub shutdown: Shutdown,
    /// Given when a process that serves is to read its certificates anew.
    pub reload: Reload,
    /// How to log in again, once it is known with which profile the command works.
    pub login_again: Arc<OnceLock<String>>,
}

impl Context {
    /// For this process.
    pub fn of_process(options: Options, environment: Environment, shutdown: Shutdown) -> Self {
        Self {
            console: Console::of_process(&options, &environment),
            options,
            environment,
            seams: Seams::real(),
            shutdown,
            reload: Reload::default(),
            login_again: Arc::default(),
        }
    }
}
