//! A names group of one, without a log: commands are applied to tables in memory, one after the other.

use std::collections::BTreeMap;

use common::ids::{UploadId, UserId, VersionId};
use common::lifecycle::Session;
use common::time::ClusterTime;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use rusqlite::Connection;

use super::{At, apply, decode_refusal};
use crate::core::permission::Caller;
use crate::core::refusal::Refusal;
use crate::store::{schema, session, user};

/// How long the tests keep things in the trash.
pub(crate) const KEEP_MILLIS: u64 = 10_000;
/// The dedupe window of the tests.
pub(crate) const WINDOW_MILLIS: u64 = 100_000;
/// The cluster that [`Bench::new`] registers.
pub(crate) const ALPHA: [u8; 16] = [0xa1; 16];

pub(crate) struct Bench {
    pub(crate) tables: Connection,
    pub(crate) now: u64,
    keys: u64,
}

impl Bench {
    /// With an administrator `root`, users `ada` and `bob`, and the cluster `alpha`.
    pub(crate) fn new() -> Self {
        let tables = Connection::open_in_memory().unwrap();
        schema::create(&tables).unwrap();
        let mut bench = Self {
            tables,
            now: 1_000,
            keys: 0,
        };
        bench
            .run(Command::CreateUser(user_command("root", true, true, None)))
            .unwrap();
        let root = bench.caller("root");
        for name in ["ada", "bob"] {
            bench
                .run(Command::CreateUser(user_command(name, false, false, Some(root))))
                .unwrap();
        }
        bench.register("alpha", ALPHA).unwrap();
        bench
    }

    pub(crate) fn apply(&mut self, command: log::Command) -> log::Reply {
        let at = At {
            tables: &self.tables,
            now: ClusterTime::from_millis(self.now),
        };
        apply(at, command).unwrap()
    }

    pub(crate) fn run(&mut self, body: Command) -> Result<Reply, Refusal> {
        let reply = self.apply(log::Command {
            dedupe: None,
            body: Some(body),
        });
        match reply.refusal {
            Some(refusal) => Err(decode_refusal(refusal)),
            None => Ok(reply.body.unwrap()),
        }
    }

    /// The code of the refusal, or `ok`.
    pub(crate) fn code(&mut self, body: Command) -> String {
        self.run(body)
            .map_or_else(|refusal| refusal.code().to_owned(), |_| "ok".to_owned())
    }

    pub(crate) fn user(&self, name: &str) -> user::User {
        user::by_name(&self.tables, name).unwrap().unwrap()
    }

    pub(crate) fn caller(&self, name: &str) -> log::Caller {
        let user = self.user(name);
        log::Caller {
            user_id: user.id.get(),
            token_generation: user.token_generation,
        }
    }

    pub(crate) fn as_caller(&self, name: &str) -> Caller {
        self.user(name).caller()
    }

    pub(crate) fn register(&mut self, name: &str, id: [u8; 16]) -> Result<Reply, Refusal> {
        self.run(Command::RegisterCluster(log::RegisterCluster {
            cluster_id: id.to_vec().into(),
            name: name.to_owned(),
            generation: 1,
            site: String::new(),
            members: Vec::new(),
        }))
    }

    /// `Forget` as a leader with [`WINDOW_MILLIS`] proposes it now, for `uploads`.
    pub(crate) fn forgetting(&self, uploads: &[u64], closed_up_to: u64, keys_limit: u32) -> Command {
        Command::Forget(log::Forget {
            keys_refused_before_millis: self.now.saturating_sub(WINDOW_MILLIS),
            upload_ids: uploads.to_vec(),
            keys_limit,
            closed_up_to,
        })
    }

    pub(crate) fn opening(&mut self, user: &str, path: &str) -> log::OpenUpload {
        self.keys += 1;
        log::OpenUpload {
            caller: Some(self.caller(user)),
            idempotency_key: u128::from(self.keys).to_be_bytes().to_vec().into(),
            key_born_millis: self.now,
            path: path.to_owned(),
            size_hint: Some(100),
            condition: None,
            metadata: Vec::new(),
            cluster_id: ALPHA.to_vec().into(),
            open_per_user_max: 100,
            command_digest: path.as_bytes().to_vec().into(),
            failed_per_user_max: Some(10_000),
        }
    }

    pub(crate) fn open_with(&mut self, opening: log::OpenUpload) -> Result<UploadId, Refusal> {
        match self.run(Command::OpenUpload(opening))? {
            Reply::Upload(upload) => Ok(UploadId::new(upload.upload_id)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn open(&mut self, user: &str, path: &str) -> UploadId {
        let opening = self.opening(user, path);
        self.open_with(opening).unwrap()
    }

    pub(crate) fn publishing(&self, id: UploadId, size: u64) -> log::Publish {
        log::Publish {
            cluster_id: ALPHA.to_vec().into(),
            generation: 1,
            items: vec![log::PublishItem {
                upload_id: id.get(),
                size,
                digest: vec![id.get() as u8; 32].into(),
                modified_wall_millis: self.now,
                opening: None,
            }],
            outcomes_recorded: Vec::new(),
            trash_keep_millis: KEEP_MILLIS,
        }
    }

    /// A session that its leader alone knows.
    pub(crate) fn unrecorded(&mut self, upload: log::OpenUpload) -> log::Opening {
        let command = log::ReserveUploads {
            count: 1,
            closed_up_to: 0,
        };
        match self.run(Command::ReserveUploads(command)) {
            Ok(Reply::Reserved(reserved)) => log::Opening {
                upload_id: reserved.first,
                upload: Some(upload),
                generation: 1,
            },
            other => panic!("{other:?}"),
        }
    }

    /// As [`Bench::publish`], for a command that brings `opening` along.
    pub(crate) fn publish_opening(&mut self, opening: &log::Opening) -> String {
        let mut command = self.publishing(UploadId::new(opening.upload_id), 100);
        command.items[0].opening = Some(opening.clone());
        self.outcome(command)
    }

    /// `ok`, or the code of the refusal that is the outcome.
    pub(crate) fn publish(&mut self, id: UploadId, size: u64) -> String {
        let command = self.publishing(id, size);
        self.outcome(command)
    }

    fn outcome(&mut self, command: log::Publish) -> String {
        match self.run(Command::Publish(command)) {
            Ok(Reply::Outcomes(all)) if all.outcomes[0].published => "ok".to_owned(),
            Ok(Reply::Outcomes(all)) => all.outcomes[0].refused_code.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// A published file of 100 bytes.
    pub(crate) fn put(&mut self, user: &str, path: &str) -> VersionId {
        let id = self.open(user, path);
        assert_eq!(self.publish(id, 100), "ok", "{path}");
        id.version()
    }

    pub(crate) fn abort(&mut self, user: &str, id: UploadId) -> Result<Session, Refusal> {
        let command = log::AbortUpload {
            caller: Some(self.caller(user)),
            upload_id: id.get(),
            opening: None,
        };
        match self.run(Command::AbortUpload(command))? {
            Reply::Upload(upload) => Ok(Session::from_code(upload.state as u8).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn state(&self, id: UploadId) -> Session {
        session::by_id(&self.tables, id).unwrap().unwrap().state
    }

    pub(crate) fn make_directory(&mut self, user: &str, path: &str) -> String {
        let command = log::MakeDirectory {
            caller: Some(self.caller(user)),
            path: path.to_owned(),
            wall_millis: self.now,
            metadata: Vec::new(),
        };
        self.code(Command::MakeDirectory(command))
    }

    pub(crate) fn rename(&mut self, user: &str, from: &str, to: &str, replace: bool) -> String {
        let command = log::Rename {
            caller: Some(self.caller(user)),
            from: from.to_owned(),
            to: to.to_owned(),
            replace,
            trash_keep_millis: KEEP_MILLIS,
            wall_millis: self.now,
        };
        self.code(Command::Rename(command))
    }

    pub(crate) fn delete(&mut self, user: &str, path: &str, recursive: bool) -> String {
        let command = log::Delete {
            caller: Some(self.caller(user)),
            path: path.to_owned(),
            recursive,
            if_version: None,
            trash_keep_millis: KEEP_MILLIS,
        };
        self.code(Command::Delete(command))
    }

    /// Empties what is due in steps of `limit`; (released, commands).
    pub(crate) fn expire(&mut self, limit: u32) -> (u64, u32) {
        let (mut released, mut commands) = (0, 0);
        loop {
            let Ok(Reply::Worked(worked)) = self.run(Command::ExpireTrash(log::ExpireTrash { limit })) else {
                panic!("expiry was refused");
            };
            released += worked.count;
            commands += 1;
            if !worked.more {
                return (released, commands);
            }
        }
    }

    pub(crate) fn count(&self, table: &str) -> i64 {
        self.tables
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap()
    }

    /// Every figure that is kept beside the rows equals what the rows say.
    pub(crate) fn check_accounts(&self) {
        let wrong: i64 = self
            .tables
            .query_row(
                "SELECT (SELECT count(*) FROM users u WHERE
                   used_bytes != (SELECT coalesce(sum(size_bytes), 0) FROM versions v JOIN buckets b USING (bucket_id)
                                  WHERE b.owner = u.user_id)
                OR reserved_bytes != (SELECT coalesce(sum(reserved_bytes), 0) FROM uploads
                                      WHERE state = 1 AND charged_to = u.user_id)
                OR uploads_open != (SELECT count(*) FROM uploads p WHERE state = 1 AND p.user_id = u.user_id)
                OR uploads_failed != (SELECT count(*) FROM uploads p WHERE state IN (3, 4) AND p.user_id = u.user_id))
                + (SELECT count(*) FROM clusters c WHERE releases_made - releases_recorded
                   != (SELECT count(*) FROM outbox o WHERE o.cluster = c.cluster))",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(wrong, 0, "the accounts are off");
        self.check_directories();
        let named: i64 = self
            .tables
            .query_row("SELECT count(*) FROM versions WHERE trash_id = 0", [], |row| {
                row.get(0)
            })
            .unwrap();
        let below: i64 = self
            .tables
            .query_row(
                "SELECT sum(files_below) FROM directories WHERE parent_id IN (0, 1)",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(
            below, named,
            "files below buckets and below directories in the trash"
        );
        self.check_rows();
    }

    /// What every directory says that it has below it is there, counted one by one.
    fn check_directories(&self) {
        let rows = |statement: &str| -> Vec<(u64, u64, String, [u64; 4])> {
            let mut statement = self.tables.prepare(statement).unwrap();
            let rows = statement.query_map([], |row| {
                let figures = [3, 4, 5, 6].map(|at| row.get::<_, i64>(at).unwrap() as u64);
                Ok((
                    row.get::<_, i64>(0)? as u64,
                    row.get::<_, i64>(1)? as u64,
                    row.get(2)?,
                    figures,
                ))
            });
            rows.unwrap().collect::<rusqlite::Result<_>>().unwrap()
        };
        let directories = rows(
            "SELECT directory_id, parent_id, name, files_below, bytes_below, longest_below, deepest_below
             FROM directories",
        );
        let files = rows(
            "SELECT 0, f.directory_id, f.name, v.size_bytes, 0, 0, 0 FROM files f JOIN versions v USING (version_id)",
        );
        let mut counted: BTreeMap<u64, [u64; 4]> = BTreeMap::new();
        let above: BTreeMap<u64, (u64, usize)> = directories
            .iter()
            .map(|(id, parent, name, _)| (*id, (*parent, name.len())))
            .collect();
        let mut climb = |parent: u64, name: &str, file: Option<u64>| {
            let (mut at, mut bytes, mut depth) = (parent, 1 + name.len() as u64, 1);
            while let Some((up, length)) = above.get(&at) {
                let found = counted.entry(at).or_default();
                found[0] += u64::from(file.is_some());
                found[1] += file.unwrap_or(0);
                found[2] = found[2].max(bytes);
                found[3] = found[3].max(depth);
                (at, bytes, depth) = (*up, bytes + 1 + *length as u64, depth + 1);
            }
        };
        for (_, directory, name, [size, ..]) in &files {
            climb(*directory, name, Some(*size));
        }
        for (_, parent, name, _) in &directories {
            climb(*parent, name, None);
        }
        for (id, _, name, said) in &directories {
            let found = counted.get(id).copied().unwrap_or_default();
            assert_eq!(said[..2], found[..2], "files and bytes below {name}");
            assert!(
                said[2] >= found[2] && said[3] >= found[3],
                "bounds below {name}: {said:?}, {found:?}"
            );
        }
    }

    /// Rows that name each other exist.
    fn check_rows(&self) {
        let dangling: i64 = self
            .tables
            .query_row(
                "SELECT (SELECT count(*) FROM files LEFT JOIN versions USING (version_id) WHERE size_bytes IS NULL)
                      + (SELECT count(*) FROM versions v WHERE trash_id = 0
                         AND NOT EXISTS (SELECT 1 FROM files f WHERE f.version_id = v.version_id))
                      + (SELECT count(*) FROM files f JOIN directories d
                         ON d.parent_id = f.directory_id AND d.name = f.name)",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(dangling, 0, "rows contradict each other");
    }
}

pub(crate) fn user_command(
    name: &str,
    admin: bool,
    bootstrap: bool,
    caller: Option<log::Caller>,
) -> log::CreateUser {
    log::CreateUser {
        caller,
        name: name.to_owned(),
        password_hash: "hash".to_owned(),
        admin,
        quota_bytes: None,
        wall_millis: 7,
        bootstrap,
    }
}

/// The id of a user made by [`Bench::new`].
pub(crate) fn id_of(bench: &Bench, name: &str) -> UserId {
    bench.user(name).id
}
