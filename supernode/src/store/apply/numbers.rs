//! The numbers of a command, looked at before it is applied.
//!
//! Invariant: no command with a number that the tables cannot keep is applied, because a statement that cannot be carried
//! out stops every member, at every start again. Each command is taken apart in full, so that whoever adds a number to one
//! decides here what becomes of it.

use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use crate::core::refusal::Refusal;
use crate::store::number::NUMBER_MAX;

/// Looks at every number of `command`.
///
/// # Errors
/// `Invalid`: one is too large.
pub(super) fn check(command: &log::Command) -> Result<(), Refusal> {
    let mut largest = Largest::default();
    if let Some(log::Dedupe {
        user_id,
        key: _,
        key_born_millis,
        command_digest: _,
    }) = &command.dedupe
    {
        largest.see(&[*user_id, *key_born_millis]);
    }
    if let Some(body) = &command.body {
        largest.body(body);
    }
    match largest.0 <= NUMBER_MAX {
        true => Ok(()),
        false => Err(Refusal::number(largest.0)),
    }
}

/// The largest number seen. Windows and limits are compared, or bounded where they are used, and not kept.
#[derive(Default)]
struct Largest(u64);

impl Largest {
    fn see(&mut self, numbers: &[u64]) {
        self.0 = numbers.iter().copied().fold(self.0, u64::max);
    }

    fn caller(&mut self, caller: Option<&log::Caller>) {
        if let Some(log::Caller {
            user_id,
            token_generation,
        }) = caller
        {
            self.see(&[*user_id, *token_generation]);
        }
    }

    fn opening(&mut self, opening: Option<&log::Opening>) {
        if let Some(log::Opening {
            upload_id,
            upload,
            generation,
        }) = opening
        {
            self.see(&[*upload_id, *generation]);
            upload.iter().for_each(|upload| self.open_upload(upload));
        }
    }

    fn open_upload(&mut self, upload: &log::OpenUpload) {
        let log::OpenUpload {
            caller,
            idempotency_key: _,
            key_born_millis,
            path: _,
            size_hint,
            condition,
            metadata: _,
            cluster_id: _,
            command_digest: _,
            open_per_user_max: _,
            failed_per_user_max: _,
        } = upload;
        self.caller(caller.as_ref());
        // A size has a bound of its own, with a refusal of its own.
        let size = size_hint.filter(|size| *size <= NUMBER_MAX).unwrap_or(0);
        let version = condition.and_then(|condition| condition.if_version);
        self.see(&[*key_born_millis, size, version.unwrap_or(0)]);
    }

    fn publish(&mut self, publish: &log::Publish) {
        let log::Publish {
            cluster_id: _,
            generation,
            items,
            // Each is looked for by itself.
            outcomes_recorded: _,
            trash_keep_millis: _,
        } = publish;
        self.see(&[*generation]);
        for item in items {
            // Each item is judged by itself.
            let log::PublishItem {
                upload_id: _,
                size: _,
                digest: _,
                modified_wall_millis: _,
                opening,
            } = item;
            self.opening(opening.as_ref());
        }
    }

    fn body(&mut self, body: &Command) {
        match body {
            Command::CreateUser(_)
            | Command::SetPassword(_)
            | Command::SetUserEnabled(_)
            | Command::RotateSigningKey(_) => self.account(body),
            Command::OpenUpload(upload) => self.open_upload(upload),
            Command::Publish(publish) => self.publish(publish),
            Command::AbortUpload(log::AbortUpload {
                caller,
                upload_id,
                opening,
            }) => {
                self.caller(caller.as_ref());
                self.see(&[*upload_id]);
                self.opening(opening.as_ref());
            }
            Command::RecordUploads(log::RecordUploads { openings }) => {
                openings.iter().for_each(|opening| self.opening(Some(opening)));
            }
            Command::Forget(log::Forget {
                // Never kept above the time at which it is applied.
                keys_refused_before_millis: _,
                upload_ids,
                keys_limit: _,
                closed_up_to,
            }) => {
                self.see(upload_ids);
                self.see(&[*closed_up_to]);
            }
            Command::ReserveUploads(log::ReserveUploads {
                count: _,
                closed_up_to,
            }) => self.see(&[*closed_up_to]),
            Command::CloseUploads(log::CloseUploads {})
            | Command::ExpireSessions(log::ExpireSessions {
                idle_millis: _,
                limit: _,
            })
            | Command::ExpireTrash(log::ExpireTrash { limit: _ })
            | Command::SettleRetired(log::SettleRetired { limit: _ })
            | Command::AbandonedUploads(log::AbandonedUploads {
                cluster_id: _,
                // Each is looked for by itself.
                upload_ids: _,
            }) => {}
            Command::RetireCluster(log::RetireCluster { caller, name: _ }) => self.caller(caller.as_ref()),
            Command::MakeDirectory(_)
            | Command::Rename(_)
            | Command::Delete(_)
            | Command::RestoreTrash(_)
            | Command::EmptyTrash(_) => self.tree(body),
            Command::ReleasesRecorded(log::ReleasesRecorded {
                cluster_id: _,
                sequence,
            }) => self.see(&[*sequence]),
            // A member's node id is kept within a message, not as a number.
            Command::RegisterCluster(log::RegisterCluster {
                cluster_id: _,
                name: _,
                generation,
                site: _,
                members: _,
            }) => self.see(&[*generation]),
        }
    }

    fn account(&mut self, body: &Command) {
        match body {
            Command::CreateUser(log::CreateUser {
                caller,
                name: _,
                password_hash: _,
                admin: _,
                quota_bytes,
                wall_millis,
                bootstrap: _,
            }) => {
                self.caller(caller.as_ref());
                self.see(&[quota_bytes.unwrap_or(0), *wall_millis]);
            }
            Command::SetPassword(log::SetPassword {
                caller,
                user_id,
                password_hash: _,
            })
            | Command::SetUserEnabled(log::SetUserEnabled {
                caller,
                user_id,
                enabled: _,
            }) => {
                self.caller(caller.as_ref());
                self.see(&[*user_id]);
            }
            Command::RotateSigningKey(log::RotateSigningKey { seed: _, replaces }) => {
                self.see(&[replaces.unwrap_or(0)]);
            }
            _ => {}
        }
    }

    fn tree(&mut self, body: &Command) {
        match body {
            Command::MakeDirectory(log::MakeDirectory {
                caller,
                path: _,
                wall_millis,
                metadata: _,
            }) => {
                self.caller(caller.as_ref());
                self.see(&[*wall_millis]);
            }
            Command::Rename(log::Rename {
                caller,
                from: _,
                to: _,
                replace: _,
                trash_keep_millis: _,
                wall_millis,
            }) => {
                self.caller(caller.as_ref());
                self.see(&[*wall_millis]);
            }
            Command::Delete(log::Delete {
                caller,
                path: _,
                recursive: _,
                if_version,
                trash_keep_millis: _,
            }) => {
                self.caller(caller.as_ref());
                self.see(&[if_version.unwrap_or(0)]);
            }
            Command::RestoreTrash(log::RestoreTrash {
                caller,
                trash_id,
                to: _,
                wall_millis,
            }) => {
                self.caller(caller.as_ref());
                self.see(&[*trash_id, *wall_millis]);
            }
            Command::EmptyTrash(log::EmptyTrash {
                caller,
                path: _,
                trash_ids,
            }) => {
                self.caller(caller.as_ref());
                self.see(trash_ids);
            }
            _ => {}
        }
    }
}
