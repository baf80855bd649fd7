//! Rot anywhere in the main file is noticed; what SQLite does with its files still works.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, ffi};

use super::{PAGE_BYTES, open};

fn fill(path: &Path, rows: u32) -> Connection {
    let connection = open(path, OpenFlags::default()).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS t (k INTEGER PRIMARY KEY, v BLOB) STRICT")
        .unwrap();
    for key in 0..rows {
        connection
            .execute(
                "INSERT OR REPLACE INTO t VALUES (?1, ?2)",
                (key, vec![key as u8; 700]),
            )
            .unwrap();
    }
    connection
}

fn checkpoint(connection: &Connection) {
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
}

fn count(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("SELECT count(*) FROM t WHERE length(v) = 700", [], |row| {
        row.get(0)
    })
}

#[test]
fn the_bundled_sqlite_has_no_wal_reset_bug() {
    assert!(
        rusqlite::version_number() >= 3_051_003,
        "SQLite {}",
        rusqlite::version()
    );
}

#[test]
fn what_is_committed_is_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut writer = fill(&path, 1);
    // Large transactions leave the cache before their commit, and rewrite frames.
    writer.pragma_update(None, "cache_size", 3).unwrap();
    for round in 1..12_u32 {
        // A log that an earlier connection has begun.
        if round % 4 == 0 {
            drop(writer);
            writer = fill(&path, 0);
        }
        let tx = writer.transaction().unwrap();
        for key in 0..round * round * 3 {
            tx.execute("INSERT OR REPLACE INTO t VALUES (?1, ?2)", (key, vec![1; 700]))
                .unwrap();
        }
        tx.commit().unwrap();
        let image = directory.path().join(format!("image-{round}"));
        std::fs::create_dir(&image).unwrap();
        for name in ["a.db", "a.db-wal"] {
            std::fs::copy(directory.path().join(name), image.join(name)).unwrap();
        }
        let copy = open(&image.join("a.db"), OpenFlags::default()).unwrap();
        assert_eq!(count(&copy), Ok(round * round * 3));
        let reader = open(&path, OpenFlags::default()).unwrap();
        assert_eq!(count(&reader), Ok(round * round * 3));
    }
}

#[test]
fn databases_survive_reopening_and_backup() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let first = fill(&path, 500);
    let reader = open(
        &path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .unwrap();
    assert_eq!(count(&reader), Ok(500));
    checkpoint(&first);
    drop((first, reader));
    let again = fill(&path, 600);
    assert_eq!(count(&again), Ok(600));
    let copy_path = directory.path().join("b.db");
    let mut copy = open(&copy_path, OpenFlags::default()).unwrap();
    rusqlite::backup::Backup::new(&again, &mut copy)
        .unwrap()
        .step(-1)
        .unwrap();
    drop(copy);
    let copy = open(&copy_path, OpenFlags::default()).unwrap();
    assert_eq!(count(&copy), Ok(600));
    let vacuumed = directory.path().join("c.db");
    again
        .execute("VACUUM INTO ?1", [vacuumed.to_str().unwrap()])
        .unwrap();
    assert_eq!(count(&open(&vacuumed, OpenFlags::default()).unwrap()), Ok(600));
}

#[test]
fn a_flipped_bit_in_any_page_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    checkpoint(&fill(&path, 200));
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let pages = file.metadata().unwrap().len() / PAGE_BYTES as u64;
    assert!(pages > 20);
    for page in 0..pages {
        let at = page * PAGE_BYTES as u64 + 2000;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        let outcome = open(&path, OpenFlags::default()).and_then(|connection| count(&connection));
        assert!(outcome.is_err(), "page {page} of {pages}: {outcome:?}");
        file.write_all_at(&byte, at).unwrap();
    }
    assert_eq!(count(&open(&path, OpenFlags::default()).unwrap()), Ok(200));
}

#[test]
fn a_page_in_the_wrong_place_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    checkpoint(&fill(&path, 200));
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut page = vec![0; PAGE_BYTES];
    file.read_exact_at(&mut page, 10 * PAGE_BYTES as u64).unwrap();
    file.write_all_at(&page, 12 * PAGE_BYTES as u64).unwrap();
    let error = count(&open(&path, OpenFlags::default()).unwrap()).unwrap_err();
    assert_eq!(
        error.sqlite_error().map(|error| error.extended_code),
        Some(ffi::SQLITE_IOERR_DATA)
    );
}

#[test]
fn a_database_without_checksums_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plain.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE t (k)")
        .unwrap();
    let outcome = open(&path, OpenFlags::default()).and_then(|connection| count(&connection));
    assert!(outcome.is_err());
}
