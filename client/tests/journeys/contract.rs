//! The JSON contract: every command with `--json`, in success and in failure, prints JSON and nothing else, with the fields
//! that `docs/json.md` lists.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::commands::{Ended, User};

/// Fields by what prints them, and whether each is always there.
struct Contract(BTreeMap<String, BTreeMap<String, bool>>);

impl Contract {
    fn read() -> Self {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json.md")).unwrap();
        let mut contract = BTreeMap::new();
        for section in page.split("\n## ").skip(1) {
            let (title, body) = section.split_once('\n').unwrap();
            let fields: BTreeMap<String, bool> = body
                .lines()
                .filter_map(|line| line.strip_prefix("- `")?.split_once('`'))
                .map(|(field, text)| (field.to_owned(), !text.starts_with(": *(sometimes)*")))
                .collect();
            for name in title.split(", ") {
                contract.insert(name.to_owned(), fields.clone());
            }
        }
        Self(contract)
    }

    #[track_caller]
    fn check(&self, name: &str, value: &Value) {
        let fields = self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not documented"));
        let object = value
            .as_object()
            .unwrap_or_else(|| panic!("{name}: {value} is no object"));
        for (field, always) in fields {
            assert!(
                !always || object.contains_key(field),
                "{name} without {field}: {value}"
            );
        }
        for field in object.keys() {
            assert!(
                fields.contains_key(field),
                "{name}: {field} is not documented: {value}"
            );
        }
        assert!(
            !value.to_string().contains("18446744073709551"),
            "{name}: {value}"
        );
    }

    /// Stderr carries failures and notes only.
    #[track_caller]
    fn check_stderr(&self, ended: &Ended) -> Vec<Value> {
        let lines = ended.err.lines();
        let values: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
            .collect();
        for value in &values {
            self.check(
                if value.get("code").is_some() {
                    "failure"
                } else {
                    "note"
                },
                value,
            );
        }
        values
    }
}

/// One document, or an object a line.
#[track_caller]
fn values(text: &str) -> Vec<Value> {
    let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    stream
        .map(|value| value.unwrap_or_else(|error| panic!("{error}: {text}")))
        .collect()
}

/// What prints what, for every command that has a result.
const SUCCESSES: &[(&str, &[&str])] = &[
    ("upload --dry-run", &["upload", "-n", "FILE", "/me/f"]),
    ("upload", &["upload", "FILE", "/me/f"]),
    ("upload", &["upload", "FILE", "/me/g"]),
    ("upload", &["upload", "-r", "TREE", "/me/t"]),
    ("update --dry-run", &["update", "-n", "FILE", "/me/f"]),
    ("update", &["update", "FILE", "/me/f"]),
    ("list", &["list", "/me"]),
    ("list", &["list"]),
    ("search", &["search", "f"]),
    ("stat", &["stat", "/me/f"]),
    ("stat", &["stat", "/me/f", "/me/g"]),
    ("placement", &["placement", "/me/f"]),
    ("download --dry-run", &["download", "-n", "/me/f", "TO"]),
    ("download", &["download", "/me/f", "TO"]),
    ("download", &["download", "-r", "/me/t", "TO.d"]),
    ("mkdir --dry-run", &["mkdir", "-n", "/me/d"]),
    ("mkdir", &["mkdir", "/me/d", "/me/e"]),
    ("mv --dry-run", &["mv", "-n", "/me/g", "/me/d/"]),
    ("mv", &["mv", "/me/g", "/me/d/"]),
    ("delete --dry-run", &["delete", "-n", "/me/f"]),
    ("delete", &["delete", "/me/f", "/me/d/g"]),
    ("trash list", &["trash", "list"]),
    ("trash restore --dry-run", &["trash", "restore", "-n", "/me/f"]),
    ("trash restore", &["trash", "restore", "/me/f"]),
    ("trash empty --dry-run", &["trash", "empty", "-n", "/me/d"]),
    ("trash empty", &["trash", "empty", "--yes", "/me/d"]),
    ("status", &["status"]),
    ("leader", &["leader"]),
    ("whoami", &["whoami"]),
    ("user", &["user", "list"]),
    ("explain", &["explain"]),
    ("explain", &["explain", "E_QUOTA"]),
    ("version", &["version"]),
];

/// Commands that fail, and the path that their failure names.
const FAILURES: &[(&[&str], &str)] = &[
    (&["upload", "MISSING", "/me/f"], "MISSING"),
    (&["upload", "FILE", "me"], "me"),
    (&["upload", "-r", "TREE", "/me/f"], "/me/f"),
    (&["update", "FILE", "/me/none"], "/me/none"),
    (&["download", "/me/none", "TO"], "/me/none"),
    (&["cat", "/me/none"], "/me/none"),
    (&["list", "/me/none"], "/me/none"),
    (&["stat", "/me/none"], "/me/none"),
    (&["placement", "/me/none"], "/me/none"),
    (&["mkdir", "/me/f"], "/me/f"),
    (&["mv", "/me/none", "/me/x"], "/me/none"),
    (&["mv", "/me/f", "/me/g"], "/me/g"),
    (&["delete", "/me/none"], "/me/none"),
    (&["delete", "/me/f*"], ""),
    (&["delete", "-r", "/me"], ""),
    (&["trash", "restore", "/me/none"], "/me/none"),
    (&["trash", "empty", "/me"], ""),
    (&["leader", "nobody"], ""),
    (&["explain", "E_NONE"], ""),
    (&["search", "me", "x"], "me"),
    (&["login", "127.0.0.1:1", "--user", "me"], ""),
    (&["user", "passwd", "--password-stdin"], ""),
];

#[tokio::test]
async fn every_command_prints_json_as_documented() {
    let contract = Contract::read();
    let user = User::new().await;
    let file = user.write("file", b"12345");
    user.write("tree/a", b"1");
    std::os::unix::fs::symlink("a", user.local("tree/link")).unwrap();
    let words = |arguments: &[&str]| -> Vec<String> {
        let word = |word: &&str| match *word {
            "FILE" => file.clone(),
            "TREE" => user.local("tree"),
            "TO" => user.local("to"),
            "TO.d" => user.local("to.d"),
            "MISSING" => user.local("missing"),
            other => other.to_owned(),
        };
        std::iter::once("--json".to_owned())
            .chain(arguments.iter().map(word))
            .collect()
    };
    for (name, arguments) in SUCCESSES {
        let words = words(arguments);
        let ended = user
            .dbfs(&words.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
        contract.check_stderr(&ended);
        let printed = values(&ended.done());
        assert!(!printed.is_empty(), "{words:?} printed nothing");
        for value in &printed {
            contract.check(
                if value.get("summary").is_some() {
                    "summary"
                } else {
                    name
                },
                value,
            );
        }
    }
    let file_at = |path: &str| user.fake.world.state().files.contains_key(path);
    assert!(file_at("/me/f") && !file_at("/me/g"));
    user.dbfs(&["upload", &file, "/me/g"]).await.done();
    for (arguments, path) in FAILURES {
        let words = words(arguments);
        let ended = user
            .dbfs(&words.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
        contract.check_stderr(&ended);
        assert_eq!(ended.out, "", "{words:?}");
        let failure = serde_json::to_value(ended.result.unwrap_err()).unwrap();
        contract.check("failure", &failure);
        let expected = if *path == "MISSING" {
            user.local("missing")
        } else {
            (*path).to_owned()
        };
        assert_eq!(failure["path"], Value::from(expected), "{words:?}: {failure}");
    }
    let logout = user.dbfs(&["logout", "--json"]).await.done();
    contract.check("logout", &values(&logout)[0]);
}
