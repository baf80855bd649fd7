//! The SQL statements that stand in source files, and what their plans look at.
//!
//! Statements are found by their first word, so that none is missed: a literal that begins with a verb of SQL is one.
//! Names in braces are replaced by the constant of that name in the same file or, failing that, in any other; what is
//! put in at run time is given by the caller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const VERBS: [&str; 5] = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "];

/// A statement as it reaches SQLite.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Statement {
    /// Where it stands.
    pub file: PathBuf,
    /// Its text.
    pub sql: String,
}

/// All statements in the files below `root`, tests excluded. `variants` says what each name that no constant gives may
/// stand for: a statement with such a name is one for each.
pub fn statements(root: &Path, variants: &[(&str, &[&str])]) -> Vec<Statement> {
    let sources = sources(root);
    let everywhere: BTreeMap<String, String> =
        sources.iter().flat_map(|(_, source)| constants(source)).collect();
    let mut found = Vec::new();
    for (file, source) in &sources {
        let here = constants(source);
        for (_, text) in literals(source) {
            if !VERBS.iter().any(|verb| text.starts_with(verb)) {
                continue;
            }
            let text = fill(&fill(&text, &here), &everywhere);
            let texts = variants.iter().fold(vec![text], |texts, (name, values)| {
                texts.iter().flat_map(|text| vary(text, name, values)).collect()
            });
            found.extend(texts.into_iter().map(|sql| Statement {
                file: file.clone(),
                sql,
            }));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// What is wrong with the plan of `sql`, where only the tables `small` may be looked through: a scan that no limit ends,
/// or rows that are all read to be sorted.
pub fn unbounded(sql: &str, plan: &[String], small: &[&str]) -> Vec<String> {
    let sorts = plan.iter().any(|line| line.contains("USE TEMP B-TREE"));
    let filters = sql.contains(" WHERE ");
    let is_limited = sql.contains(" LIMIT ") && !sorts;
    plan.iter()
        .filter(|line| {
            let Some(scanned) = line.strip_prefix("SCAN ") else {
                return sorts && line.contains("USE TEMP B-TREE");
            };
            let name = scanned.split(' ').next().unwrap_or_default();
            let inner = name == "CONSTANT" || name.starts_with('(');
            let bounded = is_limited && (!filters || scanned.contains("USING"));
            !inner && !bounded && !small.contains(&table(sql, name).as_str())
        })
        .cloned()
        .collect()
}

/// The table that goes by `name` in `sql`.
fn table(sql: &str, name: &str) -> String {
    let words: Vec<&str> = sql
        .split([' ', ',', '(', ')'])
        .filter(|word| !word.is_empty())
        .collect();
    let aliased = words.windows(3).find(|three| {
        matches!(three[0], "FROM" | "JOIN") && three[2] == name && !matches!(three[1], "SELECT")
    });
    aliased.map_or_else(|| name.to_owned(), |three| three[1].to_owned())
}

fn vary(text: &str, name: &str, values: &[&str]) -> Vec<String> {
    let place = format!("{{{name}}}");
    if !text.contains(&place) {
        return vec![text.to_owned()];
    }
    values.iter().map(|value| text.replace(&place, value)).collect()
}

fn fill(text: &str, constants: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, value) in constants {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}

fn sources(root: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !matches!(name.as_str(), "tests.rs" | "fixture.rs") {
                let source = std::fs::read_to_string(&path).expect("a source file");
                let product = source.split("#[cfg(test)]\nmod tests {").next();
                found.push((path, product.unwrap_or_default().to_owned()));
            }
        }
    }
    found.sort();
    found
}

/// The constants of a file that statements may name: texts and numbers.
fn constants(source: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (at, text) in literals(source) {
        let before = source[..at].trim_end();
        if let Some(rest) = before.strip_suffix(": &str =") {
            let name = rest.rsplit(' ').next().unwrap_or_default();
            found.insert(name.to_owned(), text);
        }
    }
    for line in source.lines() {
        if let Some((left, right)) = line.split_once(": u32 = ")
            && let Some((_, name)) = left.split_once("const ")
        {
            found.insert(name.to_owned(), right.trim_end_matches(';').to_owned());
        }
    }
    found
}

/// The string literals of a file with where each begins, as the compiler reads them.
fn literals(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut letters = source.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            // A comment may hold a quotation mark.
            '/' if letters.next_if(|(_, next)| *next == '/').is_some() => {
                while letters.next_if(|(_, next)| *next != '\n').is_some() {}
            }
            // As a character, a quotation mark begins nothing.
            '\'' if source[at..].starts_with("'\"'") => {
                letters.next();
                letters.next();
            }
            '"' => {
                let mut text = String::new();
                while let Some((_, next)) = letters.next() {
                    match next {
                        '"' => break,
                        '\\' => match letters.next() {
                            Some((_, '\n')) => {
                                while letters.next_if(|(_, next)| next.is_whitespace()).is_some() {}
                            }
                            Some((_, other)) => text.push(other),
                            None => break,
                        },
                        other => text.push(other),
                    }
                }
                found.push((at, text.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_that_grow_are_named() {
        let plan = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let bad = |sql: &str, lines: &[&str]| unbounded(sql, &plan(lines), &["small"]).len();
        assert_eq!(bad("SELECT a FROM t WHERE b = 1", &["SCAN t"]), 1);
        assert_eq!(bad("SELECT a FROM t x WHERE b = 1 LIMIT 1", &["SCAN x"]), 1);
        assert_eq!(bad("SELECT a FROM small x WHERE b = 1", &["SCAN x"]), 0);
        assert_eq!(bad("SELECT a FROM t ORDER BY a LIMIT 1", &["SCAN t"]), 0);
        let sorted = ["SEARCH t USING INDEX i (b=?)", "USE TEMP B-TREE FOR ORDER BY"];
        assert_eq!(bad("SELECT a FROM t WHERE b = 1 ORDER BY a LIMIT 1", &sorted), 1);
        assert_eq!(
            bad("SELECT a FROM t WHERE b = 1", &["SEARCH t USING INDEX i (b=?)"]),
            0
        );
    }

    #[test]
    fn statements_are_found_as_the_compiler_reads_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = "const COLUMNS: &str = \"a, b\"; // \" no text\nconst MAX: u32 = 7;\n\
                      fn f() { query(\"SELECT {COLUMNS} FROM t\n   WHERE a {} ?1 LIMIT {MAX}\"); g('\"', \"no SELECT\") }\n\
                      #[cfg(test)]\nmod tests { \"SELECT 1 FROM test\" }";
        std::fs::write(folder.path().join("a.rs"), source).expect("written");
        let found = statements(folder.path(), &[("", &[">", ">="])]);
        let texts: Vec<&str> = found.iter().map(|one| one.sql.as_str()).collect();
        assert_eq!(
            texts,
            [
                "SELECT a, b FROM t WHERE a > ?1 LIMIT 7",
                "SELECT a, b FROM t WHERE a >= ?1 LIMIT 7"
            ]
        );
    }
}
