//! One rule for every command over several things: it checks first and does nothing on a mistake; what it could do only
//! in part ends with 9 and both sides are listed.
//!
//! Invariant: memory does not grow with the number of things. Names are kept up to a bound, the rest is counted.

use super::context::Context;
use super::failure::{Exit, Failure};
use super::human;

/// Names of each side that are kept for the end.
const NAMES_MAX: usize = 1000;
/// Of these, lines that a person is shown.
const LINES_MAX: usize = 20;

/// What was done so far and what was not.
#[derive(Debug)]
pub(super) struct Parts {
    /// `moved`, `deleted`, ...
    verb: &'static str,
    done: Names,
    failed: Names,
    failures: Vec<(String, Failure)>,
}

#[derive(Debug, Default)]
struct Names {
    count: usize,
    kept: Vec<String>,
}

impl Names {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.kept.len() < NAMES_MAX {
            self.kept.push(name.to_owned());
        }
    }
}

impl Parts {
    /// Nothing yet; `verb` as in "not moved".
    pub(super) fn new(verb: &'static str) -> Self {
        Self {
            verb,
            done: Names::default(),
            failed: Names::default(),
            failures: Vec::new(),
        }
    }

    /// `name` was done.
    pub(super) fn done(&mut self, name: &str) {
        self.done.add(name);
    }

    /// `name` was not done.
    pub(super) fn failed(&mut self, name: &str, failure: Failure) {
        self.failed.add(name);
        if self.failures.len() < NAMES_MAX {
            self.failures.push((name.to_owned(), failure.at(name)));
        }
    }

    /// How many were done.
    pub(super) const fn count_done(&self) -> usize {
        self.done.count
    }

    /// How many there were.
    pub(super) const fn count(&self) -> usize {
        self.done.count + self.failed.count
    }

    /// Lists both sides where something failed. `again` makes the command that does the rest, from the names that were
    /// not done; where that has no names, the same command again is right.
    ///
    /// # Errors
    /// The one failure where there was one thing, the first where all failed, else `E_PARTIAL`.
    pub(super) fn end(
        self,
        context: &Context,
        again: impl FnOnce(&[String]) -> Option<String>,
    ) -> Result<(), Failure> {
        let total = self.count();
        let Some((_, first)) = self.failures.first() else {
            return Ok(());
        };
        if total == 1 {
            return Err(first.clone());
        }
        self.tell(context);
        if self.done.count == 0 {
            return Err(first.clone());
        }
        let hint = again(&self.failed.kept).map_or_else(
            || "run the same command again: what is done already is not harmed by it".to_owned(),
            |command| format!("for the rest: {command}"),
        );
        let failed = self.failed.count;
        let message = format!(
            "{failed} of {total} were not {}; the first: {}",
            self.verb, first.message
        );
        let failure = Failure::new(Exit::Partial, "E_PARTIAL", message).hint(hint);
        Err(failure.sides(self.done.kept, self.failed.kept))
    }

    /// Lists what was not done, and beside it what was.
    pub(super) fn tell(&self, context: &Context) {
        let console = &context.console;
        if console.is_json() {
            self.failures
                .iter()
                .for_each(|(_, failure)| console.failure(failure));
            return;
        }
        for (name, failure) in self.failures.iter().take(LINES_MAX) {
            console.warn(&format!(
                "not {}: {}: {} [{}]",
                self.verb,
                human::plain(name),
                failure.message,
                failure.code
            ));
        }
        if self.failed.count > LINES_MAX {
            console.warn(&format!(
                "and {} more were not {}",
                self.failed.count - LINES_MAX,
                self.verb
            ));
        }
        if self.done.count == 0 {
            return;
        }
        let shown: Vec<String> = self
            .done
            .kept
            .iter()
            .take(LINES_MAX)
            .map(|name| human::plain(name))
            .collect();
        let more = match self.done.count - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        console.warn(&format!("{}: {}{more}", self.verb, shown.join(", ")));
    }
}

/// A command line for a shell: `words`, each quoted where it needs that.
pub(super) fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(
            command_line(["dbfs", "mv", "/me/a b", "/me/it's", "", "/me/x*"]),
            "dbfs mv '/me/a b' '/me/it'\\''s' '' '/me/x*'"
        );
    }
}
