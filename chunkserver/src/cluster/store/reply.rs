//! [`Reply`] as it travels from the state machine to the proposer.

use common::ids::{KeyId, NodeId, UploadId, UploadNumber};
use common::lifecycle::{Node, Upload};
use common::time::ClusterTime;
use proto::cluster_log::v1 as wire;
use wire::opened_reply::Result as OpenedResult;
use wire::reply::Reply as Kind;
use wire::sealed_reply::Result as SealedResult;

use super::apply::Reply;
use super::reclaim::Reclaimed;
use super::seal::Sealed;
use super::uploads::{Opened, UploadRow};
use super::versions::Released;

impl From<Reply> for wire::Reply {
    fn from(reply: Reply) -> Self {
        let reply = match reply {
            Reply::Done => Some(Kind::Done(wire::Done {})),
            Reply::Opened(opened) => Some(Kind::Opened(opened.into())),
            Reply::Sealed(sealed) => Some(Kind::Sealed(sealed.into())),
            Reply::Outcomes(contradictions) => Some(Kind::Contradictions(contradictions)),
            Reply::Abandoned(uploads) => Some(Kind::Abandoned(wire::AbandonedReply {
                uploads: uploads
                    .into_iter()
                    .map(|(upload, state)| wire::UploadStanding {
                        upload_id: upload.get(),
                        state: state.code().into(),
                    })
                    .collect(),
            })),
            Reply::Released(released) => Some(Kind::Released(wire::ReleasedReply {
                recorded: released.recorded,
                unknown: released.unknown,
                contradictions: released.contradictions,
            })),
            Reply::Reclaimed(done) => Some(Kind::Reclaimed(wire::ReclaimedReply {
                marked: done.marked,
                doomed: done.doomed,
                spared: done.spared,
                dropped: done.dropped,
                versions_gone: done.versions_gone,
            })),
            Reply::Nodes(nodes) => Some(Kind::Nodes(wire::NodesReply {
                nodes: nodes
                    .into_iter()
                    .map(|(node, standing)| wire::NodeStanding {
                        node_id: node.get(),
                        state: standing.map_or(0, Node::code).into(),
                    })
                    .collect(),
            })),
            Reply::Rows(rows) => Some(Kind::Rows(rows)),
            Reply::Key(key) => Some(Kind::Key(key.map_or(0, KeyId::get))),
            Reply::Numbers { first, last } => Some(Kind::Numbers(wire::NumbersReply { first, last })),
        };
        Self { reply }
    }
}

impl Reply {
    /// The reply, unless this build does not know it.
    pub fn read(wire: wire::Reply) -> Option<Self> {
        Some(match wire.reply? {
            Kind::Done(_) => Reply::Done,
            Kind::Opened(opened) => Reply::Opened(read_opened(&opened)?),
            Kind::Sealed(sealed) => Reply::Sealed(read_sealed(sealed)?),
            Kind::Contradictions(count) => Reply::Outcomes(count),
            Kind::Abandoned(it) => Reply::Abandoned(
                it.uploads
                    .iter()
                    .filter_map(|one| Some((UploadId::new(one.upload_id), upload_state(one.state)?)))
                    .collect(),
            ),
            Kind::Released(it) => Reply::Released(Released {
                recorded: it.recorded,
                unknown: it.unknown,
                contradictions: it.contradictions,
            }),
            Kind::Reclaimed(it) => Reply::Reclaimed(Reclaimed {
                marked: it.marked,
                doomed: it.doomed,
                spared: it.spared,
                dropped: it.dropped,
                versions_gone: it.versions_gone,
            }),
            Kind::Nodes(it) => Reply::Nodes(
                it.nodes
                    .iter()
                    .map(|one| {
                        let code = u8::try_from(one.state).unwrap_or(0);
                        (NodeId::new(one.node_id), Node::from_code(code).ok())
                    })
                    .collect(),
            ),
            Kind::Rows(rows) => Reply::Rows(rows),
            Kind::Numbers(it) => Reply::Numbers {
                first: it.first,
                last: it.last,
            },
            Kind::Key(key) => Reply::Key((key != 0).then(|| KeyId::new(key))),
        })
    }
}

impl From<Opened> for wire::OpenedReply {
    fn from(opened: Opened) -> Self {
        let (result, row) = match opened {
            Opened::Open(row) => (OpenedResult::Open, row),
            Opened::Ended(row) => (OpenedResult::Ended, row),
            Opened::TooMany => return without_row(OpenedResult::TooMany),
            Opened::Forgotten => return without_row(OpenedResult::Forgotten),
        };
        Self {
            result: result.into(),
            upload_number: row.number.get(),
            upload_id: row.upload.get(),
            state: row.state.code().into(),
            chunk_bytes: row.chunk_bytes,
            heard_millis: row.heard.as_millis(),
        }
    }
}

fn without_row(result: OpenedResult) -> wire::OpenedReply {
    wire::OpenedReply {
        result: result.into(),
        ..wire::OpenedReply::default()
    }
}

fn read_opened(wire: &wire::OpenedReply) -> Option<Opened> {
    match wire.result() {
        OpenedResult::TooMany => return Some(Opened::TooMany),
        OpenedResult::Forgotten => return Some(Opened::Forgotten),
        OpenedResult::Open | OpenedResult::Ended | OpenedResult::Unspecified => {}
    }
    let row = UploadRow {
        number: UploadNumber::new(wire.upload_number),
        upload: UploadId::new(wire.upload_id),
        state: upload_state(wire.state)?,
        chunk_bytes: wire.chunk_bytes,
        heard: ClusterTime::from_millis(wire.heard_millis),
    };
    match wire.result() {
        OpenedResult::Open => Some(Opened::Open(row)),
        OpenedResult::Ended => Some(Opened::Ended(row)),
        OpenedResult::TooMany | OpenedResult::Forgotten | OpenedResult::Unspecified => None,
    }
}

fn upload_state(code: u32) -> Option<Upload> {
    u8::try_from(code)
        .ok()
        .and_then(|code| Upload::from_code(code).ok())
}

impl From<Sealed> for wire::SealedReply {
    fn from(sealed: Sealed) -> Self {
        let mut need = Vec::new();
        let result = match sealed {
            Sealed::Now => SealedResult::Now,
            Sealed::Before => SealedResult::Before,
            Sealed::Otherwise => SealedResult::Otherwise,
            Sealed::Abandoned => SealedResult::Abandoned,
            Sealed::Unknown => SealedResult::Unknown,
            Sealed::NeedChunks(indices) => {
                need = indices;
                SealedResult::NeedChunks
            }
            Sealed::Malformed => SealedResult::Malformed,
        };
        Self {
            result: result.into(),
            need,
        }
    }
}

fn read_sealed(wire: wire::SealedReply) -> Option<Sealed> {
    match wire.result() {
        SealedResult::Now => Some(Sealed::Now),
        SealedResult::Before => Some(Sealed::Before),
        SealedResult::Otherwise => Some(Sealed::Otherwise),
        SealedResult::Abandoned => Some(Sealed::Abandoned),
        SealedResult::Unknown => Some(Sealed::Unknown),
        SealedResult::NeedChunks => Some(Sealed::NeedChunks(wire.need)),
        SealedResult::Malformed => Some(Sealed::Malformed),
        SealedResult::Unspecified => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_round_trip() {
        let row = UploadRow {
            number: UploadNumber::new(3),
            upload: UploadId::new(9),
            state: Upload::Open,
            chunk_bytes: 4096,
            heard: ClusterTime::from_millis(7),
        };
        let all = [
            Reply::Done,
            Reply::Opened(Opened::Open(row)),
            Reply::Opened(Opened::Ended(UploadRow {
                state: Upload::Abandoned,
                ..row
            })),
            Reply::Opened(Opened::TooMany),
            Reply::Opened(Opened::Forgotten),
            Reply::Sealed(Sealed::Now),
            Reply::Sealed(Sealed::Otherwise),
            Reply::Sealed(Sealed::NeedChunks(vec![1, 2])),
            Reply::Outcomes(2),
            Reply::Abandoned(vec![(UploadId::new(1), Upload::Sealed)]),
            Reply::Released(Released {
                recorded: 5,
                unknown: 1,
                contradictions: 2,
            }),
            Reply::Reclaimed(Reclaimed {
                doomed: 4,
                ..Reclaimed::default()
            }),
            Reply::Nodes(vec![(NodeId::new(1), Some(Node::Dead)), (NodeId::new(2), None)]),
            Reply::Rows(8),
            Reply::Key(Some(KeyId::new(2))),
            Reply::Key(None),
            Reply::Numbers { first: 3, last: 9 },
        ];
        for reply in all {
            assert_eq!(Reply::read(wire::Reply::from(reply.clone())), Some(reply));
        }
    }
}
