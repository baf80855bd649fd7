//! A small put: the whole chunk is here, so that both copies begin at once, and the delegate's leaves in the pipeline
//! which all small puts for that node share.

use common::fail;
use proto::bulk::message::{Failure, PutEnd};
use proto::bulk::pipeline::SmallPut;
use proto::bulk::receipt::Receipt;

use super::intake::Blocks;
use super::local::Local;
use super::order::Order;
use super::vouch;
use crate::transfer::{DataPlane, failure};

/// Stores and forwards `blocks`, the whole chunk; returns when every copy is durable.
pub(super) async fn run(
    plane: &DataPlane,
    order: &Order,
    blocks: Blocks,
    end: PutEnd,
) -> Result<Receipt, Failure> {
    let storing = async {
        let mut local = Local::begin(plane, order).await?;
        local.append(plane, &blocks).await?;
        fail::point(order.side.middle());
        local.finish(plane, order, end).await
    };
    let (stored, confirmed) = tokio::join!(storing, forward(plane, order, &blocks, end));
    let own = vouch::own(plane, order, end, &stored?)?;
    match confirmed? {
        Some(delegate) => vouch::joined(plane, order, own, delegate),
        None => Ok(own),
    }
}

async fn forward(
    plane: &DataPlane,
    order: &Order,
    blocks: &Blocks,
    end: PutEnd,
) -> Result<Option<Receipt>, Failure> {
    let Some(target) = &order.delegate else {
        return Ok(None);
    };
    let put = SmallPut {
        begin: order.for_delegate(),
        data: blocks.data.clone(),
        checksums: blocks.checksums.clone(),
        digest: end.digest,
    };
    plane.counters().forwarded_bytes.inc_by(end.length);
    let confirming = async { plane.peers().pipeline(target).await?.put(put).await };
    let receipt = confirming.await;
    receipt
        .map(Some)
        .map_err(|error| failure::of_delegate(plane.me(), error))
}
