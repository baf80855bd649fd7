//! The copy at this node.

use common::error::Kind;
use proto::bulk::message::{Failure, PutEnd};

use super::intake::Blocks;
use super::order::Order;
use crate::store::record::{RecordMeta, Stored};
use crate::store::writer::{Begun, Writer};
use crate::transfer::{DataPlane, failure};

/// The local copy of a put under way. Dropping it abandons the copy, unless it was there before.
pub(super) enum Local {
    /// Being written.
    Writing(Writer),
    /// Here already: the put is repeated because its answer was lost.
    Stored(Stored),
}

impl Local {
    pub(super) async fn begin(plane: &DataPlane, order: &Order) -> Result<Self, Failure> {
        let meta = RecordMeta {
            attempt: order.grant.attempt,
            upload: order.grant.upload,
            version: order.grant.version,
            index: order.grant.index,
            path_hint: order.begin.path_hint.clone(),
        };
        let length_max = order.begin.length_hint.unwrap_or(order.grant.length_max);
        match plane.store().begin(meta, length_max).await {
            Ok(Begun::Writing(writer)) => Ok(Local::Writing(writer)),
            Ok(Begun::Stored(stored)) => Ok(Local::Stored(stored)),
            Err(error) => Err(failure::of_store(plane.me(), &error)),
        }
    }

    /// Appends blocks, which the store checks against their checksums.
    pub(super) async fn append(&mut self, plane: &DataPlane, blocks: &Blocks) -> Result<(), Failure> {
        match self {
            Local::Writing(writer) => {
                let appending = writer.append(blocks.data.clone(), &blocks.checksums);
                appending
                    .await
                    .map_err(|error| failure::of_store(plane.me(), &error))
            }
            Local::Stored(_) => Ok(()),
        }
    }

    /// Makes the copy durable. What was here before has to be the same chunk.
    pub(super) async fn finish(
        self,
        plane: &DataPlane,
        order: &Order,
        end: PutEnd,
    ) -> Result<Stored, Failure> {
        let stored = match self {
            Local::Writing(writer) => {
                let finishing = writer.finish(end.digest);
                finishing
                    .await
                    .map_err(|error| failure::of_store(plane.me(), &error))?
            }
            Local::Stored(stored) => stored,
        };
        let grant = &order.grant;
        let same = (stored.upload, stored.version, stored.index)
            == (grant.upload, grant.version, grant.index)
            && (stored.length, stored.digest) == (end.length, end.digest);
        if same {
            return Ok(stored);
        }
        let message = format!("attempt {} is stored here with other content", grant.attempt);
        Err(Failure::new(
            plane.me(),
            Kind::Conflict,
            "E_ATTEMPT_CONFLICT",
            message,
        ))
    }
}
