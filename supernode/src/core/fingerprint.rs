//! Digests of what callers asked for, so that a key answers only the command that it came with (P4).
//!
//! The proposer computes them and the log carries them: members compare bytes and need not agree on how a command is
//! encoded. What the proposer added by itself is left out, because a repetition may be proposed by another supernode.

use prost::Message;
use prost::bytes::Bytes;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

/// The digest of a request that is no upload.
pub(crate) fn of_request(body: &Command) -> Bytes {
    let mut body = body.clone();
    match &mut body {
        Command::CreateUser(command) => {
            forget_token(&mut command.caller);
            // Salted: a repetition has another one.
            command.password_hash.clear();
            command.wall_millis = 0;
        }
        Command::SetPassword(command) => {
            forget_token(&mut command.caller);
            command.password_hash.clear();
        }
        Command::SetUserEnabled(command) => forget_token(&mut command.caller),
        Command::RetireCluster(command) => forget_token(&mut command.caller),
        Command::MakeDirectory(command) => {
            forget_token(&mut command.caller);
            command.wall_millis = 0;
        }
        Command::Rename(command) => {
            forget_token(&mut command.caller);
            command.wall_millis = 0;
            command.trash_keep_millis = 0;
        }
        Command::Delete(command) => {
            forget_token(&mut command.caller);
            // How long is configured; that it is no time at all was asked for.
            command.trash_keep_millis = command.trash_keep_millis.min(1);
        }
        Command::RestoreTrash(command) => {
            forget_token(&mut command.caller);
            command.wall_millis = 0;
        }
        _ => {}
    }
    let command = log::Command {
        dedupe: None,
        body: Some(body),
    };
    digest(&command)
}

/// The digest of an upload that is opened. Its expected size is left out: it is a hint, and one that is resumed may know
/// it better.
pub(crate) fn of_upload(path: &str, condition: Option<log::Condition>, metadata: &[log::Metadata]) -> Bytes {
    digest(&log::OpenUpload {
        path: path.to_owned(),
        condition,
        metadata: metadata.to_vec(),
        ..log::OpenUpload::default()
    })
}

/// A repetition may come with a younger token.
fn forget_token(caller: &mut Option<log::Caller>) {
    if let Some(caller) = caller {
        caller.token_generation = 0;
    }
}

fn digest(message: &impl Message) -> Bytes {
    Bytes::copy_from_slice(blake3::hash(&message.encode_to_vec()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(path: &str, generation: u64, keep: u64) -> Bytes {
        of_request(&Command::Delete(log::Delete {
            caller: Some(log::Caller {
                user_id: 1,
                token_generation: generation,
            }),
            path: path.to_owned(),
            trash_keep_millis: keep,
            ..log::Delete::default()
        }))
    }

    #[test]
    fn a_repetition_at_another_supernode_is_the_same_command() {
        assert_eq!(delete("/a", 1, 7), delete("/a", 2, 9));
        assert_ne!(delete("/a", 1, 7), delete("/b", 1, 7));
        assert_ne!(delete("/a", 1, 7), delete("/a", 1, 0), "for good");
        let password = |hash: &str, name: &str| {
            of_request(&Command::CreateUser(log::CreateUser {
                name: name.to_owned(),
                password_hash: hash.to_owned(),
                wall_millis: hash.len() as u64,
                ..log::CreateUser::default()
            }))
        };
        assert_eq!(password("a", "ada"), password("bc", "ada"));
        assert_ne!(password("a", "ada"), password("a", "bob"));
    }

    #[test]
    fn an_upload_is_its_path_condition_and_metadata() {
        let absent = Some(log::Condition {
            if_absent: true,
            ..log::Condition::default()
        });
        let first = of_upload("/a", absent, &[]);
        assert_eq!(first, of_upload("/a", absent, &[]));
        assert_ne!(first, of_upload("/b", absent, &[]));
        assert_ne!(first, of_upload("/a", None, &[]));
        let metadata = log::Metadata {
            key: "k".to_owned(),
            value: "v".to_owned(),
        };
        assert_ne!(first, of_upload("/a", absent, &[metadata]));
    }
}
