//! A small put: the whole chunk is here, so that both copies begin at once, and the delegate's leaves in the pipeline
//! which all small puts for that node share.

use common::fail;
use proto::bulk::message::{Failure, PutEnd};
use proto::bulk::pipeline::SmallPut;
use proto::bulk::receipt::Receipt;

use super::intake::Blocks;
use super::local::Local;
use super::order::Order;
use super::{in_time, vouch};
use crate::transfer::failure;
use crate::transfer::{DataPlane, Motion};

/// Stores and forwards `blocks`, the whole chunk; returns when every copy is durable.
pub(super) async fn run(
    plane: &DataPlane,
    order: &Order,
    blocks: Blocks,
    end: PutEnd,
    motion: &Motion,
) -> Result<Receipt, Failure> {
    let storing = async {
        let mut local = Local::begin(plane, order).await?;
        local.append(plane, &blocks).await?;
        fail::point(order.side.middle());
        local.finish(plane, order, end).await
    };
    let forwarding = forward(plane, order, &blocks, end, motion);
    let (stored, confirmed) = tokio::join!(
        in_time(plane, plane.me(), storing),
        in_time(plane, order.keeper(plane), forwarding)
    );
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
    motion: &Motion,
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
    let confirming = async {
        let pipeline = plane.peers().pipeline(target).await?;
        let activity = pipeline.activity().clone();
        let period = plane.settings().progress_period.get();
        motion
            .relay(&activity, plane.clock(), period, pipeline.put(put))
            .await
    };
    let receipt = confirming.await;
    receipt
        .map(Some)
        .map_err(|error| failure::of_delegate(plane.me(), error))
}
