//! A large put: blocks go to the store and to the delegate at the same time, as they arrive.

use common::fail;
use common::units::BLOCK_BYTES;
use proto::bulk::frame::DATA_BYTES_MAX;
use proto::bulk::message::{Failure, PutEnd};
use proto::bulk::put::Put;
use proto::bulk::receipt::Receipt;
use tokio::sync::mpsc;

use super::intake::{Blocks, Part};
use super::local::Local;
use super::order::Order;
use super::{Ended, vouch};
use crate::transfer::{DataPlane, failure};

/// Receives what `parts` brings; returns when every copy is durable.
pub(super) async fn run(
    plane: &DataPlane,
    order: &Order,
    mut parts: mpsc::Receiver<Part>,
) -> Result<Receipt, Ended> {
    let me = plane.me();
    let connecting = async {
        match &order.delegate {
            Some(target) => {
                let connection = plane.peers().connection(target).await;
                connection
                    .map(Some)
                    .map_err(|error| failure::of_delegate(me, error))
            }
            None => Ok(None),
        }
    };
    let (local, connection) = tokio::join!(Local::begin(plane, order), connecting);
    let (local, mut connection) = (local?, connection?);
    let forward = match connection.as_mut() {
        Some(connection) => {
            let put = connection.put(&order.for_delegate());
            Some(put.map_err(|error| failure::of_delegate(me, error))?)
        }
        None => None,
    };
    let mut stream = Stream {
        plane,
        order,
        local,
        forward,
        length: 0,
    };
    match stream.receive(&mut parts).await {
        Ok(end) => Ok(stream.finish(end).await?),
        Err(ended) => {
            if let Some(forward) = stream.forward.take() {
                // The delegate forgets the attempt; if this cannot be said, the end of the connection says it.
                let _ = forward.abort().await;
            }
            Err(ended)
        }
    }
}

struct Stream<'a> {
    plane: &'a DataPlane,
    order: &'a Order,
    local: Local,
    forward: Option<Put<'a>>,
    length: u64,
}

impl Stream<'_> {
    async fn receive(&mut self, parts: &mut mpsc::Receiver<Part>) -> Result<PutEnd, Ended> {
        loop {
            match parts.recv().await {
                Some(Part::Blocks(blocks)) => self.take(blocks).await?,
                Some(Part::End(end)) if end.length == self.length && self.length > 0 => return Ok(end),
                Some(Part::End(_)) => {
                    return Err(failure::shape(self.plane.me(), "another length than was sent").into());
                }
                None => return Err(Ended::Abandoned),
            }
        }
    }

    async fn take(&mut self, blocks: Blocks) -> Result<(), Failure> {
        let me = self.plane.me();
        // Only the last frame may be short: the store holds what is too little to write, and with it the window.
        let follows = u64::from(blocks.first_block) * BLOCK_BYTES as u64 == self.length
            && self.length.is_multiple_of(DATA_BYTES_MAX as u64);
        if !follows {
            return Err(failure::shape(me, "blocks that do not follow the last"));
        }
        let length = self.length + blocks.data.len() as u64;
        if length > self.order.grant.length_max {
            return Err(failure::shape(me, "more bytes than the grant permits"));
        }
        let forwarding = async {
            if let Some(forward) = self.forward.as_mut() {
                let sending = forward.send(&blocks.data, &blocks.checksums);
                sending.await.map_err(|error| failure::of_delegate(me, error))?;
                let count = blocks.data.len() as u64;
                self.plane.counters().forwarded_bytes.inc_by(count);
            }
            Ok::<_, Failure>(())
        };
        // Both to their end: a copy that stops half-way through a frame costs its connection.
        let (kept, forwarded) = tokio::join!(self.local.append(self.plane, &blocks), forwarding);
        kept?;
        forwarded?;
        if self.length == 0 {
            fail::point(self.order.side.middle());
        }
        self.length = length;
        Ok(())
    }

    async fn finish(self, end: PutEnd) -> Result<Receipt, Failure> {
        let Stream {
            plane,
            order,
            local,
            forward,
            ..
        } = self;
        let confirming = async {
            match forward {
                Some(forward) => forward.finish(end.digest).await.map(Some),
                None => Ok(None),
            }
        };
        let (stored, confirmed) = tokio::join!(local.finish(plane, order, end), confirming);
        let stored = stored?;
        let own = vouch::own(plane, order, end, &stored)?;
        match confirmed.map_err(|error| failure::of_delegate(plane.me(), error))? {
            Some(delegate) => vouch::joined(plane, order, own, delegate),
            None => Ok(own),
        }
    }
}
