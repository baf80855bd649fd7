//! What a search pattern matches.
//!
//! A pattern with one of `*`, `?`, `[` is a glob, any other a substring of the file's name. In a glob `*` and `?` stop
//! at slashes, `**` does not, `[a-z]` and `[!a-z]` are sets, and a backslash takes the next character as it is. Matching
//! follows all possibilities side by side, so that no pattern, however hostile, costs more than its length times the
//! length of the text.

use super::refusal::Refusal;

/// The longest pattern, in bytes.
pub(crate) const PATTERN_BYTES_MAX: usize = 1024;

/// A pattern, ready to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// A substring of the name.
    Substring(String),
    /// The whole name, or with a slash in the pattern the whole path below where the search began.
    Glob { parts: Vec<Part>, whole_path: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Exactly(char),
    One,
    Run,
    RunAcross,
    Set {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `Invalid`: empty, too long, or a set that is not closed.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return Err(bad(format!(
                "a search pattern has 1 to {PATTERN_BYTES_MAX} bytes, this one has {}",
                text.len()
            )));
        }
        if !text.contains(['*', '?', '[']) {
            return Ok(Self {
                form: Form::Substring(text.to_owned()),
            });
        }
        Ok(Self {
            form: Form::Glob {
                parts: parts(text)?,
                whole_path: text.contains('/'),
            },
        })
    }

    /// Whether the file at `path`, given relative to where the search began, matches.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        match &self.form {
            Form::Substring(text) => name.contains(text.as_str()),
            Form::Glob { parts, whole_path } => run(parts, if *whole_path { path } else { name }),
        }
    }
}

fn bad(message: String) -> Refusal {
    Refusal::invalid("E_PATTERN", message)
}

fn parts(text: &str) -> Result<Vec<Part>, Refusal> {
    let mut parts = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        let part = match next {
            '*' if rest.next_if_eq(&'*').is_some() => Part::RunAcross,
            '*' => Part::Run,
            '?' => Part::One,
            '[' => set(&mut rest).ok_or_else(|| bad(format!("'{text}' has a '[' without its ']'")))?,
            '\\' => Part::Exactly(rest.next().unwrap_or('\\')),
            other => Part::Exactly(other),
        };
        parts.push(part);
    }
    Ok(parts)
}

fn set(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Part> {
    let negated = rest.next_if(|next| matches!(next, '!' | '^')).is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match rest.next()? {
            ']' if !ranges.is_empty() => return Some(Part::Set { ranges, negated }),
            '\\' => rest.next()?,
            other => other,
        };
        let mut ahead = rest.clone();
        let last = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) if last != ']' => {
                *rest = ahead;
                last
            }
            _ => first,
        };
        ranges.push((first, last));
    }
}

/// Simulates the automaton of `parts`: `live[n]` says that the text so far matches the first `n` parts.
fn run(parts: &[Part], text: &str) -> bool {
    let mut live = vec![false; parts.len() + 1];
    if let Some(start) = live.first_mut() {
        *start = true;
    }
    skip_runs(parts, &mut live);
    for letter in text.chars() {
        let mut next = vec![false; live.len()];
        for (at, part) in parts
            .iter()
            .enumerate()
            .filter(|(at, _)| live.get(*at) == Some(&true))
        {
            let (stays, moves) = match part {
                Part::Run => (letter != '/', false),
                Part::RunAcross => (true, false),
                Part::One => (false, letter != '/'),
                Part::Exactly(wanted) => (false, *wanted == letter),
                Part::Set { ranges, negated } => {
                    let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter));
                    (false, letter != '/' && inside != *negated)
                }
            };
            mark(&mut next, at, stays);
            mark(&mut next, at + 1, moves);
        }
        skip_runs(parts, &mut next);
        live = next;
    }
    live.last() == Some(&true)
}

/// Runs may be empty: whoever stands before one stands behind it too.
fn skip_runs(parts: &[Part], live: &mut [bool]) {
    for (at, part) in parts.iter().enumerate() {
        let here = live.get(at) == Some(&true);
        mark(live, at + 1, here && matches!(part, Part::Run | Part::RunAcross));
    }
}

fn mark(states: &mut [bool], at: usize, value: bool) {
    if let Some(state) = states.get_mut(at) {
        *state |= value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn substrings_look_at_the_name_alone() {
        assert!(matches("port", "docs/report.pdf"));
        assert!(!matches("docs", "docs/report.pdf"));
        assert!(!matches("Report", "docs/report.pdf"));
    }

    #[test]
    fn globs_match_whole_names_or_whole_paths() {
        assert!(matches("*.pdf", "docs/a/report.pdf"));
        assert!(!matches("*.pd", "docs/report.pdf"));
        assert!(matches("r?port*", "docs/report.pdf"));
        assert!(matches("docs/*.pdf", "docs/report.pdf"));
        assert!(!matches("docs/*.pdf", "docs/a/report.pdf"));
        assert!(matches("docs/**.pdf", "docs/a/report.pdf"));
        assert!(matches("**/r*", "docs/a/report.pdf"));
        assert!(matches("[a-cx]?", "b1") && matches("[a-cx]?", "x1") && !matches("[a-cx]?", "d1"));
        assert!(matches("[!a]*", "b") && !matches("[!a]*", "a") && matches("[]]?", "]x"));
        assert!(matches("a\\*[b]", "a*b") && !matches("a\\*[b]", "axb"));
        assert!(matches("*\u{e4}*", "b\u{e4}r"));
    }

    #[test]
    fn bad_patterns_are_named() {
        for text in ["", "[a", "[", &"x".repeat(1025)] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_only_a_pattern() {
        let pattern = Pattern::parse(&"*a".repeat(500)).unwrap();
        assert!(!pattern.matches(&"b".repeat(255)));
        assert!(!pattern.matches(&"a".repeat(255)));
    }
}
