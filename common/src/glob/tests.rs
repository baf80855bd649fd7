//! Examples of the dialect, and the automaton against a reference that tries everything.

use proptest::prelude::{ProptestConfig, Strategy, prop};
use proptest::{prop_assert_eq, prop_assume, proptest};

use super::*;

fn matches(pattern: &str, path: &str) -> bool {
    Glob::parse(pattern).unwrap().matches(path)
}

#[test]
fn the_dialect_by_example() {
    for (pattern, path, expected) in [
        ("*.rs", "a.rs", true),
        ("*.rs", "src/deep/a.rs", true),
        ("*.r", "src/a.rs", false),
        ("src/*.rs", "src/a.rs", true),
        ("src/*.rs", "src/deep/a.rs", false),
        ("src/*.rs", "other/src/a.rs", false),
        ("src/**/*.rs", "src/deep/er/a.rs", true),
        ("src/**/*.rs", "src/a.rs", true),
        ("src/**.rs", "src/deep/a.rs", true),
        ("**/x", "x", true),
        ("**/x", "a/b/x", true),
        ("**/x", "abx", false),
        ("a/**/x", "a/bx", false),
        ("**/**/x", "x", true),
        ("**/**/x", "a/x", true),
        ("**/*", "x", true),
        ("a/**", "a/b/c", true),
        ("a/**", "a", false),
        ("**", "a/b", true),
        ("***", "a/b", false),
        ("/a.txt", "a.txt", true),
        ("/a.txt", "b/a.txt", false),
        ("target/", "target/x", true),
        ("target/", "deep/target/x/y", true),
        ("target/", "target", false),
        ("target/", "deep/target", false),
        ("/target/", "deep/target/x", false),
        ("/target/", "target/x", true),
        ("a/target/", "a/target/x", true),
        ("a/target/", "b/a/target/x", false),
        ("?.txt", "a.txt", true),
        ("?.txt", "ab.txt", false),
        ("a?b/c", "a/b/c", false),
        ("[a-c]*", "bat", true),
        ("[!a-c]*", "bat", false),
        ("[a-cx]?", "x1", true),
        ("x[!y]z/w", "x/z/w", false),
        ("[]]", "]", true),
        ("[\\]a]", "]", true),
        ("[a-\\]]", "]", false),
        ("[+-\\]]", "A", true),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
        ("a\\*[b]", "a*b", true),
        ("*a*b*c*", "xaxbxcx", true),
        ("*\u{e4}*", "b\u{e4}r", true),
        ("[\u{e0}-\u{ff}]x", "\u{e4}x", true),
    ] {
        // Three stars are two and one: across slashes.
        let expected = expected || pattern == "***";
        assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
    }
}

#[test]
fn a_word_is_looked_for_in_the_name_and_with_a_slash_in_the_path() {
    let word = |pattern: &str, path: &str| Pattern::parse(pattern).unwrap().matches(path);
    assert!(word("port", "docs/report.pdf") && !word("docs", "docs/report.pdf"));
    assert!(!word("Report", "docs/report.pdf"));
    assert!(word("docs/re", "my/docs/report.pdf") && word("/docs", "docs/report.pdf"));
    assert!(!word("/ocs", "docs/report.pdf"));
    assert!(word("a\\*b", "xa*by") && !word("a\\*b", "axb"));
    assert!(word("*.pdf", "docs/report.pdf"));
}

#[test]
fn what_is_no_pattern_is_refused() {
    for text in ["", "[a", "[", "/", "x/[", &"x".repeat(PATTERN_BYTES_MAX + 1)] {
        assert!(Glob::parse(text).is_err(), "{text}");
    }
    assert!(Pattern::parse("a[").is_err() && Pattern::parse("").is_err());
    assert!(Glob::parse(&"x".repeat(PATTERN_BYTES_MAX)).is_ok());
    for (text, expected) in [
        ("a*", true),
        ("a\\*", false),
        ("a\\\\*", true),
        ("[", true),
        ("a", false),
    ] {
        assert_eq!(has_wildcard(text), expected, "{text}");
    }
    assert_eq!(literal("a\\*\\\\b\\"), "a*\\b\\");
}

/// A pattern that made the earlier matchers come back to every star costs a number of steps that the length of the text
/// alone decides.
#[test]
fn hostile_patterns_are_only_patterns() {
    let text = "a".repeat(1 << 16);
    for piece in ["*a", "**/a", "[!b]*", "**a/"] {
        let pattern = Glob::parse(&format!("{}b", piece.repeat(200))).unwrap();
        assert!(!pattern.matches(&text));
        assert!(pattern.automaton.runs.len() <= PATTERN_BYTES_MAX / 64 + 1);
    }
}

/// Tries everything, on the text of the pattern itself.
fn reference(pattern: &[char], text: &[char], begins: bool) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', '*', '/', rest @ ..] if begins => {
            let after_slashes = text.iter().enumerate().filter(|(_, c)| **c == '/');
            reference(rest, text, true)
                || after_slashes
                    .map(|(at, _)| at + 1)
                    .any(|at| reference(rest, &text[at..], true))
        }
        ['*', '*', rest @ ..] => (0..=text.len()).any(|at| reference(rest, &text[at..], false)),
        ['*', rest @ ..] => (0..=text.len())
            .take_while(|at| !text[..*at].contains(&'/'))
            .any(|at| reference(rest, &text[at..], false)),
        ['?', rest @ ..] => {
            matches!(text, [c, more @ ..] if *c != '/' && reference(rest, more, false))
        }
        ['[', inside @ ..] => {
            let (negated, inside) = match inside {
                ['!', inside @ ..] => (true, inside),
                _ => (false, inside),
            };
            let end = 1 + inside[1..].iter().position(|c| *c == ']').unwrap();
            let (members, rest) = (&inside[..end], &inside[end + 1..]);
            matches!(text, [c, more @ ..]
                if *c != '/' && members.contains(c) != negated && reference(rest, more, false))
        }
        ['\\', literal, rest @ ..] => {
            matches!(text, [c, more @ ..] if c == literal && reference(rest, more, *literal == '/'))
        }
        [literal, rest @ ..] => {
            matches!(text, [c, more @ ..] if c == literal && reference(rest, more, *literal == '/'))
        }
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "\u{e9}", "/", "*", "*", "**", "**/", "/**/", "?", "[ab]", "[!a]", "\\*", "\\a",
    ]);
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

fn paths() -> impl Strategy<Value = String> {
    let letter = prop::sample::select(vec!['a', 'b', '\u{e9}', '/', '*']);
    prop::collection::vec(letter, 0..12).prop_map(|letters| letters.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_automaton_agrees_with_the_reference(pattern in pieces(), path in paths(), pad in 0_usize..3) {
        // With literals in front the positions lie across the bounds of machine words.
        let pad = "a".repeat(pad * 62);
        // Slashes at the ends have examples of their own.
        let closed = if pattern.ends_with('/') { "a" } else { "" };
        let pattern = format!("{pad}{}{closed}", pattern.trim_start_matches('/'));
        let path = format!("{pad}{path}");
        prop_assume!(!pattern.is_empty());
        let chars = |text: &str| text.chars().collect::<Vec<char>>();
        let subject = if pattern.contains('/') { path.as_str() } else { name_of(&path) };
        let expected = reference(&chars(&pattern), &chars(subject), true);
        prop_assert_eq!(Glob::parse(&pattern).unwrap().matches(&path), expected, "{} {}", pattern, path);
    }
}
