//! Makes a new key the one that signs tickets; the one before stays good until its tickets have expired.

use common::ids::KeyId;
use proto::names_log::v1 as log;
use zeroize::Zeroizing;

use super::{At, Stop};
use crate::core::refusal::Refusal;
use crate::store::counter::Counter;
use crate::store::key::{self, SEED_BYTES, Seed};

pub(super) fn apply(at: At<'_>, command: log::RotateSigningKey) -> Result<log::KeyMade, Stop> {
    if command.seed.len() != SEED_BYTES {
        return Err(Refusal::invalid("E_SEED", "a signing key's seed has 32 bytes").into());
    }
    let current = key::all(at.tables)?.first().map(|seed| seed.id.get());
    if current != command.replaces {
        return Ok(log::KeyMade { key_id: None });
    }
    let seed = Seed {
        id: KeyId::new(Counter::SigningKey.next(at.tables)?),
        bytes: Zeroizing::new(command.seed.to_vec()),
        made: at.now,
    };
    key::rotate(at.tables, &seed)?;
    Ok(log::KeyMade {
        key_id: Some(seed.id.get()),
    })
}
