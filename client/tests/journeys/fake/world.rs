//! What the fake servers share: the state of names and files, a script of faults, and a record of calls.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::error::Kind;
use common::ids::{AttemptId, ClusterId, Digest, Epoch};
use common::time::Clock;
use parking_lot::{Mutex, MutexGuard};
use proto::bulk::receipt::Receipt;
use proto::error::RpcError;
use proto::names::v1 as names;
use tonic::{Response, Status};

use super::data::Node;

pub(crate) const CLUSTER: ClusterId = ClusterId::new([7; 16]);

#[derive(Default)]
pub(crate) struct World {
    state: Mutex<State>,
    pub(crate) nodes: OnceLock<Vec<Arc<Node>>>,
}

pub(crate) struct State {
    pub(crate) supernodes: Vec<String>,
    pub(crate) names_leader: usize,
    /// Control and data addresses of the cluster's nodes.
    pub(crate) members: Vec<String>,
    pub(crate) data: Vec<String>,
    pub(crate) cluster_leader: usize,
    pub(crate) chunk_bytes: u64,
    pub(crate) uploads: BTreeMap<u64, Upload>,
    pub(crate) files: BTreeMap<String, Version>,
    pub(crate) directories: Vec<String>,
    /// What is kept with files and directories, by path.
    pub(crate) metadata: BTreeMap<String, HashMap<String, String>>,
    /// Numbers, paths and versions of what was deleted, the oldest first.
    pub(crate) trash: Vec<(u64, String, Version)>,
    next_attempt: u64,
    /// Who keeps the second copy of an attempt, as planned.
    pub(crate) delegates: BTreeMap<AttemptId, u64>,
    pub(crate) copies: usize,
    /// Just before the first seal, one node loses everything.
    pub(crate) wipe_before_seal: bool,
    /// The names layer publishes only when the outcome was asked for so often.
    pub(crate) publish_after_asked: u32,
    /// So many sessions that may be lost are lost just before they would be published.
    pub(crate) sessions_lost: u32,
    /// Permits made before this number are refused as expired.
    pub(crate) grants_valid_from: u64,
    pub(crate) grant_number: u64,
    pub(crate) grant_life: Duration,
    /// Encoded answers to changes, by their key.
    pub(crate) answered: BTreeMap<String, Vec<u8>>,
    script: BTreeMap<&'static str, VecDeque<Fault>>,
    pub(crate) calls: Vec<&'static str>,
    /// Requests of `plan chunks`, as they came.
    pub(crate) plan_requests: Vec<proto::files::v1::PlanChunksRequest>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            supernodes: Vec::new(),
            names_leader: 0,
            members: Vec::new(),
            data: Vec::new(),
            cluster_leader: 0,
            chunk_bytes: 2 << 20,
            uploads: BTreeMap::new(),
            files: BTreeMap::new(),
            directories: vec!["/me".to_owned()],
            metadata: BTreeMap::new(),
            trash: Vec::new(),
            next_attempt: 1,
            delegates: BTreeMap::new(),
            copies: 2,
            wipe_before_seal: false,
            publish_after_asked: 0,
            sessions_lost: 0,
            grants_valid_from: 0,
            grant_number: 1,
            grant_life: Duration::from_secs(60),
            answered: BTreeMap::new(),
            script: BTreeMap::new(),
            calls: Vec::new(),
            plan_requests: Vec::new(),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Upload {
    pub(crate) key: Vec<u8>,
    pub(crate) path: String,
    pub(crate) condition: names::Condition,
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) state: names::UploadState,
    pub(crate) refused: (String, String),
    /// The client says that it can send everything again.
    pub(crate) repeatable: bool,
    pub(crate) version: Option<Version>,
}

#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) version: u64,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
    pub(crate) receipts: Vec<Receipt>,
}

/// What goes wrong with one call.
#[derive(Clone)]
pub(crate) enum Fault {
    /// Carried out, but the answer never arrives.
    LoseAnswer,
    /// Not carried out; refused with this.
    Refuse(RpcError),
    /// Not carried out, and no answer for so long.
    Silence(Duration),
}

impl World {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The next call of this name goes wrong; further faults queue up behind.
    pub(crate) fn script(&self, call: &'static str, fault: Fault) {
        self.state().script.entry(call).or_default().push_back(fault);
    }

    /// How often `call` arrived.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.state().calls.iter().filter(|seen| **seen == call).count()
    }

    /// Records `call`, plays the next fault for it, and otherwise does it.
    pub(crate) async fn answer<T>(
        &self,
        call: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, RpcError>,
    ) -> Result<Response<T>, Status> {
        let fault = {
            let mut state = self.state();
            state.calls.push(call);
            state.script.get_mut(call).and_then(VecDeque::pop_front)
        };
        match fault {
            None => Ok(Response::new(work(&mut self.state())?)),
            Some(Fault::LoseAnswer) => {
                // An error of the work itself is lost as well.
                let _ = work(&mut self.state());
                Err(Status::unavailable("the connection broke"))
            }
            Some(Fault::Refuse(error)) => Err(error.into()),
            Some(Fault::Silence(span)) => {
                Clock::real().sleep(span).await;
                Err(Status::unavailable("too late"))
            }
        }
    }
}

pub(crate) fn not_found(what: &str) -> RpcError {
    RpcError::new(Kind::NotFound, "E_NOT_FOUND", format!("{what} does not exist"))
}

impl State {
    pub(crate) fn new_attempt(&mut self) -> AttemptId {
        self.next_attempt += 1;
        AttemptId::new(Epoch::new(3), self.next_attempt)
    }

    pub(crate) fn new_grant(&mut self) -> Vec<u8> {
        self.grant_number += 1;
        self.grant_number.to_be_bytes().to_vec()
    }

    pub(crate) fn location(&self) -> names::ClusterLocation {
        let members = self.members.iter().zip(&self.data).enumerate();
        names::ClusterLocation {
            cluster_id: CLUSTER.bytes().to_vec().into(),
            name: super::CLUSTER_NAME.to_owned(),
            generation: 1,
            members: members
                .map(|(at, (control, data))| names::Endpoint {
                    node_id: at as u64 + 1,
                    control: control.clone(),
                    data: data.clone(),
                    leader: false,
                })
                .collect(),
        }
    }

    pub(crate) fn entry(&self, path: &str) -> Result<names::Entry, RpcError> {
        let metadata = self.metadata.get(path).cloned().unwrap_or_default();
        if let Some(version) = self.files.get(path) {
            return Ok(names::Entry {
                metadata,
                ..version.entry(path)
            });
        }
        let below = format!("{path}/");
        let mut known = self.files.keys().chain(&self.directories);
        let is_implied = known.any(|known| known.starts_with(&below));
        if is_implied || self.directories.iter().any(|directory| directory == path) {
            return Ok(names::Entry {
                kind: names::EntryKind::Directory.into(),
                path: path.to_owned(),
                metadata,
                ..names::Entry::default()
            });
        }
        Err(not_found(path))
    }

    pub(crate) fn status_of(&self, id: u64) -> Result<names::UploadStatus, RpcError> {
        let upload = self.uploads.get(&id).ok_or_else(|| not_found("the upload"))?;
        Ok(names::UploadStatus {
            upload_id: id,
            state: upload.state.into(),
            entry: upload
                .version
                .as_ref()
                .filter(|_| upload.state == names::UploadState::Published)
                .map(|version| version.entry(&upload.path)),
            refused_code: upload.refused.0.clone(),
            refused_message: upload.refused.1.clone(),
        })
    }

    /// The one commit that makes a path point at a sealed version, or refuses.
    pub(crate) fn publish(&mut self, id: u64) {
        let Some(upload) = self.uploads.get(&id).cloned() else {
            return;
        };
        if upload.state != names::UploadState::Open {
            return;
        }
        let current = self.files.get(&upload.path).map(|version| version.version);
        let condition = upload.condition;
        let holds = !(condition.if_absent && current.is_some()
            || condition.if_present && current.is_none()
            || condition.if_version.is_some() && current != condition.if_version);
        let row = self.uploads.get_mut(&id).unwrap();
        if row.repeatable && self.sessions_lost > 0 {
            self.sessions_lost -= 1;
            row.state = names::UploadState::Refused;
            row.refused = ("E_SESSION_LOST".to_owned(), "lost".to_owned());
            // Its key leads nowhere any more.
            row.key.clear();
        } else if holds {
            row.state = names::UploadState::Published;
            self.metadata.insert(upload.path.clone(), upload.metadata);
            self.files.insert(upload.path, upload.version.unwrap());
        } else {
            row.state = names::UploadState::Refused;
            row.refused = (
                "E_CONFLICT".to_owned(),
                format!("{} is not as required", upload.path),
            );
        }
    }
}

impl Version {
    pub(crate) fn entry(&self, path: &str) -> names::Entry {
        names::Entry {
            kind: names::EntryKind::File.into(),
            path: path.to_owned(),
            version: self.version,
            size: self.size,
            digest: self.digest.bytes().to_vec().into(),
            modified_wall_millis: 1_000,
            owner: "me".to_owned(),
            metadata: Default::default(),
            clusters: vec![super::CLUSTER_NAME.to_owned()],
        }
    }
}
