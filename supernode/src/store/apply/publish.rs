//! Makes paths point at sealed versions: the only moment of visibility (P2).
//!
//! Invariant: an upload has one outcome. It is decided here, once, from what holds at this position of the log, and
//! whoever asks again gets the same answer. Each upload of a batch is judged by itself: one that is refused, or of which
//! nothing can be said, keeps none of the others back.

use common::error::Kind;
use common::ids::{Digest, UploadId, VersionId};
use common::lifecycle::{Session as State, Version as VersionState};
use common::path::RemotePath;
use proto::names_log::v1 as log;

use super::opening::{self, Found};
use super::{At, Stop, cluster_id, millis, path};
use crate::core::publication::{Case, judge};
use crate::core::quota::VERSION_BYTES_MAX;
use crate::core::refusal::Refusal;
use crate::store::bucket::{self, Bucket};
use crate::store::cluster::{self, Cluster};
use crate::store::counter::Counter;
use crate::store::lost;
use crate::store::number::{NUMBER_MAX, amount};
use crate::store::session::{self, End, Session};
use crate::store::trash::{self, Origin, Stay};
use crate::store::tree::{self, Spot};
use crate::store::user::{self, User};
use crate::store::version::{self, Version};

pub(super) fn apply(at: At<'_>, command: &log::Publish) -> Result<log::PublishOutcomes, Stop> {
    let cluster =
        cluster::by_id(at.tables, cluster_id(&command.cluster_id)?)?.ok_or_else(Refusal::unknown_cluster)?;
    if cluster.retired {
        return Err(Refusal::retired(&cluster.name).into());
    }
    if cluster.generation.get() != command.generation {
        return Err(Refusal::stale_generation(&cluster.name, cluster.generation, command.generation).into());
    }
    let last = Counter::Upload.last(at.tables)?;
    for id in command.outcomes_recorded.iter().filter(|id| **id <= NUMBER_MAX) {
        let known = session::by_id(at.tables, UploadId::new(*id))?;
        if known.is_some_and(|session| session.cluster == cluster.number) {
            session::set_recorded(at.tables, UploadId::new(*id))?;
        }
    }
    let stay = Stay {
        now: at.now,
        keep: millis(command.trash_keep_millis),
    };
    let outcomes: Result<Vec<_>, Stop> = command
        .items
        .iter()
        .map(|item| one(at, &cluster, item, last, stay))
        .collect();
    Ok(log::PublishOutcomes { outcomes: outcomes? })
}

/// An upload that was never opened here, as far as this state knows: the state is not the one that opened it.
fn state_lost(upload: u64, last: u64) -> Refusal {
    Refusal::new(
        Kind::Retry,
        "E_STATE_LOST",
        format!(
            "upload {upload} is sealed, but the names group has opened none after {last}: state was lost"
        ),
    )
    .hint("restore the names group before anything is reclaimed")
}

/// An upload whose outcome the cluster's log had recorded, or it would be known: the question is a late copy. Never
/// answered "refused", because what was published may have been released since.
fn forgotten(id: UploadId) -> Refusal {
    Refusal::new(
        Kind::Stale,
        "E_UPLOAD_FORGOTTEN",
        format!("the outcome of upload {id} was recorded by its cluster and is not kept any more"),
    )
}

fn one(
    at: At<'_>,
    cluster: &Cluster,
    item: &log::PublishItem,
    last: u64,
    stay: Stay,
) -> Result<log::PublishOutcome, Stop> {
    let id = UploadId::new(item.upload_id);
    if item.upload_id > last {
        return Ok(undecided(id, &state_lost(item.upload_id, last)));
    }
    let found = match opening::find(at, id, item.opening.as_ref()) {
        Ok(found) => found,
        // What came along is not understood; of the upload that says nothing.
        Err(Stop::Refused(refusal)) => return Ok(undecided(id, &refusal)),
        Err(stop) => return Err(stop),
    };
    let (session, has_row) = match found {
        Found::Recorded(session) => (session, true),
        Found::Unrecorded(session) => (session, false),
        Found::KeyTaken => {
            lost::add(at.tables, id.get(), id.get())?;
            return Ok(session_lost(item.upload_id));
        }
        Found::Lost => return Ok(session_lost(item.upload_id)),
        Found::Nothing if version::by_id(at.tables, id.version())?.is_some() => {
            return Ok(published(item.upload_id));
        }
        // Of what comes with its opening something would be known.
        Found::Nothing if item.opening.is_none() => return Ok(undecided(id, &forgotten(id))),
        Found::Nothing => {
            return Ok(refused(
                item.upload_id,
                "E_UPLOAD_UNKNOWN",
                "the upload is not known any more",
            ));
        }
    };
    if session.cluster != cluster.number {
        let message = "the upload belongs to another cluster";
        return Ok(refused(item.upload_id, "E_WRONG_CLUSTER", message));
    }
    match session.state {
        State::Published => Ok(published(item.upload_id)),
        State::Refused => Ok(refused(
            item.upload_id,
            &session.refused_code,
            &session.refused_message,
        )),
        State::Aborted => Ok(refused(
            item.upload_id,
            "E_UPLOAD_ABORTED",
            "the upload was aborted before it was published",
        )),
        State::Open => decide(at, &session, has_row, cluster, item, stay),
    }
}

fn decide(
    at: At<'_>,
    session: &Session,
    has_row: bool,
    cluster: &Cluster,
    item: &log::PublishItem,
    stay: Stay,
) -> Result<log::PublishOutcome, Stop> {
    let end = |end: &End| match has_row {
        true => session::end(at.tables, session, end, at.now),
        false => session::insert_ended(at.tables, session, end, at.now),
    };
    match judge_publication(at, session, cluster, item) {
        Ok(plan) => {
            carry_out(at, session, item, &plan, stay)?;
            end(&End::Published)?;
            Ok(published(item.upload_id))
        }
        Err(Stop::Refused(refusal)) => {
            let outcome = refused(item.upload_id, refusal.code(), refusal.message());
            end(&End::Refused(refusal))?;
            Ok(outcome)
        }
        Err(Stop::Sql(error)) => Err(Stop::Sql(error)),
    }
}

/// What a publication that stands will write.
struct Plan {
    bucket: Bucket,
    path: RemotePath,
    spot: Spot,
    replaced: Option<VersionId>,
    digest: Digest,
}

fn judge_publication(
    at: At<'_>,
    session: &Session,
    cluster: &Cluster,
    item: &log::PublishItem,
) -> Result<Plan, Stop> {
    if session.generation != cluster.generation {
        let (known, now) = (session.generation.get(), cluster.generation);
        return Err(Refusal::stale_generation(&cluster.name, now, known).into());
    }
    if item.modified_wall_millis > NUMBER_MAX {
        return Err(Refusal::number(item.modified_wall_millis).into());
    }
    if item.size > VERSION_BYTES_MAX {
        return Err(Refusal::too_large(item.size).into());
    }
    let digest = Digest::try_from(item.digest.as_ref())
        .map_err(|error| Refusal::invalid("E_DIGEST", error.to_string()))?;
    let path = path(&session.path)?;
    let uploader = user::by_id(at.tables, session.user)?.filter(|user| user.enabled);
    let uploader = uploader.ok_or_else(|| {
        Refusal::new(
            Kind::Denied,
            "E_DENIED",
            "the user who began the upload is disabled",
        )
    })?;
    let bucket = bucket::of_path(at.tables, uploader.caller(), &path)?;
    let owner = account(at, &bucket, uploader)?;
    let spot = tree::look(at.tables, &bucket, &path)?;
    let case = Case {
        path: path.as_str(),
        target: spot.target(),
        condition: session.condition,
        size_bytes: item.size,
        quota: owner.quota(session.reserved_bytes),
    };
    let replaced = judge(&case)?;
    Ok(Plan {
        bucket,
        path,
        spot,
        replaced,
        digest,
    })
}

fn account(at: At<'_>, bucket: &Bucket, uploader: User) -> Result<User, Stop> {
    if bucket.owner == uploader.id {
        return Ok(uploader);
    }
    let owner = user::by_id(at.tables, bucket.owner)?;
    owner.ok_or_else(|| {
        Stop::Refused(Refusal::new(
            Kind::Denied,
            "E_DENIED",
            "the bucket has no owner any more",
        ))
    })
}

fn carry_out(
    at: At<'_>,
    session: &Session,
    item: &log::PublishItem,
    plan: &Plan,
    stay: Stay,
) -> Result<(), Stop> {
    let name = plan.path.name().unwrap_or_default();
    let directory = match &plan.spot {
        Spot::File { directory, .. } | Spot::Directory(directory) => *directory,
        Spot::Nothing { above, missing } => {
            let parents = missing.split_last().map_or(&[][..], |(_, parents)| parents);
            tree::make(
                at.tables,
                plan.bucket.id,
                *above,
                parents,
                item.modified_wall_millis,
            )?
        }
        Spot::BelowFile(file) => return Err(Refusal::not_a_directory(file).into()),
    };
    let row = Version {
        id: session.id.version(),
        state: VersionState::Published,
        bucket: plan.bucket.id,
        user: session.user,
        cluster: session.cluster,
        size_bytes: item.size,
        digest: plan.digest,
        modified_wall_millis: item.modified_wall_millis,
        metadata: session.metadata.clone(),
        trash_id: 0,
    };
    version::insert(at.tables, &row)?;
    if let Some(replaced) = plan.replaced {
        tree::unpoint(at.tables, directory, name)?;
        let origin = Origin {
            bucket: plan.bucket.id,
            directory,
            name,
            path: plan.path.as_str(),
        };
        trash::put_version(at.tables, replaced, &origin, stay)?;
    }
    tree::point(at.tables, directory, name, row.id)?;
    let change = user::Change {
        used: amount(item.size)?,
        ..user::Change::default()
    };
    user::charge(at.tables, plan.bucket.owner, change)?;
    Ok(())
}

/// The session ended with the leader that alone knew it, or the client opened the upload twice.
fn session_lost(upload_id: u64) -> log::PublishOutcome {
    let message =
        "the upload's session was lost with the supernode that held it: open it again with the same key";
    refused(upload_id, "E_SESSION_LOST", message)
}

fn published(upload_id: u64) -> log::PublishOutcome {
    log::PublishOutcome {
        upload_id,
        published: true,
        ..log::PublishOutcome::default()
    }
}

/// Nothing is decided, and nothing may be concluded.
fn undecided(id: UploadId, why: &Refusal) -> log::PublishOutcome {
    log::PublishOutcome {
        undecided: true,
        ..refused(id.get(), why.code(), why.message())
    }
}

fn refused(upload_id: u64, code: &str, message: &str) -> log::PublishOutcome {
    log::PublishOutcome {
        upload_id,
        published: false,
        refused_code: code.to_owned(),
        refused_message: message.to_owned(),
        undecided: false,
    }
}
