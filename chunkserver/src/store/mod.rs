//! The chunk layer's store: bytes of chunk attempts on this node's disks, checksummed, self-describing, fsynced.
//!
//! Its interface, in the order in which a chunk meets it (the method docs hold the details):
//!
//! ```text
//! Store::open(config, identity, seams)                -> (Store, Vec<Recovered>)  one report per directory
//! store.begin(meta, length_max).await                 -> Begun::Writing(Writer) | Begun::Stored(Stored)
//! writer.append(bytes, &checksums).await              whole 64 KiB blocks, only the last may be short; verified here
//! writer.finish(digest).await                         -> Stored: fsynced and visible; drop the Writer to abandon
//! store.stored(attempt).await                         -> Stored: what is there, for receipts
//! store.open_read(attempt, offset..end).await         -> Reader
//! reader.next().await                                 -> Option<Part>: whole verified blocks with their checksums
//! store.verify(attempt).await                         reads the whole record around the cache, for the scrubber
//! store.raise_epoch(epoch).await                      durable when it returns
//! store.drop_attempts(epoch, &attempts).await         tombstones fsynced, then holes; Stale below the highest epoch
//! store.inventory(disk, after, limit), store.suspects(), store.usage(), store.epoch()
//! store.maintain(shutdown)                            checkpoints, holes, space: one task per store
//! store.close().await                                 last checkpoint
//! ```

pub mod config;
pub mod error;
pub mod record;
