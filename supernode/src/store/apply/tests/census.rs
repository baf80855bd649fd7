//! Whatever sequence of commands is applied, every figure equals a recount: files and bytes below every directory, what
//! users have taken of their quotas, open uploads, releases on their way.

use common::ids::UploadId;
use proptest::prelude::{ProptestConfig, Strategy, prop, prop_oneof};
use proptest::{prop_assert_eq, proptest};
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use crate::store::apply::fixture::{ALPHA, Bench, KEEP_MILLIS};
use crate::store::read::list::{Listing, recursive};
use crate::store::read::totals::installation;
use crate::store::read::walk::Budget;

#[derive(Clone, Debug)]
enum Step {
    Put(String, u64),
    /// Opened and not ended; `true`: known to the leader alone.
    Open(String, bool),
    /// One of the uploads opened so far is published, or aborted.
    Publish(usize),
    Abort(usize),
    /// The leader dies: what it alone knew is lost.
    Crash,
    MakeDirectory(String),
    Rename(String, String, bool),
    Delete {
        path: String,
        permanent: bool,
    },
    Restore(usize, Option<String>),
    EmptyTrash(String),
    Later,
    Expire(u32),
    /// The cluster has recorded what it was told.
    Record,
    Forget,
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "a-b", "b"]), 1..4)
        .prop_map(|names| format!("/ada/{}", names.join("/")))
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0_usize..8;
    prop_oneof![
        5 => (path(), 0_u64..50).prop_map(|(path, size)| Step::Put(path, size)),
        2 => (path(), prop::bool::ANY).prop_map(|(path, alone)| Step::Open(path, alone)),
        2 => at().prop_map(Step::Publish),
        1 => at().prop_map(Step::Abort),
        1 => prop::strategy::Just(Step::Crash),
        2 => path().prop_map(Step::MakeDirectory),
        3 => (path(), path(), prop::bool::ANY).prop_map(|(from, to, replace)| Step::Rename(from, to, replace)),
        4 => (path(), prop::bool::ANY).prop_map(|(path, permanent)| Step::Delete { path, permanent }),
        2 => (at(), prop::option::of(path())).prop_map(|(at, to)| Step::Restore(at, to)),
        1 => path().prop_map(Step::EmptyTrash),
        1 => prop::strategy::Just(Step::Later),
        2 => (1_u32..5).prop_map(Step::Expire),
        1 => prop::strategy::Just(Step::Record),
        1 => prop::strategy::Just(Step::Forget),
    ]
}

#[derive(Default)]
struct Opened(Vec<(UploadId, Option<log::Opening>)>);

fn take(bench: &mut Bench, opened: &mut Opened, step: &Step) {
    match step {
        Step::Put(path, size) => {
            let opening = bench.opening("ada", path);
            if let Ok(id) = bench.open_with(opening) {
                bench.publish(id, *size);
            }
        }
        Step::Open(path, true) => {
            let upload = bench.opening("ada", path);
            let opening = bench.unrecorded(upload);
            opened.0.push((UploadId::new(opening.upload_id), Some(opening)));
        }
        Step::Open(path, false) => {
            let opening = bench.opening("ada", path);
            if let Ok(id) = bench.open_with(opening) {
                opened.0.push((id, None));
            }
        }
        Step::Publish(at) if *at < opened.0.len() => {
            let (id, opening) = opened.0.remove(*at);
            let mut command = bench.publishing(id, 30);
            command.items[0].opening = opening;
            bench.code(Command::Publish(command));
        }
        Step::Abort(at) if *at < opened.0.len() => {
            let (id, opening) = opened.0.remove(*at);
            let command = log::AbortUpload {
                caller: Some(bench.caller("ada")),
                upload_id: id.get(),
                opening,
            };
            bench.code(Command::AbortUpload(command));
        }
        Step::Publish(_) | Step::Abort(_) => {}
        Step::Crash => {
            bench.code(Command::CloseUploads(log::CloseUploads {}));
        }
        Step::MakeDirectory(path) => {
            bench.make_directory("ada", path);
        }
        Step::Rename(from, to, replace) => {
            bench.rename("ada", from, to, *replace);
        }
        Step::Delete { path, permanent } => {
            let command = log::Delete {
                caller: Some(bench.caller("ada")),
                path: path.clone(),
                recursive: true,
                if_version: None,
                trash_keep_millis: if *permanent { 0 } else { KEEP_MILLIS },
            };
            bench.code(Command::Delete(command));
        }
        Step::Restore(at, to) => restore(bench, *at, to.as_deref()),
        Step::EmptyTrash(path) => {
            let command = log::EmptyTrash {
                caller: Some(bench.caller("ada")),
                path: path.clone(),
                trash_ids: in_trash(bench).into_iter().take(2).collect(),
            };
            bench.code(Command::EmptyTrash(command));
        }
        Step::Later => bench.now += KEEP_MILLIS,
        Step::Expire(limit) => {
            bench.code(Command::ExpireTrash(log::ExpireTrash { limit: *limit }));
        }
        Step::Record => record(bench),
        Step::Forget => {
            let all: Vec<u64> = (1..100).collect();
            let command = bench.forgetting(&all, 0, 10);
            bench.code(command);
        }
    }
}

fn in_trash(bench: &Bench) -> Vec<u64> {
    let mut statement = bench
        .tables
        .prepare("SELECT trash_id FROM trash WHERE path != '' ORDER BY trash_id")
        .unwrap();
    let rows = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    rows.map(|id| id.unwrap() as u64).collect()
}

fn restore(bench: &mut Bench, at: usize, to: Option<&str>) {
    let found = in_trash(bench);
    if let Some(id) = found.get(at) {
        let command = log::RestoreTrash {
            caller: Some(bench.caller("ada")),
            trash_id: *id,
            to: to.unwrap_or_default().to_owned(),
            wall_millis: 1,
        };
        bench.code(Command::RestoreTrash(command));
    }
}

fn record(bench: &mut Bench) {
    let made: i64 = bench
        .tables
        .query_row("SELECT releases_made FROM clusters", [], |row| row.get(0))
        .unwrap();
    let command = log::ReleasesRecorded {
        cluster_id: ALPHA.to_vec().into(),
        sequence: made as u64,
    };
    bench.code(Command::ReleasesRecorded(command));
}

fn listed(bench: &Bench) -> u64 {
    let path = "/".parse().unwrap();
    let asked = Listing {
        path: &path,
        prefix: "",
        directories: false,
        position: None,
        limit: 1000,
        budget: Budget::rows(10_000),
    };
    let page = recursive(&bench.tables, bench.as_caller("root"), &asked).unwrap();
    assert_eq!(page.token, "");
    page.entries.len() as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn figures_equal_a_recount(steps in prop::collection::vec(step(), 1..40)) {
        let mut bench = Bench::new();
        let mut opened = Opened::default();
        for step in &steps {
            take(&mut bench, &mut opened, step);
            bench.check_accounts();
            prop_assert_eq!(installation(&bench.tables).unwrap().files, listed(&bench));
        }
        // At rest nothing is left over.
        bench.delete("ada", "/ada/a", true);
        bench.delete("ada", "/ada/a-b", true);
        bench.delete("ada", "/ada/b", true);
        prop_assert_eq!(installation(&bench.tables).unwrap().files, 0);
        bench.now += KEEP_MILLIS;
        bench.expire(3);
        bench.check_accounts();
        prop_assert_eq!(installation(&bench.tables).unwrap().bytes, 0);
        prop_assert_eq!((bench.count("versions"), bench.count("trash"), bench.count("directories")), (0, 0, 3));
    }
}

#[test]
fn a_tree_that_is_deleted_is_not_counted_any_more() {
    let mut bench = Bench::new();
    for name in 0..50 {
        bench.put("ada", &format!("/ada/d/{}/{name}", name % 3));
    }
    bench.put("ada", "/ada/x");
    assert_eq!(bench.delete("ada", "/ada/d", true), "ok");
    assert_eq!(installation(&bench.tables).unwrap().files, 1);
    restore(&mut bench, 0, None);
    assert_eq!(installation(&bench.tables).unwrap().files, 51);
    bench.check_accounts();
}

#[test]
fn no_command_makes_a_path_that_cannot_be_named() {
    let mut bench = Bench::new();
    let name = |letter: char| letter.to_string().repeat(200);
    let deep = (0..10).map(|_| name('d')).collect::<Vec<_>>().join("/");
    bench.put("ada", &format!("/ada/tree/{deep}/file"));
    let place = (0..12).map(|_| name('p')).collect::<Vec<_>>().join("/");
    assert_eq!(bench.make_directory("ada", &format!("/ada/{place}")), "ok");
    assert_eq!(
        bench.rename("ada", "/ada/tree", &format!("/ada/{place}/tree"), false),
        "E_PATH"
    );
    assert_eq!(bench.rename("ada", "/ada/tree", "/ada/other", false), "ok");
    assert_eq!(bench.delete("ada", "/ada/other", true), "ok");
    let command = |bench: &Bench, to: &str| {
        Command::RestoreTrash(log::RestoreTrash {
            caller: Some(bench.caller("ada")),
            trash_id: 1,
            to: to.to_owned(),
            wall_millis: 1,
        })
    };
    let too_deep = command(&bench, &format!("/ada/{place}/back"));
    assert_eq!(bench.code(too_deep), "E_PATH");
    let back = command(&bench, "/ada/back");
    assert_eq!(bench.code(back), "ok");
    // By their number as well as by their length.
    let many = vec!["n"; 200].join("/");
    assert_eq!(bench.make_directory("ada", &format!("/ada/m/{many}")), "ok");
    assert_eq!(bench.make_directory("ada", &format!("/ada/o/{many}")), "ok");
    assert_eq!(
        bench.rename("ada", "/ada/m", &format!("/ada/o/{many}/m"), false),
        "E_PATH"
    );
    // What is there all the same is not left out in silence.
    bench
        .tables
        .execute(
            "UPDATE directories SET name = ?1 WHERE name = 'back'",
            ["b".repeat(3000)],
        )
        .unwrap();
    let path = "/ada".parse().unwrap();
    let asked = Listing {
        path: &path,
        prefix: "",
        directories: false,
        position: None,
        limit: 1000,
        budget: Budget::rows(10_000),
    };
    let told = recursive(&bench.tables, bench.as_caller("ada"), &asked).unwrap_err();
    let crate::store::apply::Stop::Refused(told) = told else {
        panic!("{told:?}");
    };
    assert!(told.message().contains("too long to be named"), "{told}");
}
