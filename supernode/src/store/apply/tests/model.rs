//! Directory operations against a map from path to what is there: whatever sequence is applied, both say the same.

use std::collections::BTreeMap;

use proptest::prelude::{ProptestConfig, Strategy, prop, prop_oneof};
use proptest::{prop_assert_eq, proptest};

use crate::store::apply::fixture::Bench;
use crate::store::read::list::{Listing, flat, recursive};
use crate::store::read::walk::Budget;

/// A file by its version, or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(u64),
    Directory,
}

#[derive(Clone, Debug)]
enum Operation {
    Put(String),
    MakeDirectory(String),
    Rename { from: String, to: String, replace: bool },
    Delete { path: String, recursive: bool },
}

/// Few names, some of which order differently with a slash behind them.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "a-b", "b"]), 1..4)
        .prop_map(|names| format!("/ada/{}", names.join("/")))
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => path().prop_map(Operation::Put),
        2 => path().prop_map(Operation::MakeDirectory),
        3 => (path(), path(), prop::bool::ANY)
            .prop_map(|(from, to, replace)| Operation::Rename { from, to, replace }),
        2 => (path(), prop::bool::ANY).prop_map(|(path, recursive)| Operation::Delete { path, recursive }),
    ]
}

#[derive(Default)]
struct Model(BTreeMap<String, Node>);

impl Model {
    fn ancestors(path: &str) -> impl Iterator<Item = &str> {
        path.match_indices('/').skip(2).map(move |(at, _)| &path[..at])
    }

    fn below_file(&self, path: &str) -> bool {
        Self::ancestors(path).any(|above| matches!(self.0.get(above), Some(Node::File(_))))
    }

    fn make_parents(&mut self, path: &str) {
        for above in Self::ancestors(path).map(str::to_owned).collect::<Vec<_>>() {
            self.0.entry(above).or_insert(Node::Directory);
        }
    }

    fn inside(&self, path: &str) -> Vec<(String, Node)> {
        let prefix = format!("{path}/");
        let found = self.0.iter().filter(|(other, _)| other.starts_with(&prefix));
        found.map(|(other, node)| (other.clone(), *node)).collect()
    }

    fn put(&mut self, path: &str, version: u64) -> bool {
        if self.below_file(path) || self.0.get(path) == Some(&Node::Directory) {
            return false;
        }
        self.make_parents(path);
        self.0.insert(path.to_owned(), Node::File(version));
        true
    }

    fn make_directory(&mut self, path: &str) -> bool {
        if self.below_file(path) || matches!(self.0.get(path), Some(Node::File(_))) {
            return false;
        }
        self.make_parents(path);
        self.0.insert(path.to_owned(), Node::Directory);
        true
    }

    fn rename(&mut self, from: &str, to: &str, replace: bool) -> bool {
        let Some(node) = self.0.get(from).copied() else {
            return false;
        };
        if from == to {
            return true;
        }
        let into_itself = node == Node::Directory && to.starts_with(&format!("{from}/"));
        let in_the_way = match (node, self.0.get(to)) {
            (_, None) => false,
            (Node::File(_), Some(Node::File(_))) => !replace,
            (Node::File(_) | Node::Directory, Some(_)) => true,
        };
        if into_itself || in_the_way || self.below_file(to) {
            return false;
        }
        self.make_parents(to);
        let inside = self.inside(from);
        self.0.remove(from);
        self.0.insert(to.to_owned(), node);
        for (path, node) in inside {
            self.0.remove(&path);
            self.0.insert(format!("{to}{}", &path[from.len()..]), node);
        }
        true
    }

    fn delete(&mut self, path: &str, recursive: bool) -> bool {
        let inside = self.inside(path);
        if !self.0.contains_key(path) || (!inside.is_empty() && !recursive) {
            return false;
        }
        self.0.remove(path);
        for (path, _) in inside {
            self.0.remove(&path);
        }
        true
    }

    fn files(&self) -> Vec<(String, u64)> {
        let files = self.0.iter().filter_map(|(path, node)| match node {
            Node::File(version) => Some((path.clone(), *version)),
            Node::Directory => None,
        });
        files.collect()
    }

    fn children(&self, path: &str) -> Vec<String> {
        let inside = self.inside(path).into_iter().map(|(path, _)| path);
        inside
            .filter(|child| !child[path.len() + 1..].contains('/'))
            .collect()
    }
}

/// Applies to both; whether both took it.
fn both(bench: &mut Bench, model: &mut Model, operation: &Operation) -> (bool, bool) {
    match operation {
        Operation::Put(path) => {
            let opening = bench.opening("ada", path);
            let done = bench.open_with(opening).map(|id| (id, bench.publish(id, 10)));
            let version = done.as_ref().map_or(0, |(id, _)| id.get());
            (done.is_ok_and(|(_, code)| code == "ok"), model.put(path, version))
        }
        Operation::MakeDirectory(path) => (
            bench.make_directory("ada", path) == "ok",
            model.make_directory(path),
        ),
        Operation::Rename { from, to, replace } => (
            bench.rename("ada", from, to, *replace) == "ok",
            model.rename(from, to, *replace),
        ),
        Operation::Delete { path, recursive } => (
            bench.delete("ada", path, *recursive) == "ok",
            model.delete(path, *recursive),
        ),
    }
}

/// Whole listings put together from pages of `limit`.
fn pages(bench: &Bench, path: &str, deep: bool, limit: usize) -> Vec<(String, u64)> {
    let caller = bench.as_caller("ada");
    let path = path.parse().unwrap();
    let mut position = None;
    let mut all = Vec::new();
    loop {
        let asked = Listing {
            path: &path,
            prefix: "",
            position: position.as_deref(),
            limit,
            budget: Budget::rows(1000),
            directories: false,
        };
        let page = if deep {
            recursive(&bench.tables, caller, &asked)
        } else {
            flat(&bench.tables, caller, &asked)
        }
        .unwrap();
        let shown = page.entries.iter();
        all.extend(shown.map(|entry| {
            (
                entry.path.clone(),
                entry.file.as_ref().map_or(0, |file| file.version.get()),
            )
        }));
        position = crate::core::page::position(&page.token).unwrap();
        if position.is_none() {
            return all;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tables_say_what_a_map_says(
        operations in prop::collection::vec(operation(), 1..40),
        limit in 1_usize..5,
    ) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        for operation in &operations {
            let (tables, map) = both(&mut bench, &mut model, operation);
            prop_assert_eq!(tables, map, "{:?}", operation);
            bench.now += 500;
        }
        bench.check_accounts();
        prop_assert_eq!(pages(&bench, "/ada", true, limit), model.files());
        let mut directories: Vec<String> = vec!["/ada".to_owned()];
        directories.extend(model.0.iter().filter(|(_, node)| **node == Node::Directory).map(|(path, _)| path.clone()));
        for directory in directories {
            let shown: Vec<String> = pages(&bench, &directory, false, limit).into_iter().map(|(path, _)| path).collect();
            prop_assert_eq!(shown, model.children(&directory), "{}", directory);
        }
        // Whatever was deleted is released in the end, and only that.
        bench.now += 1_000_000;
        bench.expire(3);
        bench.check_accounts();
        prop_assert_eq!(bench.count("versions") as usize, model.files().len());
        prop_assert_eq!(bench.count("trash"), 0);
        prop_assert_eq!(pages(&bench, "/ada", true, limit), model.files());
    }
}
