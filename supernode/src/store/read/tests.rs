//! What is shown, to whom, in which order, page by page.

use common::glob::Pattern;
use common::ids::{UploadId, VersionId};
use common::path::RemotePath;
use common::time::ClusterTime;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use super::entry::{Kind, stat};
use super::list::{Listing, Page, flat, recursive};
use super::resolve::resolve;
use super::search::{Query, search};
use super::totals::{Total, below, installation};
use super::trash;
use super::uploads::{forgettable, get};
use super::walk::{Budget, Start, Step, Walk};
use crate::core::page;
use crate::core::permission::Caller;
use crate::core::refusal::Refusal;
use crate::store::apply::Stop;
use crate::store::apply::fixture::{Bench, KEEP_MILLIS, WINDOW_MILLIS};
use crate::store::number::NUMBER_MAX;
use crate::store::session;

fn path(text: &str) -> RemotePath {
    text.parse().unwrap()
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Stop>) -> Refusal {
    match result.unwrap_err() {
        Stop::Refused(refusal) => refusal,
        Stop::Sql(error) => panic!("{error}"),
    }
}

type Lister = fn(&rusqlite::Connection, Caller, &Listing<'_>) -> Result<Page, Stop>;

fn list_all(bench: &Bench, user: &str, at: &str, prefix: &str, lister: Lister, limit: usize) -> Vec<String> {
    let at = path(at);
    let mut position: Option<String> = None;
    let mut all = Vec::new();
    loop {
        let asked = Listing {
            path: &at,
            prefix,
            position: position.as_deref(),
            limit,
            budget: Budget::rows(500),
            directories: false,
        };
        let page = lister(&bench.tables, bench.as_caller(user), &asked).unwrap();
        assert!(page.entries.len() <= limit);
        all.extend(page.entries.into_iter().map(|entry| entry.path));
        position = page::position(&page.token).unwrap();
        if position.is_none() {
            return all;
        }
    }
}

fn bench_with_files() -> Bench {
    let mut bench = Bench::new();
    for name in ["a", "a-b", "a.txt", "ab/1", "ab/2", "ab-c", "b/x/y", "c"] {
        bench.put("ada", &format!("/ada/{name}"));
    }
    bench.put("bob", "/bob/secret");
    bench
}

#[test]
fn flat_listings_are_in_order_of_name() {
    let bench = bench_with_files();
    let expected = [
        "/ada/a",
        "/ada/a-b",
        "/ada/a.txt",
        "/ada/ab",
        "/ada/ab-c",
        "/ada/b",
        "/ada/c",
    ];
    for limit in [1, 2, 3, 100] {
        assert_eq!(
            list_all(&bench, "ada", "/ada", "", flat, limit),
            expected,
            "limit {limit}"
        );
    }
    assert_eq!(
        list_all(&bench, "ada", "/ada", "ab", flat, 1),
        ["/ada/ab", "/ada/ab-c"]
    );
    assert_eq!(
        list_all(&bench, "ada", "/ada/ab", "", flat, 10),
        ["/ada/ab/1", "/ada/ab/2"]
    );
    assert!(list_all(&bench, "ada", "/ada", "z", flat, 10).is_empty());
}

#[test]
fn recursive_listings_are_in_order_of_path() {
    let bench = bench_with_files();
    let mut expected: Vec<String> = ["a", "a-b", "a.txt", "ab/1", "ab/2", "ab-c", "b/x/y", "c"]
        .iter()
        .map(|name| format!("/ada/{name}"))
        .collect();
    expected.sort();
    for limit in [1, 2, 3, 100] {
        assert_eq!(
            list_all(&bench, "ada", "/ada", "", recursive, limit),
            expected,
            "limit {limit}"
        );
    }
    assert_eq!(
        list_all(&bench, "ada", "/ada", "ab", recursive, 1),
        ["/ada/ab-c", "/ada/ab/1", "/ada/ab/2"]
    );
    assert_eq!(
        list_all(&bench, "ada", "/ada", "ab/", recursive, 1),
        ["/ada/ab/1", "/ada/ab/2"]
    );
    assert_eq!(
        list_all(&bench, "ada", "/ada", "b/x/", recursive, 1),
        ["/ada/b/x/y"]
    );
    assert!(list_all(&bench, "ada", "/ada", "b/none/", recursive, 1).is_empty());
}

#[test]
fn heavy_pages_end_early() {
    let mut bench = Bench::new();
    for number in 0..300 {
        let mut opening = bench.opening("ada", &format!("/ada/{number:03}"));
        opening.metadata = vec![proto::names_log::v1::Metadata {
            key: "note".to_owned(),
            value: "x".repeat(8_000),
        }];
        let id = bench.open_with(opening).unwrap();
        bench.publish(id, 1);
    }
    for lister in [flat as Lister, recursive as Lister] {
        let at = path("/ada");
        let asked = Listing {
            path: &at,
            prefix: "",
            position: None,
            limit: 1000,
            budget: Budget::rows(5000),
            directories: false,
        };
        let page = lister(&bench.tables, bench.as_caller("ada"), &asked).unwrap();
        assert!(page.entries.len() < 300 && !page.token.is_empty());
        assert_eq!(list_all(&bench, "ada", "/ada", "", lister, 1000).len(), 300);
    }
}

#[test]
fn a_page_goes_on_whatever_changed_in_between() {
    let mut bench = bench_with_files();
    let at = path("/ada");
    let asked = |position| Listing {
        path: &at,
        prefix: "",
        position,
        limit: 4,
        budget: Budget::rows(500),
        directories: false,
    };
    let first = recursive(&bench.tables, bench.as_caller("ada"), &asked(None)).unwrap();
    assert_eq!(first.entries.last().unwrap().path, "/ada/ab-c");
    bench.delete("ada", "/ada/ab-c", false);
    bench.put("ada", "/ada/0-before");
    bench.put("ada", "/ada/ab/3-after");
    let position = page::position(&first.token).unwrap();
    let second = recursive(&bench.tables, bench.as_caller("ada"), &asked(position.as_deref())).unwrap();
    let paths: Vec<_> = second.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["/ada/ab/1", "/ada/ab/2", "/ada/ab/3-after", "/ada/b/x/y"]);
}

#[test]
fn directories_are_listed_before_what_is_in_them_also_where_that_is_nothing() {
    let mut bench = Bench::new();
    for name in ["a", "b/1", "b-c"] {
        bench.put("ada", &format!("/ada/{name}"));
    }
    for name in ["b/empty/deep", "z"] {
        bench.make_directory("ada", &format!("/ada/{name}"));
    }
    let with_directories: Lister = |tables, caller, asked| {
        let asked = Listing {
            directories: true,
            ..asked.clone()
        };
        recursive(tables, caller, &asked)
    };
    let all = [
        "/ada/a",
        "/ada/b-c",
        "/ada/b",
        "/ada/b/1",
        "/ada/b/empty",
        "/ada/b/empty/deep",
        "/ada/z",
    ];
    for limit in [1, 2, 1000] {
        assert_eq!(list_all(&bench, "ada", "/ada", "", with_directories, limit), all);
        assert_eq!(
            list_all(&bench, "ada", "/ada/b", "", with_directories, limit),
            all[3..6]
        );
        assert_eq!(
            list_all(&bench, "ada", "/", "", with_directories, limit),
            [&["/ada"][..], &all].concat()
        );
    }
}

#[test]
fn directories_keep_metadata() {
    let mut bench = Bench::new();
    let mut make = |path: &str, metadata: &[(&str, &str)]| {
        let one = |(key, value): &(&str, &str)| log::Metadata {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        let command = log::MakeDirectory {
            caller: Some(bench.caller("ada")),
            path: path.to_owned(),
            wall_millis: 7,
            metadata: metadata.iter().map(one).collect(),
        };
        assert_eq!(bench.code(Command::MakeDirectory(command)), "ok");
    };
    make("/ada/d/e", &[("dbfs.modified-nanos", "1")]);
    make("/ada/d/e", &[("dbfs.modified-nanos", "2")]);
    make("/ada/d/e", &[]);
    let kept = |at: &str| {
        let entry = stat(&bench.tables, bench.as_caller("ada"), &path(at)).unwrap();
        entry
            .metadata
            .into_iter()
            .map(|one| one.value)
            .collect::<Vec<_>>()
    };
    assert_eq!(kept("/ada/d/e"), ["2"]);
    assert!(kept("/ada/d").is_empty() && kept("/ada").is_empty());
    bench.rename("ada", "/ada/d/e", "/ada/f", false);
    let at = path("/ada");
    let asked = Listing {
        path: &at,
        prefix: "f",
        position: None,
        limit: 10,
        budget: Budget::rows(500),
        directories: true,
    };
    for lister in [flat as Lister, recursive] {
        let page = lister(&bench.tables, bench.as_caller("ada"), &asked).unwrap();
        assert_eq!(page.entries.first().unwrap().metadata.first().unwrap().value, "2");
    }
}

#[test]
fn only_visible_buckets_are_listed_searched_or_guessed() {
    let bench = bench_with_files();
    assert_eq!(list_all(&bench, "ada", "/", "", flat, 1), ["/ada"]);
    assert_eq!(
        list_all(&bench, "root", "/", "", flat, 1),
        ["/ada", "/bob", "/root"]
    );
    assert!(list_all(&bench, "ada", "/", "bob", recursive, 1).is_empty());
    assert!(list_all(&bench, "ada", "/", "bob/", recursive, 1).is_empty());
    assert_eq!(list_all(&bench, "bob", "/", "", recursive, 1), ["/bob/secret"]);
    // A forged position inside another's bucket shows nothing of it.
    let root = RemotePath::root();
    let forged = Listing {
        path: &root,
        prefix: "",
        position: Some("bob/"),
        limit: 10,
        budget: Budget::rows(500),
        directories: false,
    };
    let page = recursive(&bench.tables, bench.as_caller("ada"), &forged).unwrap();
    assert!(page.entries.is_empty());
    // The same words for what is hidden and for what is not there.
    let ada = bench.as_caller("ada");
    for text in ["/bob", "/bob/secret", "/bob/none"] {
        let hidden = refusal(stat(&bench.tables, ada, &path(text)));
        assert_eq!(hidden, Refusal::no_path(&path(text)));
        assert_eq!(hidden, refusal(resolve(&bench.tables, ada, &path(text), None)));
    }
    assert_eq!(
        refusal(stat(&bench.tables, ada, &path("/none"))),
        Refusal::no_path(&path("/none"))
    );
}

fn search_all(bench: &Bench, user: &str, at: &str, pattern: &str, rows_max: u32) -> Vec<String> {
    let (at, pattern) = (path(at), Pattern::parse(pattern).unwrap());
    let mut position: Option<String> = None;
    let mut all = Vec::new();
    for _ in 0..10_000 {
        let query = Query {
            path: &at,
            pattern: &pattern,
            size_min: None,
            size_max: None,
            newer_wall_millis: None,
            position: position.as_deref(),
            limit: 2,
            budget: Budget::rows(rows_max),
        };
        let page = search(&bench.tables, bench.as_caller(user), &query).unwrap();
        all.extend(page.entries.into_iter().map(|entry| entry.path));
        position = page::position(&page.token).unwrap();
        if position.is_none() {
            return all;
        }
    }
    panic!("the search never ends");
}

#[test]
fn searches_match_names_and_paths() {
    let bench = bench_with_files();
    assert_eq!(search_all(&bench, "ada", "/", "a-", 500), ["/ada/a-b"]);
    assert_eq!(search_all(&bench, "ada", "/ada", "*.txt", 500), ["/ada/a.txt"]);
    assert_eq!(
        search_all(&bench, "ada", "/ada", "ab/*", 500),
        ["/ada/ab/1", "/ada/ab/2"]
    );
    assert_eq!(
        search_all(&bench, "ada", "/", "*/ab/*", 500),
        ["/ada/ab/1", "/ada/ab/2"]
    );
    assert!(search_all(&bench, "ada", "/", "secret", 500).is_empty());
    assert_eq!(search_all(&bench, "root", "/", "secret", 500), ["/bob/secret"]);
}

#[test]
fn a_search_goes_on_where_its_rows_ran_out() {
    let mut bench = Bench::new();
    for number in 0..600 {
        bench.put("ada", &format!("/ada/{}/{}/f{number:03}", number % 7, number % 5));
    }
    bench.put("ada", "/ada/6/9/needle");
    assert_eq!(search_all(&bench, "ada", "/", "needle", 20), ["/ada/6/9/needle"]);
    assert_eq!(search_all(&bench, "ada", "/", "f", 20).len(), 600);
    let caller = bench.as_caller("ada");
    let all = below(&bench.tables, caller, &path("/ada")).unwrap();
    assert_eq!(
        all,
        Total {
            files: 601,
            bytes: 60_100
        }
    );
    assert_eq!(installation(&bench.tables).unwrap(), all);
    let some = below(&bench.tables, caller, &path("/ada/1")).unwrap();
    assert_eq!((some.files, some.bytes), (86, 8_600));
}

#[test]
fn searches_know_size_and_time() {
    let mut bench = Bench::new();
    for (name, size) in [("small", 10), ("large", 1000)] {
        let id = bench.open("ada", &format!("/ada/{name}"));
        bench.publish(id, size);
        bench.now += 1_000;
    }
    let (at, pattern) = (path("/ada"), Pattern::parse("*").unwrap());
    let found = |size_min, size_max, newer_wall_millis| {
        let query = Query {
            path: &at,
            pattern: &pattern,
            size_min,
            size_max,
            newer_wall_millis,
            position: None,
            limit: 10,
            budget: Budget::rows(100),
        };
        let page = search(&bench.tables, bench.as_caller("ada"), &query).unwrap();
        page.entries
            .into_iter()
            .map(|entry| entry.path)
            .collect::<Vec<_>>()
    };
    assert_eq!(found(Some(11), None, None), ["/ada/large"]);
    assert_eq!(found(None, Some(10), None), ["/ada/small"]);
    assert_eq!(found(None, None, Some(1_500)), ["/ada/large"]);
    // Zero is a size like any other.
    assert!(found(Some(0), Some(0), None).is_empty());
    assert_eq!(found(Some(0), None, Some(0)), ["/ada/large", "/ada/small"]);
}

#[test]
fn entries_say_what_they_are() {
    let bench = bench_with_files();
    let caller = bench.as_caller("ada");
    let kind = |text| stat(&bench.tables, caller, &path(text)).unwrap().kind;
    assert_eq!(kind("/"), Kind::Directory);
    assert_eq!(kind("/ada"), Kind::Bucket);
    assert_eq!(kind("/ada/ab"), Kind::Directory);
    assert_eq!(kind("/ada/a"), Kind::File);
    let file = stat(&bench.tables, caller, &path("/ada/a"))
        .unwrap()
        .file
        .unwrap();
    assert_eq!(
        (file.size_bytes, file.cluster.as_str(), file.owner.as_str()),
        (100, "alpha", "ada")
    );
}

#[test]
fn a_version_is_found_at_its_path_until_it_is_released() {
    let mut bench = Bench::new();
    let old = bench.put("ada", "/ada/x");
    let new = bench.put("ada", "/ada/x");
    let other = bench.put("ada", "/ada/y");
    let foreign = bench.put("bob", "/bob/x");
    let ask = |bench: &Bench, text: &str, version: Option<VersionId>| {
        resolve(&bench.tables, bench.as_caller("ada"), &path(text), version).map(|found| found.version)
    };
    assert_eq!(ask(&bench, "/ada/x", None).unwrap(), new);
    assert_eq!(ask(&bench, "/ada/x", Some(new)).unwrap(), new);
    assert_eq!(ask(&bench, "/ada/x", Some(old)).unwrap(), old);
    for wrong in [other, foreign, VersionId::new(999)] {
        assert_eq!(refusal(ask(&bench, "/ada/x", Some(wrong))).code(), "E_NOT_FOUND");
    }
    assert_eq!(refusal(ask(&bench, "/ada", None)).code(), "E_IS_A_DIRECTORY");
    bench.delete("ada", "/ada/x", false);
    assert_eq!(refusal(ask(&bench, "/ada/x", None)).code(), "E_NOT_FOUND");
    assert_eq!(ask(&bench, "/ada/x", Some(new)).unwrap(), new);
    bench.now += KEEP_MILLIS;
    bench.expire(10);
    assert_eq!(refusal(ask(&bench, "/ada/x", Some(new))).code(), "E_NOT_FOUND");
}

#[test]
fn uploads_are_shown_to_those_who_opened_them() {
    let mut bench = Bench::new();
    let id = bench.open("ada", "/ada/x");
    assert!(
        get(&bench.tables, bench.as_caller("ada"), id)
            .unwrap()
            .entry
            .is_none()
    );
    bench.publish(id, 5);
    let shown = get(&bench.tables, bench.as_caller("ada"), id).unwrap();
    assert_eq!(shown.entry.unwrap().file.unwrap().size_bytes, 5);
    let hidden = refusal(get(&bench.tables, bench.as_caller("bob"), id));
    assert_eq!(hidden, Refusal::no_upload(id));
    let none = UploadId::new(77);
    assert_eq!(
        refusal(get(&bench.tables, bench.as_caller("bob"), none)),
        Refusal::no_upload(none)
    );
}

#[test]
fn only_old_answered_sessions_are_up_for_forgetting() {
    let mut bench = Bench::new();
    let aborted = bench.open("ada", "/ada/a");
    bench.abort("ada", aborted).unwrap();
    let open = bench.open("ada", "/ada/b");
    bench.put("ada", "/ada/c");
    let at = |bench: &Bench, later: u64| {
        let before = (bench.now + later).saturating_sub(WINDOW_MILLIS);
        forgettable(&bench.tables, ClusterTime::from_millis(before), 10).unwrap()
    };
    assert!(
        at(&bench, WINDOW_MILLIS + 60_001).is_empty(),
        "the cluster does not know yet"
    );
    session::set_recorded(&bench.tables, aborted).unwrap();
    assert!(at(&bench, 0).is_empty());
    assert_eq!(at(&bench, WINDOW_MILLIS + 60_001), [aborted]);
    assert_eq!(
        get(&bench.tables, bench.as_caller("ada"), open)
            .unwrap()
            .session
            .id,
        open
    );
}

#[test]
fn the_trash_shows_the_newest_first_and_only_to_its_owner() {
    let mut bench = Bench::new();
    for name in ["a", "b/c", "b/d", "e"] {
        bench.put("ada", &format!("/ada/{name}"));
    }
    bench.put("bob", "/bob/x");
    for name in ["a", "b/c", "b/d"] {
        bench.delete("ada", &format!("/ada/{name}"), false);
        bench.now += 1_000;
    }
    bench.delete("bob", "/bob/x", false);
    let shown = |bench: &Bench, user: &str, at: &str, limit: usize| {
        let at = path(at);
        let mut before = NUMBER_MAX;
        let mut all = Vec::new();
        loop {
            let asked = trash::Asked {
                path: &at,
                before,
                limit,
                rows_max: 2,
            };
            let now = ClusterTime::from_millis(bench.now);
            let page = trash::list(&bench.tables, bench.as_caller(user), &asked, now).unwrap();
            assert!(page.items.len() <= limit);
            all.extend(
                page.items
                    .into_iter()
                    .map(|shown| (shown.item.path, shown.size_bytes)),
            );
            let Some(next) = page.next else {
                return all;
            };
            before = next;
        }
    };
    let paths = |bench: &Bench, user: &str, at: &str, limit| {
        shown(bench, user, at, limit)
            .into_iter()
            .map(|(path, _)| path)
            .collect::<Vec<_>>()
    };
    for limit in [1, 2, 10] {
        assert_eq!(
            paths(&bench, "ada", "/", limit),
            ["/ada/b/d", "/ada/b/c", "/ada/a"]
        );
        assert_eq!(paths(&bench, "ada", "/ada/b", limit), ["/ada/b/d", "/ada/b/c"]);
    }
    assert_eq!(shown(&bench, "bob", "/", 10), [("/bob/x".to_owned(), Some(100))]);
    assert_eq!(paths(&bench, "root", "/", 10).len(), 4);
    // What is due is no longer offered.
    bench.now += KEEP_MILLIS - 2_000;
    assert_eq!(paths(&bench, "ada", "/ada", 10), ["/ada/b/d"]);
}

#[test]
fn a_walk_whose_time_is_up_goes_on_from_where_it_stands() {
    let mut bench = Bench::new();
    let all = ["ada/a", "ada/b/1", "ada/b/2", "ada/c/d/e", "bob/x"];
    for name in all {
        let user = name.split('/').next().unwrap();
        bench.put(user, &format!("/{name}"));
    }
    let (mut seen, mut position) = (Vec::new(), None::<String>);
    for _ in 0..100 {
        let start = Start::Buckets(None);
        let budget = Budget::of_no_time();
        let mut walk = Walk::new(&bench.tables, start, "", position.as_deref(), budget).unwrap();
        let before = seen.len();
        loop {
            match walk.step().unwrap() {
                Step::File(path, _) => {
                    seen.push(path);
                    assert!(seen.len() <= before + 1, "it went on after its time was up");
                }
                Step::Directory(..) | Step::Unnameable(_) => {}
                Step::Paused => break,
                Step::End => {
                    assert_eq!(seen, all);
                    return;
                }
            }
        }
        position = Some(walk.position().to_owned());
    }
    panic!("the pages come to no end");
}
