//! `dbfs explain`: what an error code means and what to do.

use super::codes::{CODES, find};
use super::context::Context;
use super::failure::{Exit, Failure};
use super::human;

/// Explains an error code: what it means and what to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// For example E_NO_LEADER; none lists them all
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// There is no such code.
pub(super) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let console = &context.console;
    let Some(wanted) = &args.code else {
        if console.is_json() {
            return CODES.iter().try_for_each(|code| {
                console.object(&serde_json::json!({
                    "code": code.name, "exit": code.exit.number(), "text": code.text,
                }))
            });
        }
        let first = |text: &str| text.split_once(". ").map_or(text, |(first, _)| first).to_owned();
        let rows: Vec<Vec<String>> = CODES
            .iter()
            .map(|code| vec![code.name.to_owned(), first(code.text)])
            .collect();
        return human::table(&rows, &[])
            .iter()
            .try_for_each(|line| console.line(line));
    };
    let code = find(wanted).ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            "E_NOT_FOUND",
            format!("there is no error code '{wanted}'"),
        )
        .hint("`dbfs explain` lists them all")
    })?;
    if console.is_json() {
        return console.document(&serde_json::json!({
            "code": code.name, "exit": code.exit.number(), "text": code.text,
        }));
    }
    console.line(&format!("{} (exit code {})", code.name, code.exit.number()))?;
    console.line("")?;
    wrapped(code.text, 100)
        .iter()
        .try_for_each(|line| console.line(line))
}

/// `text` in lines of at most `width` characters, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = lines
            .last()
            .is_some_and(|line| line.is_empty() || line.len() + 1 + word.len() <= width);
        match lines.last_mut() {
            Some(line) if fits => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrapped("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrapped("aaaaaaa b", 5), ["aaaaaaa", "b"]);
    }
}
