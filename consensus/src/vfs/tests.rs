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

/// Bytes of a value that fills a leaf's cell and four overflow pages.
const LARGE: usize = 20_000;

fn large(key: u8) -> Vec<u8> {
    (0..LARGE).map(|at| (at % 251) as u8 ^ key).collect()
}

fn fill_large(path: &Path, rows: u8) -> Connection {
    let connection = fill(path, 0);
    for key in 0..rows {
        connection
            .execute("INSERT OR REPLACE INTO t VALUES (?1, ?2)", (key, large(key)))
            .unwrap();
    }
    connection
}

/// Reads every value whole; whether all are what was written.
fn read_large(connection: &Connection) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare("SELECT k, v FROM t ORDER BY k")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, u8>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(rows.len() == 10 && rows.iter().all(|(key, value)| *value == large(*key)))
}

fn reopen_large(path: &Path) -> rusqlite::Result<bool> {
    open(path, OpenFlags::default()).and_then(|connection| read_large(&connection))
}

/// A database of large values in its main file alone, and how many pages that has.
fn large_database(directory: &Path) -> (std::path::PathBuf, std::fs::File, u64) {
    let path = directory.join("a.db");
    checkpoint(&fill_large(&path, 10));
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let pages = file.metadata().unwrap().len() / PAGE_BYTES as u64;
    assert!(
        pages >= 50,
        "{pages} pages hold ten values with their overflow pages"
    );
    assert_eq!(reopen_large(&path), Ok(true));
    (path, file, pages)
}

#[test]
fn a_flipped_byte_in_any_page_of_a_large_value_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (path, file, pages) = large_database(directory.path());
    for page in 0..pages {
        for within in [0, 2, 2000, PAGE_BYTES as u64 - 9, PAGE_BYTES as u64 - 1] {
            let at = page * PAGE_BYTES as u64 + within;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            let outcome = reopen_large(&path);
            assert!(
                outcome.is_err(),
                "byte {within} of page {page} of {pages}: {outcome:?}"
            );
            file.write_all_at(&byte, at).unwrap();
        }
    }
    assert_eq!(reopen_large(&path), Ok(true));
}

#[test]
fn a_flipped_byte_in_the_header_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (path, file, _) = large_database(directory.path());
    for at in 0..100 {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        for bit in 0..8 {
            file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
            let outcome = reopen_large(&path);
            assert!(outcome.is_err(), "bit {bit} of byte {at}: {outcome:?}");
        }
        file.write_all_at(&byte, at).unwrap();
    }
}

#[test]
fn a_page_that_became_a_hole_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (path, file, pages) = large_database(directory.path());
    let mut kept = vec![0; PAGE_BYTES];
    for page in 0..pages {
        let at = page * PAGE_BYTES as u64;
        file.read_exact_at(&mut kept, at).unwrap();
        file.write_all_at(&[0; PAGE_BYTES], at).unwrap();
        let outcome = reopen_large(&path);
        assert!(outcome.is_err(), "page {page} of {pages}: {outcome:?}");
        file.write_all_at(&kept, at).unwrap();
    }
}

#[test]
fn a_file_that_lost_its_end_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (path, file, _) = large_database(directory.path());
    let writer = open(&path, OpenFlags::default()).unwrap();
    // The file ends in the middle of a value. SQLite sees by itself where a leaf is missing, and not where content is.
    writer.execute_batch("CREATE TABLE last (v BLOB)").unwrap();
    writer
        .execute("INSERT INTO last VALUES (?1)", [large(0)])
        .unwrap();
    checkpoint(&writer);
    let pages = file.metadata().unwrap().len() / PAGE_BYTES as u64;
    // While the write-ahead log has frames, SQLite believes its count of pages and not the file's length.
    writer.pragma_update(None, "user_version", 7).unwrap();
    assert_ne!(
        std::fs::metadata(directory.path().join("a.db-wal"))
            .unwrap()
            .len(),
        0
    );
    let image = directory.path().join("image");
    std::fs::create_dir(&image).unwrap();
    for kept in 1..pages {
        let copy = image.join("a.db");
        for name in ["a.db", "a.db-wal"] {
            std::fs::copy(directory.path().join(name), image.join(name)).unwrap();
        }
        let cut = OpenOptions::new().write(true).open(&copy).unwrap();
        cut.set_len(kept * PAGE_BYTES as u64).unwrap();
        // By one connection: the first that closes takes the log away.
        let reader = open(&copy, OpenFlags::default()).unwrap();
        let outcome = read_large(&reader);
        assert_ne!(outcome, Ok(false), "{kept} pages of {pages} are left");
        let last = reader.query_row("SELECT v FROM last", [], |row| row.get::<_, Vec<u8>>(0));
        assert!(last.is_err(), "{kept} pages of {pages} are left");
    }
}

#[test]
fn nothing_that_sqlite_does_by_itself_looks_like_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let random = common::random::Random::seeded(7);
    let mut model: std::collections::BTreeMap<u32, usize> = std::collections::BTreeMap::new();
    let mut writer = fill(&path, 0);
    for round in 0..120_u32 {
        if round % 40 == 0 {
            drop(writer);
            writer = fill(&path, 0);
            writer.pragma_update(None, "cache_size", 5).unwrap();
            writer.pragma_update(None, "wal_autocheckpoint", 40).unwrap();
        }
        let reader = open(&path, OpenFlags::default()).unwrap();
        if round % 3 == 0 {
            reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        }
        let mut changed = model.clone();
        let mut tx = writer.transaction().unwrap();
        for _ in 0..random.below(8) {
            let key = random.below(60) as u32;
            let undone = random.below(4) == 0;
            let mut savepoint = tx.savepoint().unwrap();
            savepoint.set_drop_behavior(rusqlite::DropBehavior::Rollback);
            if random.below(3) == 0 {
                savepoint
                    .execute("DELETE FROM t WHERE k >= ?1 AND k < ?1 + 5", [key])
                    .unwrap();
            } else {
                let length = random.below(30_000) as usize;
                savepoint
                    .execute(
                        "INSERT OR REPLACE INTO t VALUES (?1, ?2)",
                        (key, vec![1_u8; length]),
                    )
                    .unwrap();
            }
            if undone {
                drop(savepoint);
            } else {
                savepoint.commit().unwrap();
            }
            changed = lengths(&tx);
        }
        if random.below(5) == 0 {
            tx.rollback().unwrap();
        } else {
            tx.commit().unwrap();
            model = changed;
        }
        drop(reader);
        assert_eq!(
            lengths(&open(&path, OpenFlags::default()).unwrap()),
            model,
            "round {round}"
        );
        if round % 50 == 0 {
            let copied = directory.path().join(format!("copy-{round}.db"));
            let mut copy = open(&copied, OpenFlags::default()).unwrap();
            rusqlite::backup::Backup::new(&writer, &mut copy)
                .unwrap()
                .step(-1)
                .unwrap();
            drop(copy);
            assert_eq!(lengths(&open(&copied, OpenFlags::default()).unwrap()), model);
        }
    }
}

/// The length of every value, each read whole.
fn lengths(connection: &Connection) -> std::collections::BTreeMap<u32, usize> {
    let mut statement = connection.prepare("SELECT k, v FROM t").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?.len())));
    rows.unwrap().map(Result::unwrap).collect()
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
