//! The registry of clusters, and the outbox of releases for each.

use common::ids::{ClusterId, Generation, VersionId};
use prost::Message;
use proto::names_log::v1 as log;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::number::{decode, flag, number, sql};

/// A cluster as the tables name it: small, and never given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClusterNumber(u64);

impl ClusterNumber {
    /// Wraps a number that a committed command handed out.
    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, for the tables.
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// A registered cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cluster {
    /// In the tables.
    pub(crate) number: ClusterNumber,
    /// On the wire.
    pub(crate) id: ClusterId,
    /// As its certificates say.
    pub(crate) name: String,
    /// How often its state was founded.
    pub(crate) generation: Generation,
    /// Where it stands.
    pub(crate) site: String,
    /// Where its members are reached.
    pub(crate) members: Vec<log::Member>,
    /// The last release made for it.
    pub(crate) releases_made: u64,
    /// The last release which its log has recorded.
    pub(crate) releases_recorded: u64,
    /// Set aside for good: it gets nothing, and nothing of it is taken in.
    pub(crate) retired: bool,
}

const COLUMNS: &str = "cluster, cluster_id, name, generation, site, members, releases_made, releases_recorded, \
                       retired";

impl Cluster {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: ClusterNumber::new(number(row, 0)?),
            id: ClusterId::new(row.get(1)?),
            name: row.get(2)?,
            generation: Generation::new(number(row, 3)?),
            site: row.get(4)?,
            members: decode::<log::MemberList>(row, 5)?.members,
            releases_made: number(row, 6)?,
            releases_recorded: number(row, 7)?,
            retired: flag(row, 8)?,
        })
    }
}

/// The cluster with this id.
pub(crate) fn by_id(connection: &Connection, id: ClusterId) -> rusqlite::Result<Option<Cluster>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM clusters WHERE cluster_id = ?1"))?
        .query_row([id.bytes()], Cluster::read)
        .optional()
}

/// The number of the cluster with this id, without the rest of its row.
pub(crate) fn number_of(connection: &Connection, id: ClusterId) -> rusqlite::Result<Option<ClusterNumber>> {
    connection
        .prepare_cached("SELECT cluster FROM clusters WHERE cluster_id = ?1")?
        .query_row([id.bytes()], |row| Ok(ClusterNumber::new(number(row, 0)?)))
        .optional()
}

/// The cluster with this number.
pub(crate) fn by_number(connection: &Connection, number: ClusterNumber) -> rusqlite::Result<Option<Cluster>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM clusters WHERE cluster = ?1"))?
        .query_row([sql(number.get())], Cluster::read)
        .optional()
}

/// The cluster with this name.
pub(crate) fn by_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<Cluster>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM clusters WHERE name = ?1"))?
        .query_row([name], Cluster::read)
        .optional()
}

/// All clusters in order of name.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<Cluster>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM clusters ORDER BY name"))?
        .query_map([], Cluster::read)?
        .collect()
}

/// Makes or replaces a cluster's row; the counts of releases stay.
pub(crate) fn put(connection: &Connection, cluster: &Cluster) -> rusqlite::Result<()> {
    let members = log::MemberList {
        members: cluster.members.clone(),
    };
    connection
        .prepare_cached(
            "INSERT INTO clusters (cluster, cluster_id, name, generation, site, members, releases_made,
             releases_recorded, retired) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0)
             ON CONFLICT (cluster) DO UPDATE SET generation = excluded.generation, site = excluded.site,
             members = excluded.members",
        )?
        .execute(params![
            sql(cluster.number.get()),
            cluster.id.bytes(),
            cluster.name,
            sql(cluster.generation.get()),
            cluster.site,
            members.encode_to_vec(),
        ])?;
    Ok(())
}

/// Sets the cluster aside for good.
pub(crate) fn retire(connection: &Connection, cluster: ClusterNumber) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE clusters SET retired = 1 WHERE cluster = ?1")?
        .execute([sql(cluster.get())])?;
    Ok(())
}

/// Adds a release to what the cluster will be told, unless it is retired.
pub(crate) fn add_release(
    connection: &Connection,
    cluster: ClusterNumber,
    version: VersionId,
) -> rusqlite::Result<()> {
    let sequence = connection
        .prepare_cached(
            "UPDATE clusters SET releases_made = releases_made + 1 WHERE cluster = ?1 AND retired = 0
             RETURNING releases_made",
        )?
        .query_row([sql(cluster.get())], |row| number(row, 0))
        .optional()?;
    let Some(sequence) = sequence else {
        return Ok(());
    };
    connection
        .prepare_cached("INSERT INTO outbox (cluster, sequence, version_id) VALUES (?1, ?2, ?3)")?
        .execute(params![sql(cluster.get()), sql(sequence), sql(version.get())])?;
    Ok(())
}

/// Forgets the releases up to `sequence`, which the cluster's log has recorded.
pub(crate) fn releases_recorded(
    connection: &Connection,
    cluster: ClusterNumber,
    sequence: u64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM outbox WHERE cluster = ?1 AND sequence <= ?2")?
        .execute(params![sql(cluster.get()), sql(sequence)])?;
    connection
        .prepare_cached("UPDATE clusters SET releases_recorded = ?2 WHERE cluster = ?1")?
        .execute(params![sql(cluster.get()), sql(sequence)])?;
    Ok(())
}

/// The releases that the cluster has not recorded, in order, at most `limit`: (sequence, version).
pub(crate) fn releases_waiting(
    connection: &Connection,
    cluster: ClusterNumber,
    after: u64,
    limit: u32,
) -> rusqlite::Result<Vec<(u64, VersionId)>> {
    connection
        .prepare_cached(
            "SELECT sequence, version_id FROM outbox WHERE cluster = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
        )?
        .query_map(params![sql(cluster.get()), sql(after), limit], |row| {
            Ok((number(row, 0)?, VersionId::new(number(row, 1)?)))
        })?
        .collect()
}
