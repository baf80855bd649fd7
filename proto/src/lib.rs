//! What travels between processes: the public `.proto` files, their generated code, validated conversions, and the
//! signed or authenticated values (tickets, grants, receipts) that one layer makes and another checks.
//!
//! **Owns**: every byte format on the wire. `proto/*.proto` has one file per arrow between processes.
//!
//! **Never knows**: how a request is decided. Generated types stop at the edges (`api/` folders and RPC clients).
//!
//! Read `proto/names.proto` first, then [`ticket`], then [`bulk`].

/// A module `v1` with the committed code of `NAME.proto`, which `cargo xtask generate` writes.
macro_rules! generated {
    ($visibility:vis, $name:literal) => {
        #[doc = concat!("Generated from `", $name, ".proto`.")]
        #[allow(
            missing_docs,
            unreachable_pub,
            clippy::all,
            clippy::pedantic,
            clippy::restriction
        )]
        $visibility mod v1 {
            include!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/src/generated/dbfs.",
                $name,
                ".v1.rs"
            ));
        }
    };
}

pub mod error;

pub mod ticket;

pub mod bulk;

pub mod control;

pub mod metadata;

/// Client -> supernode.
pub mod names {
    generated!(pub, "names");
}

/// Client -> supernode: the trash.
pub mod trash {
    generated!(pub, "trash");
}

/// Client -> cluster.
pub mod files {
    generated!(pub, "files");
}

/// Cluster leader -> supernode.
pub mod registry {
    generated!(pub, "registry");
}

/// Chunkserver -> leader of its cluster.
pub mod nodes {
    generated!(pub, "nodes");
}

/// Between the members of one replicated group.
pub mod raft {
    generated!(pub, "raft");
}

/// Internal: the commands of a cluster's Raft log.
pub mod cluster_log {
    generated!(pub, "cluster_log");
}

/// Internal: the commands of the names group's Raft log.
pub mod names_log {
    generated!(pub, "names_log");
}

/// What every service says when a call fails.
pub mod detail {
    generated!(pub, "error");
}

/// The protocol version that this build speaks, and the oldest that it understands (P12).
pub const PROTOCOL_VERSION: u32 = 2;
/// See [`PROTOCOL_VERSION`].
pub const PROTOCOL_VERSION_MIN: u32 = 2;

/// Metadata key of a client's token: `Bearer TOKEN`.
pub const AUTHORIZATION_HEADER: &str = "authorization";
/// Metadata key of a request that must not be applied twice although its answer was lost (deletions, moves, changes of
/// users): 32 hexadecimal digits, chosen once and kept for the retries (P4). Uploads carry theirs in `OpenUpload`.
pub const IDEMPOTENCY_KEY_HEADER: &str = "dbfs-idempotency-key";
/// Metadata key beside [`IDEMPOTENCY_KEY_HEADER`]: when the key was chosen, in decimal milliseconds of the time in
/// `HelloReply`. A key older than the dedupe window is refused.
pub const IDEMPOTENCY_BORN_HEADER: &str = "dbfs-idempotency-born-millis";

/// The largest gRPC message of the control plane: a seal of the largest version fits.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 32 << 20;
/// The most chunks a version may have: 4 TiB of whole chunks.
pub const CHUNKS_PER_VERSION_MAX: u32 = 65_536;
