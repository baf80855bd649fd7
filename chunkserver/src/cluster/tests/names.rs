//! A names layer in memory: signs tickets, decides publications, releases and aborts as a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::ids::{ClusterId, KeyId};
use common::net::Network;
use common::shutdown::Shutdown;
use common::time::Clock;
use common::tls::{ALPN_CONTROL, Identity, Reloadable};
use parking_lot::Mutex;
use proto::control::{Limits, Routes, serve};
use proto::registry::v1 as wire;
use proto::registry::v1::registry_server::{Registry, RegistryServer};
use proto::ticket::{Body, Purpose, SigningKey, v1 as ticket};
use tonic::{Request, Response, Status};

const NOW: u64 = 1_000_000;

#[derive(Default)]
pub(super) struct Said {
    pub(super) published: BTreeMap<u64, u32>,
    pub(super) recorded: BTreeSet<u64>,
    pub(super) abandoned: BTreeSet<u64>,
    pub(super) releases_recorded: u64,
    pub(super) status: Option<proto::names::v1::ClusterStatus>,
}

#[derive(Default)]
struct State {
    said: Said,
    refuse: BTreeSet<u64>,
    /// Of these nothing can be said.
    puzzling: BTreeSet<u64>,
    releases: Vec<wire::Release>,
    aborted: BTreeSet<u64>,
    /// Publications are decided but the answer gets lost, so many times.
    lost_answers: u32,
}

#[derive(Clone)]
pub(super) struct Names {
    key: Arc<SigningKey>,
    state: Arc<Mutex<State>>,
}

impl Names {
    pub(super) async fn start(tls: &Identity, shutdown: Shutdown) -> (Self, String) {
        let names = Self {
            key: Arc::new(SigningKey::from_seed(KeyId::new(1), &[7; 32]).unwrap()),
            state: Arc::default(),
        };
        let listener = Network::tcp(None).bind("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let config = Reloadable::new(tls.server_config(ALPN_CONTROL).unwrap());
        let routes = Routes::new().with(RegistryServer::new(names.clone()));
        tokio::spawn(serve(
            listener,
            config,
            routes,
            shutdown,
            Clock::real(),
            Limits::default(),
        ));
        (names, address)
    }

    pub(super) fn said<T>(&self, look: impl FnOnce(&Said) -> T) -> T {
        look(&self.state.lock().said)
    }

    pub(super) fn refuse(&self, upload: u64) {
        self.state.lock().refuse.insert(upload);
    }

    pub(super) fn puzzle(&self, upload: u64, puzzling: bool) {
        let state = &mut self.state.lock().puzzling;
        if puzzling {
            state.insert(upload);
        } else {
            state.remove(&upload);
        }
    }

    pub(super) fn abort(&self, upload: u64) {
        self.state.lock().aborted.insert(upload);
    }

    pub(super) fn release(&self, version: u64) {
        let mut state = self.state.lock();
        let sequence = state.releases.last().map_or(1, |last| last.sequence + 1);
        state.releases.push(wire::Release { sequence, version });
    }

    pub(super) fn lose_answers(&self, count: u32) {
        self.state.lock().lost_answers = count;
    }

    fn sign(&self, purpose: Purpose) -> prost::bytes::Bytes {
        let body = Body {
            issued_millis: NOW,
            expires_millis: NOW + 600_000,
            user_id: 1,
            purpose: Some(purpose),
        };
        self.key.sign(&body).into()
    }

    pub(super) fn upload_ticket(
        &self,
        cluster: ClusterId,
        upload: u64,
        chunk_bytes: u64,
    ) -> prost::bytes::Bytes {
        self.sign(Purpose::Upload(ticket::Upload {
            upload_id: upload,
            cluster_id: cluster.bytes().to_vec().into(),
            chunk_bytes,
            size_max: None,
            path_hint: "/a/b".to_owned(),
        }))
    }

    pub(super) fn read_ticket(&self, cluster: ClusterId, version: u64) -> prost::bytes::Bytes {
        self.sign(Purpose::Read(ticket::Read {
            version,
            cluster_id: cluster.bytes().to_vec().into(),
        }))
    }
}

#[tonic::async_trait]
impl Registry for Names {
    async fn heartbeat(
        &self,
        request: Request<wire::HeartbeatRequest>,
    ) -> Result<Response<wire::HeartbeatReply>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock();
        state.said.status = request.status;
        state.said.releases_recorded = request.releases_recorded;
        state.said.abandoned.extend(&request.abandoned_uploads);
        for upload in &request.abandoned_uploads {
            state.aborted.remove(upload);
        }
        let waiting = state.releases.iter();
        let releases = waiting.filter(|release| release.sequence > request.releases_recorded);
        let key = self.key.verifying_key();
        Ok(Response::new(wire::HeartbeatReply {
            names_group_id: vec![9; 16].into(),
            names_time_millis: NOW,
            keys: vec![wire::VerifyingKey {
                key_id: key.id().get(),
                key: key.public().to_vec().into(),
            }],
            releases: releases.copied().collect(),
            abandoned_recorded: request.abandoned_uploads,
            supernodes: Vec::new(),
            aborted_uploads: state.aborted.iter().copied().collect(),
        }))
    }

    async fn publish(
        &self,
        request: Request<wire::PublishRequest>,
    ) -> Result<Response<wire::PublishReply>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock();
        state.said.recorded.extend(&request.outcomes_recorded);
        let mut outcomes = Vec::new();
        for item in &request.items {
            *state.said.published.entry(item.upload_id).or_default() += 1;
            if state.puzzling.contains(&item.upload_id) {
                outcomes.push(wire::PublishOutcome {
                    upload_id: item.upload_id,
                    refused_code: "E_STATE_LOST".to_owned(),
                    undecided: true,
                    ..wire::PublishOutcome::default()
                });
                continue;
            }
            let refused = state.refuse.contains(&item.upload_id);
            outcomes.push(wire::PublishOutcome {
                upload_id: item.upload_id,
                published: !refused,
                refused_code: if refused {
                    "E_CONDITION".to_owned()
                } else {
                    String::new()
                },
                refused_message: if refused {
                    "it changed".to_owned()
                } else {
                    String::new()
                },
                undecided: false,
            });
        }
        if state.lost_answers > 0 && !request.items.is_empty() {
            state.lost_answers -= 1;
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(Response::new(wire::PublishReply { outcomes }))
    }
}
