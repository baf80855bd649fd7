//! Passwords: from the environment, stdin or a prompt, never from an argument, which every process can read.

use std::io::BufRead;

use super::context::Context;
use super::failure::Failure;

/// An existing password, for logging `user` in.
///
/// # Errors
/// There is nobody to ask.
pub(super) fn password(context: &Context, user: &str, from_stdin: bool) -> Result<String, Failure> {
    if from_stdin {
        return first_line();
    }
    if let Some(password) = context.environment.get("DBFS_PASSWORD") {
        return Ok(password.to_owned());
    }
    prompt(context, &format!("Password of {user}: "))
}

/// A new password for `user`: asked for twice, unless it comes from stdin or `DBFS_NEW_PASSWORD`.
///
/// # Errors
/// There is nobody to ask, or the two differ.
pub(super) fn new_password(context: &Context, user: &str, from_stdin: bool) -> Result<String, Failure> {
    if from_stdin {
        return first_line();
    }
    if let Some(password) = context.environment.get("DBFS_NEW_PASSWORD") {
        return Ok(password.to_owned());
    }
    let first = prompt(context, &format!("New password of {user}: "))?;
    if prompt(context, "The same again: ")? == first {
        Ok(first)
    } else {
        Err(Failure::usage("the two passwords differ"))
    }
}

fn prompt(context: &Context, question: &str) -> Result<String, Failure> {
    let nobody = |reason: String| {
        Failure::usage(format!(
            "a password is needed and there is no terminal to ask on{reason}"
        ))
        .hint("give it by --password-stdin, DBFS_PASSWORD or (for a new one) DBFS_NEW_PASSWORD")
    };
    if !context.console.can_ask() {
        return Err(nobody(String::new()));
    }
    rpassword::prompt_password(question).map_err(|error| nobody(format!(": {error}")))
}

fn first_line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::usage(format!("cannot read the password from stdin: {error}")))?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(Failure::usage("stdin has no password"));
    }
    Ok(password.to_owned())
}
