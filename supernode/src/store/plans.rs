//! What statements and commands cost: none looks through a table that grows, and none costs more because there is more.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dbfs_tests::{statements, unbounded};
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use rusqlite::Connection;

use super::apply::fixture::{ALPHA, Bench, KEEP_MILLIS, WINDOW_MILLIS, user_command};
use super::schema;
use crate::core::fingerprint;

/// Tables with a row per cluster, key or kind of number; and the way up from a directory.
const SMALL: [&str; 5] = ["clusters", "signing_keys", "counters", "names_schema", "up"];
/// Read for people, and a row per user, which an administrator makes.
const OF_ALL_USERS: [&str; 2] = [
    "SELECT coalesce(sum(used_bytes), 0) FROM users",
    "SELECT coalesce(sum(d.files_below), 0) FROM buckets b CROSS JOIN directories d ON d.directory_id = b.directory_id",
];

#[test]
fn no_statement_looks_through_a_table_that_grows() {
    let tables = Connection::open_in_memory().unwrap();
    schema::create(&tables).unwrap();
    let variants: [(&str, &[&str]); 3] = [
        ("", &[">", ">="]),
        ("operator", &[">", ">="]),
        ("filter", &["b.owner = ?1", "d.parent_id = ?1"]),
    ];
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let all = statements(&sources, &variants);
    assert!(all.len() > 80, "only {} statements were found", all.len());
    let mut bad = Vec::new();
    for one in all.iter().filter(|one| !OF_ALL_USERS.contains(&one.sql.as_str())) {
        let plan = plan(&tables, &one.sql);
        let lines = unbounded(&one.sql, &plan, &SMALL);
        if !lines.is_empty() {
            bad.push(format!("{}: {}\n    {lines:?}", one.file.display(), one.sql));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

fn plan(tables: &Connection, sql: &str) -> Vec<String> {
    let mut statement = tables
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    let mut rows = statement.raw_query();
    let mut lines = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        lines.push(row.get(3).unwrap());
    }
    lines
}

/// How many instructions of SQLite's machine `work` takes.
fn steps(bench: &mut Bench, work: impl FnOnce(&mut Bench)) -> u64 {
    let count = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&count);
    let count_one = move || {
        counting.fetch_add(1, Ordering::Relaxed);
        false
    };
    bench.tables.progress_handler(1, Some(count_one)).unwrap();
    work(bench);
    bench.tables.progress_handler(0, None::<fn() -> bool>).unwrap();
    count.load(Ordering::Relaxed)
}

/// A names group with `size` of everything.
fn grown(size: u64) -> Bench {
    let mut bench = Bench::new();
    let root = bench.caller("root");
    for at in 0..size {
        bench.put("ada", &format!("/ada/many/f{at}"));
        bench.put("ada", &format!("/ada/trash/t{at}"));
        assert_eq!(bench.delete("ada", &format!("/ada/trash/t{at}"), false), "ok");
        let given_up = bench.open("ada", &format!("/ada/up{at}"));
        bench.abort("ada", given_up).unwrap();
        let made = keyed_directory(&bench, &format!("/ada/dirs/d{at}"), at);
        assert!(bench.apply(made).refusal.is_none());
        let name = format!("user{at}");
        bench
            .run(Command::CreateUser(user_command(
                &name,
                at == 0,
                false,
                Some(root),
            )))
            .unwrap();
    }
    for name in ["one", "two", "three"] {
        bench.put("ada", &format!("/ada/{name}"));
    }
    bench
}

fn keyed_directory(bench: &Bench, path: &str, key: u64) -> log::Command {
    let body = Command::MakeDirectory(log::MakeDirectory {
        caller: Some(bench.caller("ada")),
        path: path.to_owned(),
        ..log::MakeDirectory::default()
    });
    log::Command {
        dedupe: Some(log::Dedupe {
            user_id: bench.caller("ada").user_id,
            key: u128::from(key).to_be_bytes().to_vec().into(),
            key_born_millis: bench.now,
            command_digest: fingerprint::of_request(&body),
        }),
        body: Some(body),
    }
}

/// What each command costs, in an order in which all of them have something to do.
fn costs(mut bench: Bench) -> Vec<(&'static str, u64)> {
    let (ada, root) = (bench.caller("ada"), bench.caller("root"));
    let opened = bench.open("ada", "/ada/new");
    let published = bench.publishing(opened, 100);
    let trash_ids: Vec<u64> = (1..=5).collect();
    let first_admin = super::user::by_name(&bench.tables, "user0").unwrap().unwrap();
    let mut all = Vec::new();
    let mut measure = |name, command: Command| {
        let cost = steps(&mut bench, |bench| {
            bench.run(command).unwrap();
        });
        all.push((name, cost));
    };
    measure("publish", Command::Publish(published));
    measure(
        "bootstrap",
        Command::CreateUser(user_command("late", true, true, None)),
    );
    measure(
        "create user",
        Command::CreateUser(user_command("later", false, false, Some(root))),
    );
    measure(
        "disable",
        Command::SetUserEnabled(log::SetUserEnabled {
            caller: Some(root),
            user_id: first_admin.id.get(),
            enabled: false,
        }),
    );
    measure(
        "empty trash",
        Command::EmptyTrash(log::EmptyTrash {
            caller: Some(ada),
            path: "/ada".to_owned(),
            trash_ids,
        }),
    );
    measure(
        "expire trash",
        Command::ExpireTrash(log::ExpireTrash { limit: 3 }),
    );
    let delete = |path: &str| {
        Command::Delete(log::Delete {
            caller: Some(ada),
            path: path.to_owned(),
            recursive: true,
            trash_keep_millis: KEEP_MILLIS,
            ..log::Delete::default()
        })
    };
    measure("delete", delete("/ada/one"));
    measure("delete a tree", delete("/ada/many"));
    measure(
        "rename",
        Command::Rename(log::Rename {
            caller: Some(ada),
            from: "/ada/dirs".to_owned(),
            to: "/ada/moved".to_owned(),
            ..log::Rename::default()
        }),
    );
    measure("close uploads", Command::CloseUploads(log::CloseUploads {}));
    measure(
        "reserve",
        Command::ReserveUploads(log::ReserveUploads {
            count: 10,
            closed_up_to: 0,
        }),
    );
    measure(
        "expire sessions",
        Command::ExpireSessions(log::ExpireSessions {
            idle_millis: 0,
            limit: 5,
        }),
    );
    measure(
        "releases recorded",
        Command::ReleasesRecorded(log::ReleasesRecorded {
            cluster_id: ALPHA.to_vec().into(),
            sequence: 2,
        }),
    );
    bench.now += 3 * WINDOW_MILLIS;
    let forget = bench.forgetting(&[3, 6], 6, 5);
    let cost = steps(&mut bench, |bench| {
        bench.run(forget).unwrap();
    });
    all.push(("forget", cost));
    let again = keyed_directory(&bench, "/ada/dirs2", u64::MAX);
    let cost = steps(&mut bench, |bench| assert!(bench.apply(again).refusal.is_none()));
    all.push(("with a key", cost));
    all
}

#[test]
fn no_command_costs_more_because_there_is_more() {
    let (few, many) = (costs(grown(20)), costs(grown(200)));
    for ((name, few), (_, many)) in few.iter().zip(&many) {
        assert!(*few > 0, "{name} was not measured");
        assert!(*many <= few + few / 5 + 40, "{name}: {few} steps become {many}");
    }
}
