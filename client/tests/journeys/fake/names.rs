//! The names service of one fake supernode.

use std::sync::Arc;

use common::error::Kind;
use prost::Message;
use proto::error::RpcError;
use proto::names::v1::names_server::Names;
use proto::names::v1::{
    AbortUploadRequest, CreateUserRequest, DeleteReply, DeleteRequest, Endpoint, Entry, GetUploadRequest,
    GroupStatus, HelloReply, HelloRequest, ListReply, ListRequest, ListUsersReply, ListUsersRequest,
    LoginReply, LoginRequest, MakeDirectoryRequest, OpenUploadRequest, RenameRequest, ResolveReply,
    ResolveRequest, SearchReply, SearchRequest, SetPasswordRequest, SetUserEnabledRequest, StatRequest,
    StatusReply, StatusRequest, UploadSession, UploadState, UploadStatus, User, UserRole, WhoAmIRequest,
};
use proto::{IDEMPOTENCY_BORN_HEADER, IDEMPOTENCY_KEY_HEADER};
use tonic::{Request, Response, Status};

use super::world::{State, Upload, World, not_found};

type Answer<T> = Result<Response<T>, Status>;

const TOKEN: &str = "Bearer sesame";

pub(crate) struct Supernode {
    pub(crate) world: Arc<World>,
    pub(crate) me: usize,
}

impl Supernode {
    /// Answers for any supernode; the caller must be logged in.
    async fn any<R, T>(
        &self,
        call: &'static str,
        request: Request<R>,
        work: impl FnOnce(&mut State, R) -> Result<T, RpcError>,
    ) -> Answer<T> {
        let token = request.metadata().get("authorization").cloned();
        if token.is_none_or(|token| token != TOKEN) {
            return Err(RpcError::new(Kind::Denied, "E_NOT_LOGGED_IN", "log in first").into());
        }
        let request = request.into_inner();
        self.world.answer(call, |state| work(state, request)).await
    }

    /// Answers for the leader alone.
    async fn leader<R, T>(
        &self,
        call: &'static str,
        request: Request<R>,
        work: impl FnOnce(&mut State, R) -> Result<T, RpcError>,
    ) -> Answer<T>
    where
        T: Message + Default,
    {
        let leads = {
            let state = self.world.state();
            let leader = state.supernodes.get(state.names_leader).cloned();
            if state.names_leader == self.me {
                Ok(())
            } else {
                Err(leader)
            }
        };
        if let Err(leader) = leads {
            self.world.state().calls.push("redirect");
            return Err(RpcError::not_leader(leader).into());
        }
        let text = |name| {
            request
                .metadata()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let key = text(IDEMPOTENCY_KEY_HEADER);
        assert_eq!(key.is_some(), text(IDEMPOTENCY_BORN_HEADER).is_some());
        assert!(key.is_some() || call.ends_with("upload"), "{call} carries no key");
        let once = |state: &mut State, asked| {
            if let Some(before) = key.as_ref().and_then(|key| state.answered.get(key)) {
                return Ok(T::decode(before.as_slice()).unwrap());
            }
            let answer = work(state, asked)?;
            state
                .answered
                .extend(key.map(|key| (key, answer.encode_to_vec())));
            Ok(answer)
        };
        self.any(call, request, once).await
    }
}

fn user() -> User {
    User {
        user_id: 1,
        name: "me".to_owned(),
        role: UserRole::Admin.into(),
        enabled: true,
        ..User::default()
    }
}

fn session(state: &State, id: u64) -> Result<UploadSession, RpcError> {
    Ok(UploadSession {
        upload_id: id,
        cluster: Some(state.location()),
        ticket: format!("ticket-{id}").into_bytes().into(),
        ticket_expires_in_millis: 60_000,
        chunk_bytes: state.chunk_bytes,
        status: Some(state.status_of(id)?),
    })
}

#[tonic::async_trait]
impl Names for Supernode {
    async fn hello(&self, _: Request<HelloRequest>) -> Answer<HelloReply> {
        let me = self.me;
        let hello = |state: &mut State| {
            let endpoint = |(at, control): (usize, &String)| Endpoint {
                node_id: at as u64 + 1,
                control: control.clone(),
                data: String::new(),
                leader: at == state.names_leader,
            };
            Ok(HelloReply {
                protocol_version: proto::PROTOCOL_VERSION,
                names_group_id: vec![9; 16].into(),
                names_time_millis: 5_000 + me as u64,
                supernodes: state.supernodes.iter().enumerate().map(endpoint).collect(),
                dedupe_window_millis: 1 << 30,
            })
        };
        self.world.answer("hello", hello).await
    }

    async fn login(&self, request: Request<LoginRequest>) -> Answer<LoginReply> {
        let request = request.into_inner();
        let login = |_: &mut State| {
            if request.password != "secret" {
                return Err(RpcError::new(
                    Kind::Denied,
                    "E_LOGIN",
                    "user and password do not fit",
                ));
            }
            Ok(LoginReply {
                token: "sesame".to_owned(),
                expires_in_millis: 1_000,
                user: Some(user()),
            })
        };
        self.world.answer("login", login).await
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Answer<User> {
        self.any("whoami", request, |_, _| Ok(user())).await
    }

    async fn create_user(&self, request: Request<CreateUserRequest>) -> Answer<User> {
        self.leader("create user", request, |_, asked| {
            Ok(User {
                name: asked.name,
                ..user()
            })
        })
        .await
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Answer<ListUsersReply> {
        self.any("list users", request, |_, _| {
            Ok(ListUsersReply { users: vec![user()] })
        })
        .await
    }

    async fn set_password(&self, request: Request<SetPasswordRequest>) -> Answer<User> {
        self.leader("set password", request, |_, _| Ok(user())).await
    }

    async fn set_user_enabled(&self, request: Request<SetUserEnabledRequest>) -> Answer<User> {
        self.leader("enable user", request, |_, _| Ok(user())).await
    }

    async fn open_upload(&self, request: Request<OpenUploadRequest>) -> Answer<UploadSession> {
        let open = |state: &mut State, asked: OpenUploadRequest| {
            let key = asked.idempotency_key.to_vec();
            let known = state
                .uploads
                .iter()
                .find(|(_, upload)| upload.key == key)
                .map(|(id, _)| *id);
            if let Some(id) = known {
                return session(state, id);
            }
            let id = state.uploads.len() as u64 + 101;
            state.uploads.insert(
                id,
                Upload {
                    key,
                    path: asked.path,
                    condition: asked.condition.unwrap_or_default(),
                    metadata: asked.metadata,
                    state: UploadState::Open,
                    refused: Default::default(),
                    repeatable: asked.repeatable,
                    version: None,
                },
            );
            session(state, id)
        };
        self.leader("open upload", request, open).await
    }

    async fn get_upload(&self, request: Request<GetUploadRequest>) -> Answer<UploadStatus> {
        self.any("get upload", request, |state, asked| {
            state.status_of(asked.upload_id)
        })
        .await
    }

    async fn abort_upload(&self, request: Request<AbortUploadRequest>) -> Answer<UploadStatus> {
        let abort = |state: &mut State, asked: AbortUploadRequest| {
            let upload = state
                .uploads
                .get_mut(&asked.upload_id)
                .ok_or_else(|| not_found("the upload"))?;
            if upload.state == UploadState::Open {
                upload.state = UploadState::Aborted;
            }
            state.status_of(asked.upload_id)
        };
        self.leader("abort upload", request, abort).await
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Answer<ResolveReply> {
        let resolve = |state: &mut State, asked: ResolveRequest| {
            Ok(ResolveReply {
                entry: Some(state.entry(&asked.path)?),
                clusters: vec![state.location()],
                ticket: b"read".to_vec().into(),
                ticket_expires_in_millis: 60_000,
            })
        };
        self.any("resolve", request, resolve).await
    }

    async fn stat(&self, request: Request<StatRequest>) -> Answer<Entry> {
        self.any("stat", request, |state, asked| state.entry(&asked.path))
            .await
    }

    /// Pages of two entries.
    async fn list(&self, request: Request<ListRequest>) -> Answer<ListReply> {
        let list = |state: &mut State, asked: ListRequest| {
            let above = format!("{}/", asked.path.trim_end_matches('/'));
            let mut paths = std::collections::BTreeSet::new();
            for path in state.files.keys().chain(&state.directories) {
                let Some(below) = path.strip_prefix(&above).filter(|below| !below.is_empty()) else {
                    continue;
                };
                if !asked.recursive {
                    paths.insert(format!("{above}{}", below.split('/').next().unwrap()));
                    continue;
                }
                if state.files.contains_key(path) || asked.directories {
                    paths.insert(path.clone());
                }
                for (at, _) in below.match_indices('/').filter(|_| asked.directories) {
                    paths.insert(format!("{above}{}", &below[..at]));
                }
            }
            let after: Vec<String> = paths
                .into_iter()
                .filter(|path| *path > asked.page_token)
                .collect();
            let entries: Result<Vec<Entry>, RpcError> =
                after.iter().take(2).map(|path| state.entry(path)).collect();
            Ok(ListReply {
                entries: entries?,
                next_page_token: after
                    .get(1)
                    .filter(|_| after.len() > 2)
                    .cloned()
                    .unwrap_or_default(),
            })
        };
        self.any("list", request, list).await
    }

    async fn search(&self, request: Request<SearchRequest>) -> Answer<SearchReply> {
        let search = |state: &mut State, asked: SearchRequest| {
            let found = state
                .files
                .iter()
                .filter(|(path, _)| path.contains(&asked.pattern));
            Ok(SearchReply {
                entries: found.map(|(path, version)| version.entry(path)).collect(),
                next_page_token: String::new(),
            })
        };
        self.any("search", request, search).await
    }

    async fn make_directory(&self, request: Request<MakeDirectoryRequest>) -> Answer<Entry> {
        let make = |state: &mut State, asked: MakeDirectoryRequest| {
            state.directories.push(asked.path.clone());
            if !asked.metadata.is_empty() {
                state.metadata.insert(asked.path.clone(), asked.metadata);
            }
            state.entry(&asked.path)
        };
        self.leader("make directory", request, make).await
    }

    async fn rename(&self, request: Request<RenameRequest>) -> Answer<Entry> {
        let rename = |state: &mut State, asked: RenameRequest| {
            let file = state
                .files
                .remove(&asked.from)
                .ok_or_else(|| not_found(&asked.from))?;
            state.files.insert(asked.to.clone(), file);
            state.entry(&asked.to)
        };
        self.leader("rename", request, rename).await
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteReply> {
        let delete = |state: &mut State, asked: DeleteRequest| {
            let below = format!("{}/", asked.path);
            if asked.recursive && !state.files.contains_key(&asked.path) {
                state.entry(&asked.path)?;
                state
                    .directories
                    .retain(|path| *path != asked.path && !path.starts_with(&below));
                let before = state.files.len();
                state.files.retain(|path, _| !path.starts_with(&below));
                let files = (before - state.files.len()) as u64;
                return Ok(DeleteReply { files, bytes: 0 });
            }
            let file = state
                .files
                .get(&asked.path)
                .ok_or_else(|| not_found(&asked.path))?;
            if asked.if_version.is_some_and(|wanted| wanted != file.version) {
                return Err(RpcError::new(
                    Kind::Conflict,
                    "E_CONFLICT",
                    "another version is current",
                ));
            }
            let bytes = file.size;
            let number = state.calls.len() as u64;
            let version = state.files.remove(&asked.path);
            let kept = version.filter(|_| !asked.permanent);
            state
                .trash
                .extend(kept.map(|version| (number, asked.path.clone(), version)));
            Ok(DeleteReply { files: 1, bytes })
        };
        self.leader("delete", request, delete).await
    }

    async fn retire_cluster(
        &self,
        request: Request<proto::names::v1::RetireClusterRequest>,
    ) -> Answer<proto::names::v1::RetireClusterReply> {
        let retire = |_: &mut State, _| Ok(proto::names::v1::RetireClusterReply {});
        self.leader("retire cluster", request, retire).await
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusReply> {
        let status = |state: &mut State, _| {
            Ok(StatusReply {
                names: Some(GroupStatus {
                    leader_node_id: Some(state.names_leader as u64 + 1),
                    ..GroupStatus::default()
                }),
                files: state.files.len() as u64,
                ..StatusReply::default()
            })
        };
        self.any("status", request, status).await
    }
}
