//! The tables of `log.db`, read and written.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use openraft::entry::RaftEntry;
use parking_lot::Mutex;
use prost::Message;
use prost::bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::engine::{self, Entry, LogId, Vote};
use crate::schema::{self, meta_key};
use crate::sqlite::{self, Sync, failure};

/// Idle connections kept for reading.
const READERS_KEPT_MAX: usize = 4;

/// One log entry as it is written.
pub(crate) struct Row {
    pub(crate) index: u64,
    term: u64,
    pub(crate) payload: Bytes,
}

impl Row {
    pub(crate) fn of(entry: &Entry) -> Self {
        let (leader, index) = entry.log_id_parts();
        Self {
            index,
            term: leader.term,
            payload: engine::payload_out(&entry.payload),
        }
    }
}

/// What a log contained when it was opened.
pub(crate) struct Opened {
    pub(crate) first: u64,
    pub(crate) last: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
}

/// Reads the file, on connections of its own.
pub(crate) struct Rows {
    path: PathBuf,
    /// Guards nothing but the list of idle connections.
    idle: Mutex<Vec<Connection>>,
}

impl Rows {
    pub(crate) fn open(
        path: &Path,
        owner: &schema::Owner,
        create: bool,
    ) -> io::Result<(Self, Opened, Connection)> {
        if !create && !path.exists() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "log.db is missing although this member has taken part: restore it, or empty the \
                 whole directory and let a new member join",
            ));
        }
        let mut connection = sqlite::open_writer(path, Sync::Full)?;
        let tx = connection.transaction().map_err(failure)?;
        tx.execute_batch(schema::LOG_TABLES).map_err(failure)?;
        match meta::<schema::Owner>(&tx, meta_key::OWNER)? {
            None if create => put_meta(&tx, meta_key::OWNER, owner)?,
            None => return Err(schema::invalid("log.db does not say whose it is")),
            Some(found) if found.format > schema::LOG_FORMAT => {
                return Err(schema::invalid(format!(
                    "log.db has format {}, this build reads up to {}",
                    found.format,
                    schema::LOG_FORMAT
                )));
            }
            Some(found) if found.cluster != owner.cluster || found.node != owner.node => {
                return Err(schema::invalid("log.db belongs to another member"));
            }
            Some(_) => {}
        }
        let purged = meta::<schema::LogId>(&tx, meta_key::PURGED)?;
        let last = tx
            .query_row("SELECT idx, term FROM log ORDER BY idx DESC LIMIT 1", [], |row| {
                Ok(schema::LogId {
                    index: row.get::<_, i64>(0)?.cast_unsigned(),
                    term: row.get::<_, i64>(1)?.cast_unsigned(),
                })
            })
            .optional()
            .map_err(failure)?;
        let first = purged.map_or(0, |purged| purged.index + 1);
        let found: Option<i64> = tx
            .query_row("SELECT min(idx) FROM log", [], |row| row.get(0))
            .map_err(failure)?;
        if found.is_some_and(|found| found.cast_unsigned() != first) {
            return Err(missing(first));
        }
        let opened = Opened {
            first,
            last: last.or(purged).map(engine::log_id),
            purged: purged.map(engine::log_id),
            vote: meta::<schema::Vote>(&tx, meta_key::VOTE)?.map(engine::vote),
            committed: meta::<schema::LogId>(&tx, meta_key::COMMITTED)?.map(engine::log_id),
        };
        tx.commit().map_err(failure)?;
        common::disk::sync_directory(path.parent().unwrap_or(Path::new(".")))?;
        let rows = Self {
            path: path.to_owned(),
            idle: Mutex::new(Vec::new()),
        };
        Ok((rows, opened, connection))
    }

    /// Entries of `range`, at most `bytes_max` bytes of payload but at least one, and how many bytes.
    pub(crate) fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<(Vec<Entry>, usize)> {
        self.with_reader(|connection| {
            let mut statement = connection
                .prepare_cached(
                    "SELECT idx, term, payload, checksum FROM log WHERE idx >= ?1 AND idx < ?2 ORDER BY idx",
                )
                .map_err(failure)?;
            let bounds = params![range.start.cast_signed(), range.end.cast_signed()];
            let mut rows = statement.query(bounds).map_err(failure)?;
            let (mut entries, mut bytes) = (Vec::new(), 0);
            let mut expected = range.start;
            while let Some(row) = rows.next().map_err(failure)? {
                let payload: Vec<u8> = row.get(2).map_err(failure)?;
                if bytes + payload.len() > bytes_max && !entries.is_empty() {
                    return Ok((entries, bytes));
                }
                bytes += payload.len();
                let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned).map_err(failure);
                let entry = checked(number(0)?, number(1)?, payload, number(3)?)?;
                if entry.index() != expected {
                    return Err(missing(expected));
                }
                expected += 1;
                entries.push(entry);
            }
            if expected != range.end {
                return Err(missing(expected));
            }
            Ok((entries, bytes))
        })
    }

    /// The index up to which entries must go for at most `bytes` of payload to be left.
    pub(crate) fn surplus(&self, bytes: u64) -> io::Result<Option<u64>> {
        self.with_reader(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT idx, length(payload) FROM log ORDER BY idx DESC")
                .map_err(failure)?;
            let mut rows = statement.query([]).map_err(failure)?;
            let mut left = bytes;
            while let Some(row) = rows.next().map_err(failure)? {
                let length = row.get::<_, i64>(1).map_err(failure)?.cast_unsigned();
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return Ok(Some(row.get::<_, i64>(0).map_err(failure)?.cast_unsigned())),
                }
            }
            Ok(None)
        })
    }

    fn with_reader<T>(&self, work: impl FnOnce(&Connection) -> io::Result<T>) -> io::Result<T> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => sqlite::open_reader(&self.path)?,
        };
        let outcome = work(&connection);
        let mut idle = self.idle.lock();
        if idle.len() < READERS_KEPT_MAX {
            idle.push(connection);
        }
        outcome
    }

    /// Closes the idle connections.
    pub(crate) fn close(&self) {
        self.idle.lock().clear();
    }
}

fn checked(index: u64, term: u64, payload: Vec<u8>, checksum: u64) -> io::Result<Entry> {
    if schema::row_checksum(index, term, &payload) != checksum {
        return Err(schema::invalid(format!(
            "log entry {index} fails its checksum: the disk is not to be trusted; remove this member's directory \
             and let it join anew"
        )));
    }
    let payload = engine::payload(Bytes::from(payload))?;
    Ok(Entry::new(LogId::new(engine::leader(term), index), payload))
}

fn missing(index: u64) -> io::Error {
    schema::invalid(format!("log entry {index} is missing"))
}

fn meta<T: Message + Default>(connection: &Connection, key: &str) -> io::Result<Option<T>> {
    let value: Option<Vec<u8>> = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
        .map_err(failure)?;
    value.map(|value| schema::open(key, &value)).transpose()
}

pub(crate) fn put_meta(tx: &Transaction<'_>, key: &str, value: &impl Message) -> io::Result<()> {
    tx.prepare_cached(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .and_then(|mut statement| statement.execute(params![key, schema::seal(value)]))
    .map_err(failure)?;
    Ok(())
}

pub(crate) fn insert(tx: &Transaction<'_>, rows: &[Row]) -> io::Result<()> {
    let mut statement = tx
        .prepare_cached("INSERT INTO log (idx, term, payload, checksum) VALUES (?1, ?2, ?3, ?4)")
        .map_err(failure)?;
    for row in rows {
        let checksum = schema::row_checksum(row.index, row.term, &row.payload);
        statement
            .execute(params![
                row.index.cast_signed(),
                row.term.cast_signed(),
                row.payload.as_ref(),
                checksum.cast_signed()
            ])
            .map_err(failure)?;
    }
    Ok(())
}

/// Removes what stands after `after`.
pub(crate) fn truncate(tx: &Transaction<'_>, after: Option<u64>) -> io::Result<()> {
    let after = after.map_or(-1, u64::cast_signed);
    tx.execute("DELETE FROM log WHERE idx > ?1", [after])
        .map_err(failure)?;
    Ok(())
}

/// Removes everything up to `upto` and remembers it.
pub(crate) fn purge(tx: &Transaction<'_>, upto: &schema::LogId) -> io::Result<()> {
    tx.execute("DELETE FROM log WHERE idx <= ?1", [upto.index.cast_signed()])
        .map_err(failure)?;
    put_meta(tx, meta_key::PURGED, upto)
}
