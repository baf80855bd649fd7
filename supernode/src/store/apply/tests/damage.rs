//! A row that says what no build of ours wrote fails whoever reads it: nothing is made up in its place (P5).

use common::ids::{ClusterId, DirectoryId, UploadId, UserId, VersionId};
use common::time::ClusterTime;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use rusqlite::Connection;

use crate::store::apply::Stop;
use crate::store::apply::fixture::{ALPHA, Bench};
use crate::store::apply::requests;
use crate::store::counter::Counter;
use crate::store::read::entry::stat;
use crate::store::read::list::{Listing, recursive};
use crate::store::read::totals::installation;
use crate::store::read::walk::Budget;
use crate::store::{below, bucket, cluster, key, lost, session, trash, user, version};

/// Columns by which rows are found: with another value there the row is another one, or none.
const NAMES_OF_ROWS: [&str; 14] = [
    "user_id",
    "bucket_id",
    "owner",
    "directory_id",
    "parent_id",
    "version_id",
    "upload_id",
    "trash_id",
    "cluster",
    "target",
    "sequence",
    "first",
    "key_id",
    "request_id",
];

/// With something in every table.
fn full() -> Bench {
    let mut bench = Bench::new();
    let mut opening = bench.opening("ada", "/ada/d/x");
    opening.metadata = vec![log::Metadata {
        key: "k".to_owned(),
        value: "v".to_owned(),
    }];
    opening.condition = Some(log::Condition {
        if_absent: true,
        ..log::Condition::default()
    });
    bench.open_with(opening).unwrap();
    bench.put("ada", "/ada/d/y");
    bench.put("ada", "/ada/z");
    bench.delete("ada", "/ada/z", false);
    bench.put("ada", "/ada/gone");
    let permanently = log::Delete {
        caller: Some(bench.caller("ada")),
        path: "/ada/gone".to_owned(),
        recursive: false,
        if_version: None,
        trash_keep_millis: 0,
    };
    bench.run(Command::Delete(permanently)).unwrap();
    bench.expire(10);
    let rotate = log::RotateSigningKey {
        seed: vec![7; 32].into(),
        replaces: None,
    };
    bench.run(Command::RotateSigningKey(rotate)).unwrap();
    let making = log::MakeDirectory {
        caller: Some(bench.caller("ada")),
        path: "/ada/e".to_owned(),
        wall_millis: 1,
        metadata: Vec::new(),
    };
    bench.apply(log::Command {
        dedupe: Some(log::Dedupe {
            user_id: bench.user("ada").id.get(),
            key: vec![9; 16].into(),
            key_born_millis: bench.now,
            command_digest: vec![1; 32].into(),
        }),
        body: Some(Command::MakeDirectory(making)),
    });
    let upload = bench.opening("ada", "/ada/lost");
    bench.unrecorded(upload);
    bench.run(Command::CloseUploads(log::CloseUploads {})).unwrap();
    bench
        .tables
        .execute_batch("UPDATE users SET quota_bytes = 1000000; UPDATE uploads SET if_version = 1")
        .unwrap();
    bench
}

fn ids(tables: &Connection, statement: &str) -> Vec<u64> {
    let mut statement = tables.prepare(statement).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    rows.map(|id| id.unwrap() as u64).collect()
}

/// Reads every row of every table, as requests and commands do.
fn read_everything(tables: &Connection) -> Result<(), Stop> {
    let now = ClusterTime::from_millis(1);
    for one in user::all(tables, 100)? {
        bucket::of_owner(tables, one.id)?;
        requests::find(tables, one.id.get(), &[9; 16])?;
        let listed = Listing {
            path: &common::path::RemotePath::root(),
            prefix: "",
            directories: true,
            position: None,
            limit: 100,
            budget: Budget::rows(1000),
        };
        recursive(tables, one.caller(), &listed)?;
    }
    key::all(tables)?;
    for one in cluster::all(tables)? {
        cluster::releases_waiting(tables, one.number, 0, 10)?;
    }
    for id in ids(tables, "SELECT upload_id FROM uploads") {
        session::by_id(tables, UploadId::new(id))?;
    }
    for id in ids(tables, "SELECT version_id FROM versions") {
        version::by_id(tables, VersionId::new(id))?;
    }
    for id in ids(tables, "SELECT directory_id FROM directories") {
        below::of(tables, DirectoryId::new(id))?;
    }
    let root = user::by_id(tables, UserId::new(1))?.map(|root| root.caller());
    if let Some(root) = root {
        stat(tables, root, &"/ada/d".parse().unwrap())?;
    }
    trash::items_of_all(tables, 1000, 100)?;
    trash::due(tables, ClusterTime::from_millis(1 << 40))?;
    trash::item(tables, 1, now)?;
    for counter in [
        Counter::User,
        Counter::Bucket,
        Counter::Directory,
        Counter::Upload,
    ] {
        counter.last(tables)?;
    }
    for counter in [
        Counter::UploadsClosed,
        Counter::Trash,
        Counter::Cluster,
        Counter::SigningKey,
    ] {
        counter.last(tables)?;
    }
    for id in ids(tables, "SELECT first FROM uploads_lost") {
        lost::contains(tables, UploadId::new(id))?;
    }
    cluster::by_id(tables, ClusterId::new(ALPHA))?;
    installation(tables)?;
    Ok(())
}

/// Every column of the type `of`: (table, column).
fn columns(tables: &Connection, of: &str) -> Vec<(String, String)> {
    let mut statement = tables
        .prepare(
            "SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
             WHERE m.type = 'table' AND m.name != 'names_schema' AND c.type = ?1 ORDER BY 1, 2",
        )
        .unwrap();
    let rows = statement.query_map([of], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

fn damaged_and_read(bench: &Bench, table: &str, column: &str, value: &str) {
    let rows: i64 = bench.count(table);
    assert!(rows > 0, "nothing in {table}");
    bench.tables.execute_batch("SAVEPOINT damage").unwrap();
    // One row: what must be unique stays so.
    let order = if table == "uploads" || table == "users" {
        "DESC"
    } else {
        "ASC"
    };
    let statement = format!(
        "UPDATE {table} SET {column} = {value} WHERE {column} IN (SELECT {column} FROM {table} ORDER BY {column} {order} LIMIT 1)"
    );
    bench.tables.execute(&statement, []).unwrap();
    let outcome = read_everything(&bench.tables);
    assert!(
        matches!(outcome, Err(Stop::Sql(_))),
        "{table}.{column} = {value} was read as if nothing were wrong: {outcome:?}"
    );
    bench
        .tables
        .execute_batch("ROLLBACK TO damage; RELEASE damage")
        .unwrap();
}

#[test]
fn damaged_rows_fail_their_readers() {
    let bench = full();
    read_everything(&bench.tables).unwrap();
    let blobs = columns(&bench.tables, "BLOB");
    assert!(blobs.len() >= 9, "{blobs:?}");
    // Replies are found by their keys, and given to the command with their digest.
    let by_key = |table: &str, column: &str| {
        (table, column) == ("requests", "idempotency_key") || column == "command_digest"
    };
    for (table, column) in blobs.iter().filter(|(table, column)| !by_key(table, column)) {
        damaged_and_read(&bench, table, column, "x'ff'");
    }
    for (table, column) in columns(&bench.tables, "INTEGER") {
        // Read by statements alone.
        let unread = (table.as_str(), column.as_str()) == ("requests", "latest_millis");
        if !unread && !NAMES_OF_ROWS.contains(&column.as_str()) {
            damaged_and_read(&bench, &table, &column, "-1");
        }
    }
}

#[test]
fn numbers_that_cannot_be_kept_are_refused_and_stop_nobody() {
    let mut bench = full();
    let largest = u64::MAX;
    let ada = bench.caller("ada");
    let mut opening = bench.opening("ada", "/ada/n");
    opening.condition = Some(log::Condition {
        if_version: Some(largest),
        ..log::Condition::default()
    });
    let commands = [
        Command::OpenUpload(opening),
        Command::AbortUpload(log::AbortUpload {
            caller: Some(ada),
            upload_id: largest,
            opening: None,
        }),
        Command::Delete(log::Delete {
            caller: Some(ada),
            path: "/ada/d/y".to_owned(),
            recursive: false,
            if_version: Some(largest),
            trash_keep_millis: 0,
        }),
        Command::RestoreTrash(log::RestoreTrash {
            caller: Some(ada),
            trash_id: largest,
            to: String::new(),
            wall_millis: 1,
        }),
        Command::CreateUser(log::CreateUser {
            caller: Some(bench.caller("root")),
            name: "eve".to_owned(),
            quota_bytes: Some(largest),
            ..log::CreateUser::default()
        }),
        Command::ReleasesRecorded(log::ReleasesRecorded {
            cluster_id: ALPHA.to_vec().into(),
            sequence: largest,
        }),
    ];
    for command in commands {
        let name = format!("{command:?}");
        assert_eq!(bench.code(command), "E_NUMBER", "{name}");
    }
    // One of a batch keeps none of the others back.
    let id = bench.open("ada", "/ada/m");
    let mut publishing = bench.publishing(id, 1);
    publishing
        .items
        .extend(bench.publishing(UploadId::new(largest), 1).items);
    publishing.outcomes_recorded = vec![largest];
    assert_eq!(bench.code(Command::Publish(publishing)), "ok");
    assert_eq!(bench.state(id), common::lifecycle::Session::Published);
    let abandoned = log::AbandonedUploads {
        cluster_id: ALPHA.to_vec().into(),
        upload_ids: vec![largest],
    };
    assert_eq!(bench.code(Command::AbandonedUploads(abandoned)), "ok");
    // A time that is longer than time lasts.
    let for_ever = log::Delete {
        caller: Some(ada),
        path: "/ada/d/y".to_owned(),
        recursive: false,
        if_version: None,
        trash_keep_millis: largest,
    };
    assert_eq!(bench.code(Command::Delete(for_ever)), "ok");
    bench.check_accounts();
}
