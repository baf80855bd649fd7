//! Patterns with `*`, `?` and `[a-z]` over names and paths. `*` and `?` stop at a slash, `**` does not.

/// A pattern that is a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    pattern: Vec<char>,
    whole_path: bool,
}

impl Glob {
    /// `pattern`, matched against the name alone if it has no slash, otherwise against the whole relative path.
    pub(super) fn new(pattern: &str) -> Self {
        let pattern = pattern.trim_start_matches('/');
        Self {
            pattern: pattern.chars().collect(),
            whole_path: pattern.contains('/'),
        }
    }

    /// Whether `path`, relative to where the selection begins, matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        let subject = if self.whole_path {
            path
        } else {
            path.rsplit('/').next().unwrap_or(path)
        };
        let text: Vec<char> = subject.chars().collect();
        matches(&self.pattern, &text)
    }
}

/// Whether `text` has characters that make it a glob.
pub(super) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether `text` matches `pattern` as a whole.
fn matches(pattern: &[char], text: &[char]) -> bool {
    // Iterative, with one point to come back to per kind of star, so that no pattern takes exponential time: a later
    // star makes earlier ones irrelevant, except that `**` may take what `*` may not.
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let mut deep: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(at) {
            Some('*') if pattern.get(at + 1) == Some(&'*') => {
                // `**/` also matches nothing at all, so that `**/x` finds `x`.
                at += if pattern.get(at + 2) == Some(&'/') { 3 } else { 2 };
                deep = Some((at, seen));
                star = None;
                continue;
            }
            Some('*') => {
                at += 1;
                star = Some((at, seen));
                continue;
            }
            Some(_) => text
                .get(seen)
                .and_then(|c| one(pattern.get(at..).unwrap_or_default(), *c)),
            None if seen == text.len() => return true,
            None => None,
        };
        if let Some(width) = step {
            at += width;
            seen += 1;
            continue;
        }
        if let Some((back, from)) = star
            && text.get(from).is_some_and(|c| *c != '/')
        {
            star = Some((back, from + 1));
            (at, seen) = (back, from + 1);
        } else if let Some((back, from)) = deep
            && from < text.len()
        {
            deep = Some((back, from + 1));
            star = None;
            (at, seen) = (back, from + 1);
        } else {
            return false;
        }
    }
}

/// How many characters of `pattern` the element at its beginning has, if that element matches `c`.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => (c != '/').then_some(1),
        ['\\', literal, ..] => (*literal == c).then_some(2),
        ['[', class @ ..] => {
            let (negated, class, skipped) = match class {
                ['!' | '^', rest @ ..] => (true, rest, 2),
                _ => (false, class, 1),
            };
            // A bracket right at the beginning of a class is a member of it.
            let end = class.iter().skip(1).position(|c| *c == ']').map(|at| at + 1);
            let Some(end) = end else {
                return (c == '[').then_some(1);
            };
            let found = in_class(class.get(..end).unwrap_or_default(), c);
            (found != negated && c != '/').then_some(skipped + end + 1)
        }
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

fn in_class(class: &[char], c: char) -> bool {
    let mut rest = class;
    loop {
        rest = match rest {
            [from, '-', to, rest @ ..] => {
                if (*from..=*to).contains(&c) {
                    return true;
                }
                rest
            }
            [single, rest @ ..] => {
                if *single == c {
                    return true;
                }
                rest
            }
            [] => return false,
        };
    }
}

/// `--include` and `--exclude`: with includes only what matches one of them, and never what matches an exclude.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    include: Vec<Glob>,
    exclude: Vec<Glob>,
}

impl Selection {
    /// From the texts of the command line.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Self {
        let globs = |texts: &[String]| texts.iter().map(|text| Glob::new(text)).collect();
        Self {
            include: globs(include),
            exclude: globs(exclude),
        }
    }

    /// Whether the file at `path`, relative to where the selection begins, is wanted.
    pub(super) fn takes(&self, path: &str) -> bool {
        let included = self.include.is_empty() || self.include.iter().any(|glob| glob.matches(path));
        included && !self.excludes(path)
    }

    /// Whether `path`, a file or a directory with all below it, is excluded.
    pub(super) fn excludes(&self, path: &str) -> bool {
        self.exclude.iter().any(|glob| glob.matches(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_shells_do() {
        for (pattern, path, expected) in [
            ("*.rs", "a.rs", true),
            ("*.rs", "src/deep/a.rs", true),
            ("src/*.rs", "src/a.rs", true),
            ("src/*.rs", "src/deep/a.rs", false),
            ("src/**/*.rs", "src/deep/er/a.rs", true),
            ("src/**/*.rs", "src/a.rs", true),
            ("**/x", "x", true),
            ("a/**", "a/b/c", true),
            ("?.txt", "a.txt", true),
            ("?.txt", "ab.txt", false),
            ("[a-c]*", "bat", true),
            ("[!a-c]*", "bat", false),
            ("[]]", "]", true),
            ("[", "[", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*a*b*c*", "xaxbxcx", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let pattern = "*a".repeat(60);
        let text = "a".repeat(2000) + "b";
        assert!(!Glob::new(&pattern).matches(&text));
    }

    #[test]
    fn excludes_win() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let selection = Selection::new(&texts(&["*.rs"]), &texts(&["target"]));
        assert!(selection.takes("src/a.rs") && !selection.takes("a.txt"));
        assert!(selection.excludes("target") && selection.excludes("deep/target"));
        assert!(Selection::default().takes("anything"));
    }
}
