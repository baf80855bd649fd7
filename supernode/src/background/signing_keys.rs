//! Keeps the signing keys in memory up to date; as leader makes the first one, and a new one when its time is over.

use std::sync::Arc;

use common::ids::Epoch;
use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;

use super::{LEADING_PERIOD, LOOK_PERIOD};
use crate::context::Context;

const SEED_BYTES: usize = 32;

pub(super) async fn run(context: Arc<Context>) {
    loop {
        if let Err(error) = look(&context).await {
            tracing::debug!(%error, "signing keys could not be looked at");
        }
        // Nobody can log in before there is a key.
        let pause = match context.keyring.current() {
            Some(_) => LOOK_PERIOD,
            None => LEADING_PERIOD,
        };
        context.clock.sleep(pause).await;
    }
}

async fn look(context: &Context) -> Result<(), RpcError> {
    context.learn_keys().await?;
    let Some(epoch) = context.group.epoch() else {
        return Ok(());
    };
    let period = context.config.timings.signing_key_period.get();
    let current = context.keyring.current();
    let replaces = match current {
        Some((_, made)) if context.now().since(made) < period => return Ok(()),
        Some((id, _)) => Some(id),
        None => None,
    };
    rotate(context, epoch, replaces).await?;
    context.learn_keys().await
}

async fn rotate(context: &Context, epoch: Epoch, replaces: Option<u64>) -> Result<(), RpcError> {
    let seed: [u8; SEED_BYTES] = context.random.bytes();
    let command = log::RotateSigningKey {
        seed: seed.to_vec().into(),
        replaces,
    };
    let reply = context
        .propose_in(epoch, Command::RotateSigningKey(command))
        .await?;
    if let Reply::KeyMade(log::KeyMade { key_id: Some(key) }) = reply {
        tracing::info!(key, "signing key made");
    }
    Ok(())
}
