//! A log of one member: applies commands to tables in memory, and asks them.

use common::ids::{AttemptId, Epoch, NodeId, UploadNumber, VersionId};
use common::lifecycle::{Chunk, Node, Version};
use common::time::ClusterTime;
use proto::cluster_log::v1 as wire;
use rusqlite::Connection;
use wire::command::Command as C;

use crate::cluster::store::counters::Counter;
use crate::cluster::store::reclaim::Reclaimed;
use crate::cluster::store::uploads::Opened;
use crate::cluster::store::{Moment, Reply, apply, manifests, reclaim, schema, versions};

pub(super) struct Log {
    pub(super) connection: Connection,
    pub(super) now: u64,
}

impl Log {
    pub(super) fn new() -> Self {
        let mut connection = Connection::open_in_memory().unwrap();
        let transaction = connection.transaction().unwrap();
        schema::create(&transaction).unwrap();
        schema::check(&transaction).unwrap();
        transaction.commit().unwrap();
        Self {
            connection,
            now: 1_000,
        }
    }

    pub(super) fn apply(&mut self, command: C) -> Reply {
        let transaction = self.connection.transaction().unwrap();
        let at = Moment {
            now: ClusterTime::from_millis(self.now),
        };
        let command = wire::Command {
            command: Some(command),
        };
        let reply = apply(&transaction, at, &command).unwrap();
        transaction.commit().unwrap();
        reply
    }

    /// Nodes 1 to `count`, each with one disk whose id repeats the node's number.
    pub(super) fn with_nodes(count: u64) -> Self {
        let mut log = Self::new();
        for node in 1..=count {
            log.seen(node, &[node as u8]);
        }
        log
    }

    pub(super) fn seen(&mut self, node: u64, disks: &[u8]) -> Reply {
        self.apply(C::NodeSeen(wire::NodeSeen {
            node_id: node,
            name: format!("n{node}"),
            control: format!("127.0.0.1:{node}"),
            data: format!("127.0.0.1:{node}"),
            zone: format!("z{node}"),
            host: format!("h{node}"),
            disk_ids: disks.iter().map(|id| vec![*id; 16].into()).collect(),
        }))
    }

    pub(super) fn move_node(&mut self, node: u64, to: wire::NodeMove) -> Option<Node> {
        let moves = vec![wire::MoveNode {
            node_id: node,
            r#move: to.into(),
        }];
        match self.apply(C::MoveNodes(wire::MoveNodes { moves })) {
            Reply::Nodes(standings) => standings[0].1,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn open(&mut self, upload: u64) -> UploadNumber {
        match self.apply(open(upload, 10)) {
            Reply::Opened(Opened::Open(row)) => row.number,
            other => panic!("{other:?}"),
        }
    }

    /// Opens and seals `upload` with these attempts, on nodes 1 and 2.
    pub(super) fn sealed(&mut self, upload: u64, attempts: &[u64]) -> Reply {
        let number = self.open(upload);
        let chunks = attempts
            .iter()
            .map(|sequence| chunk(*sequence, &[1, 2]))
            .collect();
        self.apply(seal(upload, number, chunks))
    }

    pub(super) fn outcome(&mut self, upload: u64, published: bool) -> Reply {
        self.apply(C::PublishOutcomes(wire::PublishOutcomes {
            outcomes: vec![wire::Outcome {
                upload_id: upload,
                published,
                refused_code: "E_CONFLICT".to_owned(),
                refused_message: "changed".to_owned(),
            }],
            acknowledged: Vec::new(),
        }))
    }

    pub(super) fn release(&mut self, releases: &[(u64, u64)]) -> Reply {
        let releases = releases
            .iter()
            .map(|(sequence, version)| wire::Release {
                sequence: *sequence,
                version: *version,
            })
            .collect();
        self.apply(C::ReleaseVersions(wire::ReleaseVersions { releases }))
    }

    pub(super) fn mark(&mut self, version: u64, chunks_max: u32) -> Reclaimed {
        self.mark_all(&[version], chunks_max)
    }

    pub(super) fn mark_all(&mut self, versions: &[u64], chunks_max: u32) -> Reclaimed {
        self.reclaimed(C::MarkVersions(wire::MarkVersions {
            versions: versions.to_vec(),
            chunks_max,
            undo_window_millis: 100,
        }))
    }

    pub(super) fn doom(&mut self, attempts: &[u64]) -> Reclaimed {
        self.reclaimed(C::DoomChunks(wire::DoomChunks {
            attempts: attempts.iter().map(|sequence| attempt_bytes(*sequence)).collect(),
            drop_delay_millis: 50,
        }))
    }

    pub(super) fn dropped(&mut self, node: u64, attempts: &[u64]) -> Reclaimed {
        self.reclaimed(C::ChunksDropped(wire::ChunksDropped {
            node_id: node,
            attempts: attempts.iter().map(|sequence| attempt_bytes(*sequence)).collect(),
        }))
    }

    pub(super) fn reclaimed(&mut self, command: C) -> Reclaimed {
        match self.apply(command) {
            Reply::Reclaimed(done) => done,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn version_state(&self, version: u64) -> Option<Version> {
        versions::find(&self.connection, VersionId::new(version))
            .unwrap()
            .map(|row| row.state)
    }

    pub(super) fn chunk_state(&self, sequence: u64) -> Option<Chunk> {
        manifests::find_chunk(&self.connection, attempt(sequence))
            .unwrap()
            .map(|row| row.state)
    }

    pub(super) fn orders(&self, node: u64) -> Vec<AttemptId> {
        let now = ClusterTime::from_millis(self.now);
        reclaim::orders(&self.connection, NodeId::new(node), now, 100).unwrap()
    }

    pub(super) fn counter(&self, counter: Counter) -> u64 {
        counter.get(&self.connection).unwrap()
    }
}

pub(super) fn open(upload: u64, open_max: u64) -> C {
    C::OpenUpload(wire::OpenUpload {
        upload_id: upload,
        chunk_bytes: 4096,
        open_max,
        upload_number: None,
    })
}

pub(super) fn attempt(sequence: u64) -> AttemptId {
    AttemptId::new(Epoch::new(1), sequence)
}

pub(super) fn attempt_bytes(sequence: u64) -> prost::bytes::Bytes {
    attempt(sequence).to_bytes().to_vec().into()
}

pub(super) fn chunk(sequence: u64, nodes: &[u64]) -> wire::SealedChunk {
    wire::SealedChunk {
        attempt: attempt_bytes(sequence),
        length: 10,
        digest: vec![sequence as u8; 32].into(),
        copies: nodes
            .iter()
            .map(|node| wire::Copy {
                node_id: *node,
                disk_id: vec![*node as u8; 16].into(),
            })
            .collect(),
    }
}

pub(super) fn seal(upload: u64, number: UploadNumber, chunks: Vec<wire::SealedChunk>) -> C {
    C::Seal(wire::Seal {
        upload_id: upload,
        upload_number: number.get(),
        size: 10 * chunks.len() as u64,
        digest: vec![1; 32].into(),
        modified_wall_millis: 77,
        chunks,
        chunk_bytes: None,
    })
}

pub(super) fn abandon(uploads: &[u64], silent_since_millis: Option<u64>) -> C {
    C::AbandonUploads(wire::AbandonUploads {
        upload_ids: uploads.to_vec(),
        silent_since_millis,
    })
}
