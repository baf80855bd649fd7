//! What an interrupted upload needs to go on: its key, and which chunks were acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::ids::{ClusterId, NodeId, UploadId};
use common::path::RemotePath;
use parking_lot::Mutex;
use prost::Message;
use proto::bulk::receipt::Receipt;
use proto::files::v1 as files;

use super::session::Session;
use super::stamp::SourceStamp;
use super::{Condition, UploadKey, UploadOptions};
use crate::error::Error;

/// Everything that resuming needs beside the source. Serialisable (JSON): whoever wants to resume across processes
/// stores it, as a secret of the user's, and drops it once the upload is done.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct ResumeState {
    /// Grows when the format changes; others are refused.
    pub format: u32,
    /// The upload's key.
    pub key: UploadKey,
    /// Where it goes.
    pub path: String,
    /// What must hold when it is published.
    pub condition: Condition,
    /// Kept with the version.
    pub metadata: BTreeMap<String, String>,
    /// The cluster that it was given to, for people.
    #[serde(default)]
    pub cluster: String,
    /// Its id: the receipts are of use in this upload alone.
    pub upload: UploadId,
    /// The cluster that it was given to.
    pub cluster_id: ClusterId,
    /// The local file that it began with; `None` where it was no file.
    pub source: Option<SourceStamp>,
    /// The length of chunks, in bytes.
    pub chunk_bytes: u64,
    /// What was acknowledged, by chunk index: receipts as on the wire, hexadecimal.
    pub receipts: BTreeMap<u32, String>,
}

/// A cloneable handle to the latest [`ResumeState`] of one upload, which the upload keeps up to date.
#[derive(Clone, Default)]
pub struct Checkpoint(Arc<Mutex<Option<ResumeState>>>);

impl Checkpoint {
    /// Empty, until the upload has begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// What resuming would need now; `None` before the upload was opened.
    pub fn current(&self) -> Option<ResumeState> {
        self.0.lock().clone()
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let receipts = self.0.lock().as_ref().map(|state| state.receipts.len());
        write!(f, "Checkpoint({receipts:?} receipts)")
    }
}

impl Checkpoint {
    /// The upload of `source` was opened; `known` receipts are taken along.
    pub(super) fn begin(
        &self,
        key: UploadKey,
        session: &Session,
        options: &UploadOptions,
        source: Option<SourceStamp>,
        known: &BTreeMap<u32, Receipt>,
    ) {
        let receipts = known
            .iter()
            .map(|(index, receipt)| (*index, encode(receipt)))
            .collect();
        *self.0.lock() = Some(ResumeState {
            format: FORMAT,
            key,
            path: session.path.to_string(),
            condition: options.condition,
            metadata: options.metadata.clone(),
            cluster: session.cluster_name.clone(),
            upload: session.upload,
            cluster_id: session.cluster_id,
            source,
            chunk_bytes: session.chunk_bytes,
            receipts,
        });
    }

    /// A chunk was acknowledged.
    pub(super) fn add(&self, index: u32, receipt: &Receipt) {
        if let Some(state) = self.0.lock().as_mut() {
            state.receipts.insert(index, encode(receipt));
        }
    }
}

impl ResumeState {
    /// Where the upload goes.
    ///
    /// # Errors
    /// The text is not a path: the state was damaged.
    pub fn remote_path(&self) -> Result<RemotePath, common::path::Error> {
        self.path.parse()
    }

    /// The nodes that hold each acknowledged chunk, its primary first, by chunk index. What is damaged is left out.
    pub fn holders(&self) -> BTreeMap<u32, Vec<NodeId>> {
        let nodes = |text: &String| {
            let copies = decode(text)?.copies;
            Some(copies.iter().map(|copy| copy.node).collect())
        };
        let known = self
            .receipts
            .iter()
            .filter_map(|(index, text)| Some((*index, nodes(text)?)));
        known.collect()
    }

    /// The path, what was begun, and `options` with what the upload began with.
    pub(crate) fn restore(
        &self,
        options: UploadOptions,
    ) -> Result<(RemotePath, Begun, UploadOptions), Error> {
        let damaged = |what: &str| Error::NotResumable(format!("its saved state {what}"));
        if self.format != FORMAT {
            return Err(damaged("has a format that this build does not know"));
        }
        let path = self.remote_path().map_err(|_| damaged("names no path"))?;
        let receipts = self.receipts.iter().map(|(index, text)| {
            let receipt = decode(text).filter(|receipt| receipt.statement.index == *index);
            receipt.map(|receipt| (*index, receipt))
        });
        let receipts = receipts
            .collect::<Option<_>>()
            .ok_or_else(|| damaged("is damaged"))?;
        let begun = Begun {
            upload: self.upload,
            cluster: self.cluster_id,
            chunk_bytes: self.chunk_bytes,
            source: self.source,
            receipts,
        };
        let options = UploadOptions {
            condition: self.condition,
            metadata: self.metadata.clone(),
            key: Some(self.key),
            ..options
        };
        Ok((path, begun, options))
    }
}

/// What an upload that goes on began as.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    upload: UploadId,
    cluster: ClusterId,
    chunk_bytes: u64,
    source: Option<SourceStamp>,
    receipts: BTreeMap<u32, Receipt>,
}

impl Begun {
    /// Fails where the source is not the file that the upload began with. What is no file is compared by its bytes.
    pub(super) fn check_source(&self, now: Option<SourceStamp>) -> Result<(), Error> {
        match self.source {
            Some(then) if now.is_some() && now != Some(then) => Err(Error::NotResumable(
                "the local file is not the one that it began with, or has changed since".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// The receipts, where they are of use in `session`: another installation may know the key as new.
    pub(super) fn receipts_for(&self, session: &Session) -> BTreeMap<u32, Receipt> {
        let same = self.upload == session.upload
            && self.cluster == session.cluster_id
            && self.chunk_bytes == session.chunk_bytes;
        if same {
            self.receipts.clone()
        } else {
            BTreeMap::new()
        }
    }
}

/// The format of a [`ResumeState`] as this build writes it.
const FORMAT: u32 = 2;

fn encode(receipt: &Receipt) -> String {
    let bytes = files::ChunkReceipt::from(receipt).encode_to_vec();
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            for half in [byte >> 4, byte & 15] {
                text.push(char::from_digit(half.into(), 16).unwrap_or('0'));
            }
            text
        })
}

fn decode(text: &str) -> Option<Receipt> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let digit = |half: u8| char::from(half).to_digit(16);
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok())
        .collect();
    let wire = files::ChunkReceipt::decode(bytes?.as_slice()).ok()?;
    Receipt::try_from(&wire).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{AttemptId, Digest, IdempotencyKey, UploadNumber, VersionId};
    use common::time::ClusterTime;
    use proto::bulk::receipt::Statement;

    fn stamp(size: u64) -> SourceStamp {
        SourceStamp {
            size,
            modified: (1, 2),
            inode: 3,
            device: 4,
        }
    }

    fn state() -> ResumeState {
        let receipt = Receipt {
            statement: Statement {
                upload: UploadNumber::new(1),
                version: VersionId::new(2),
                index: 3,
                attempt: AttemptId::default(),
                length: 5,
                digest: Digest::new([0xf7; 32]),
            },
            copies: Vec::new(),
        };
        ResumeState {
            format: FORMAT,
            key: UploadKey {
                key: IdempotencyKey::new([7; 16]),
                born: ClusterTime::from_millis(9),
            },
            path: "/me/f".to_owned(),
            condition: Condition::Version(VersionId::new(4)),
            metadata: BTreeMap::new(),
            cluster: "alpha".to_owned(),
            upload: UploadId::new(2),
            cluster_id: ClusterId::new([5; 16]),
            source: Some(stamp(9)),
            chunk_bytes: 1 << 20,
            receipts: BTreeMap::from([(3, encode(&receipt))]),
        }
    }

    #[test]
    fn a_state_survives_its_file() {
        let text = serde_json::to_string(&state()).unwrap();
        let read: ResumeState = serde_json::from_str(&text).unwrap();
        assert_eq!(read, state());
        let (path, begun, options) = read.restore(UploadOptions::default()).unwrap();
        assert_eq!(path.as_str(), "/me/f");
        assert_eq!(begun.receipts[&3].statement.digest, Digest::new([0xf7; 32]));
        assert_eq!(options.condition, Condition::Version(VersionId::new(4)));
    }

    #[test]
    fn a_state_is_for_the_file_that_it_began_with() {
        let (_, begun, _) = state().restore(UploadOptions::default()).unwrap();
        begun.check_source(Some(stamp(9))).unwrap();
        begun.check_source(None).unwrap();
        let others = [
            stamp(8),
            SourceStamp {
                modified: (1, 3),
                ..stamp(9)
            },
            SourceStamp { inode: 7, ..stamp(9) },
            SourceStamp {
                device: 7,
                ..stamp(9)
            },
        ];
        for other in others {
            assert!(matches!(
                begun.check_source(Some(other)),
                Err(Error::NotResumable(_))
            ));
        }
    }

    #[test]
    fn damaged_states_are_refused() {
        let mut damaged = [state(), state(), state()];
        damaged[0].format = 1;
        damaged[1].path = "me".to_owned();
        damaged[2].receipts.insert(4, "zz".to_owned());
        for state in damaged {
            let result = state.restore(UploadOptions::default());
            assert!(matches!(result, Err(Error::NotResumable(_))));
        }
    }
}
