//! The one permission check. Every request passes through [`check`] before anything is read for it or done by it,
//! and again when a command is applied.
//!
//! Invariant (P9): the answer does not depend on whether a thing exists that the caller may not see. For paths, uploads
//! and the trash "may not know" and "is not there" are the same [`Refusal`], word for word.

use common::error::Kind;
use common::ids::{UploadId, UserId};
use common::path::RemotePath;

use super::refusal::Refusal;

/// Who asks: an enabled user, as a valid token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The user.
    pub(crate) id: UserId,
    /// Whether the user administers the installation: may do everything.
    pub(crate) admin: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask<'a> {
    /// To see what is at or below a path, or to change it. `owner` of its bucket; `None` where there is no such bucket.
    Path {
        /// As the caller wrote it.
        path: &'a RemotePath,
        /// Whose bucket.
        owner: Option<UserId>,
    },
    /// To see or to end an upload session of `owner`; `None` where there is no such session.
    Upload {
        /// Which.
        id: UploadId,
        /// Who opened it.
        owner: Option<UserId>,
    },
    /// To see or to bring back an item of the trash in a bucket of `owner`; `None` where there is no such item.
    Trash {
        /// Which.
        id: u64,
        /// Whose bucket.
        owner: Option<UserId>,
    },
    /// To see or change the account of a user; `None` where there is no such user.
    Account {
        /// As the caller wrote it.
        name: &'a str,
        /// Who that is.
        id: Option<UserId>,
    },
    /// To do what only administrators may, in a few words: `create users`.
    Administer(&'a str),
}

/// Whether `caller` may do what is asked.
///
/// # Errors
/// `NotFound` where the caller may not know of the thing, `Denied` where knowing it gives nothing away.
pub(crate) fn check(caller: Caller, ask: Ask<'_>) -> Result<(), Refusal> {
    match ask {
        Ask::Path { path, owner } => match owner {
            Some(owner) if caller.admin || owner == caller.id => Ok(()),
            Some(_) | None => Err(Refusal::no_path(path)),
        },
        Ask::Upload { id, owner } => match owner {
            Some(owner) if caller.admin || owner == caller.id => Ok(()),
            Some(_) | None => Err(Refusal::no_upload(id)),
        },
        Ask::Trash { id, owner } => match owner {
            Some(owner) if caller.admin || owner == caller.id => Ok(()),
            Some(_) | None => Err(Refusal::no_trash(id)),
        },
        Ask::Account { name, id } => match id {
            Some(id) if id == caller.id => Ok(()),
            Some(_) if caller.admin => Ok(()),
            None if caller.admin => Err(Refusal::no_user(name)),
            Some(_) | None => Err(denied("touch the accounts of others")),
        },
        Ask::Administer(_) if caller.admin => Ok(()),
        Ask::Administer(what) => Err(denied(what)),
    }
}

fn denied(what: &str) -> Refusal {
    Refusal::new(
        Kind::Denied,
        "E_DENIED",
        format!("only administrators may {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: UserId = UserId::new(1);
    const OTHER: UserId = UserId::new(2);
    const ADMIN: UserId = UserId::new(3);

    fn caller(id: UserId) -> Caller {
        Caller {
            id,
            admin: id == ADMIN,
        }
    }

    #[test]
    fn the_matrix() {
        let path: RemotePath = "/me/x".parse().unwrap();
        let upload = UploadId::new(9);
        // Ask, then whether the owner, another user and an administrator may.
        let rows = [
            (
                Ask::Path {
                    path: &path,
                    owner: Some(OWNER),
                },
                [true, false, true],
            ),
            (
                Ask::Path {
                    path: &path,
                    owner: None,
                },
                [false, false, false],
            ),
            (
                Ask::Upload {
                    id: upload,
                    owner: Some(OWNER),
                },
                [true, false, true],
            ),
            (
                Ask::Upload {
                    id: upload,
                    owner: None,
                },
                [false, false, false],
            ),
            (
                Ask::Account {
                    name: "me",
                    id: Some(OWNER),
                },
                [true, false, true],
            ),
            (Ask::Account { name: "me", id: None }, [false, false, false]),
            (
                Ask::Trash {
                    id: 3,
                    owner: Some(OWNER),
                },
                [true, false, true],
            ),
            (Ask::Trash { id: 3, owner: None }, [false, false, false]),
            (Ask::Administer("create users"), [false, false, true]),
        ];
        for (ask, expected) in rows {
            for (id, may) in [OWNER, OTHER, ADMIN].into_iter().zip(expected) {
                assert_eq!(check(caller(id), ask).is_ok(), may, "{ask:?} by {id}");
            }
        }
    }

    #[test]
    fn hidden_and_absent_are_one_answer() {
        let path: RemotePath = "/me/x".parse().unwrap();
        for (hidden, absent) in [
            (
                Ask::Path {
                    path: &path,
                    owner: Some(OWNER),
                },
                Ask::Path {
                    path: &path,
                    owner: None,
                },
            ),
            (
                Ask::Account {
                    name: "me",
                    id: Some(OWNER),
                },
                Ask::Account { name: "me", id: None },
            ),
            (
                Ask::Trash {
                    id: 3,
                    owner: Some(OWNER),
                },
                Ask::Trash { id: 3, owner: None },
            ),
            (
                Ask::Upload {
                    id: UploadId::new(4),
                    owner: Some(OWNER),
                },
                Ask::Upload {
                    id: UploadId::new(4),
                    owner: None,
                },
            ),
        ] {
            assert_eq!(check(caller(OTHER), hidden), check(caller(OTHER), absent));
        }
        let nothing_there = Refusal::no_path(&path);
        let hidden = Ask::Path {
            path: &path,
            owner: Some(OWNER),
        };
        assert_eq!(check(caller(OTHER), hidden), Err(nothing_there));
    }
}
