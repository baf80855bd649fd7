//! A large put: blocks go to the store and to the delegate at the same time, as they arrive.

use common::fail;
use common::time::Moment;
use common::units::BLOCK_BYTES;
use proto::bulk::frame::DATA_BYTES_MAX;
use proto::bulk::message::{Failure, PutEnd};
use proto::bulk::put::Put;
use proto::bulk::receipt::Receipt;
use tokio::sync::mpsc;

use super::intake::{Blocks, Part};
use super::local::Local;
use super::order::Order;
use super::{Ended, in_time, vouch};
use crate::transfer::{DataPlane, Motion, failure};

/// Receives what `parts` brings; returns when every copy is durable.
pub(super) async fn run(
    plane: &DataPlane,
    order: &Order,
    mut parts: mpsc::Receiver<Part>,
    motion: &Motion,
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
    let beginning = in_time(plane, plane.me(), Local::begin(plane, order));
    let (local, connection) = tokio::join!(beginning, connecting);
    let (local, mut connection) = (local?, connection?);
    let activity = connection
        .as_ref()
        .map(|connection| connection.activity().clone());
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
        motion,
        begun: plane.clock().moment(),
        length: 0,
    };
    let work = Box::pin(async {
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
    });
    match activity {
        Some(activity) => {
            let period = plane.settings().progress_period.get();
            motion.relay(&activity, plane.clock(), period, work).await
        }
        None => work.await,
    }
}

struct Stream<'a> {
    plane: &'a DataPlane,
    order: &'a Order,
    local: Local,
    forward: Option<Put<'a>>,
    motion: &'a Motion,
    begun: Moment,
    length: u64,
}

impl Stream<'_> {
    async fn receive(&mut self, parts: &mut mpsc::Receiver<Part>) -> Result<PutEnd, Ended> {
        loop {
            match self.next(parts).await? {
                Some(Part::Blocks(blocks)) => self.take(blocks).await?,
                Some(Part::End(end)) if end.length == self.length && self.length > 0 => return Ok(end),
                Some(Part::End(_)) => {
                    return Err(failure::shape(self.plane.me(), "another length than was sent").into());
                }
                None => return Err(Ended::Abandoned),
            }
        }
    }

    /// The next part, at no less than the slowest rate that a put may have.
    async fn next(&mut self, parts: &mut mpsc::Receiver<Part>) -> Result<Option<Part>, Failure> {
        let clock = self.plane.clock();
        let allowed = self
            .plane
            .settings()
            .allowance(self.length + DATA_BYTES_MAX as u64);
        let left = allowed.saturating_sub(clock.moment().since(self.begun));
        let next = clock.timeout(left, parts.recv()).await;
        next.ok_or_else(|| failure::too_slow(self.plane.me(), "the chunk arrives too slowly"))
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
        let keeping = in_time(self.plane, me, self.local.append(self.plane, &blocks));
        let (kept, forwarded) = tokio::join!(keeping, forwarding);
        kept?;
        forwarded?;
        if self.length == 0 {
            fail::point(self.order.side.middle());
        }
        self.length = length;
        self.motion.step();
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
        let confirming = async {
            confirming
                .await
                .map_err(|error| failure::of_delegate(plane.me(), error))
        };
        let (stored, confirmed) = tokio::join!(
            in_time(plane, plane.me(), local.finish(plane, order, end)),
            in_time(plane, order.keeper(plane), confirming)
        );
        let own = vouch::own(plane, order, end, &stored?)?;
        match confirmed? {
            Some(delegate) => vouch::joined(plane, order, own, delegate),
            None => Ok(own),
        }
    }
}
