//! What travels between processes: the public `.proto` files, their generated code, validated conversions, and the
//! signed or authenticated values (tickets, grants, receipts) that one layer makes and another checks.
//!
//! **Owns**: every byte format on the wire. `proto/*.proto` has one file per arrow between processes.
//!
//! **Never knows**: how a request is decided. Generated types stop at the edges (`api/` folders and RPC clients).
//!
//! Read `proto/names.proto` first, then [`ticket`], then [`bulk`].

pub mod error;

pub mod ticket;

pub mod bulk;

pub mod control;

/// Client -> supernode.
pub mod names {
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    pub mod v1 {
        //! Generated from `names.proto`.
        tonic::include_proto!("dbfs.names.v1");
    }
}

/// Client -> supernode: the trash.
pub mod trash {
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    pub mod v1 {
        //! Generated from `trash.proto`.
        tonic::include_proto!("dbfs.trash.v1");
    }
}

/// Client -> cluster.
pub mod files {
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    pub mod v1 {
        //! Generated from `files.proto`.
        tonic::include_proto!("dbfs.files.v1");
    }
}

/// Cluster leader -> supernode.
pub mod registry {
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    pub mod v1 {
        //! Generated from `registry.proto`.
        tonic::include_proto!("dbfs.registry.v1");
    }
}

/// Chunkserver -> leader of its cluster.
pub mod nodes {
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    pub mod v1 {
        //! Generated from `nodes.proto`.
        tonic::include_proto!("dbfs.nodes.v1");
    }
}

/// Between the members of one replicated group.
pub mod raft {
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    pub mod v1 {
        //! Generated from `raft.proto`.
        tonic::include_proto!("dbfs.raft.v1");
    }
}

/// Internal: the commands of a cluster's Raft log.
pub mod cluster_log {
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    pub mod v1 {
        //! Generated from `cluster_log.proto`.
        tonic::include_proto!("dbfs.cluster_log.v1");
    }
}

/// Internal: the commands of the names group's Raft log.
pub mod names_log {
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    pub mod v1 {
        //! Generated from `names_log.proto`.
        tonic::include_proto!("dbfs.names_log.v1");
    }
}

/// What every service says when a call fails.
pub mod detail {
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    pub mod v1 {
        //! Generated from `error.proto`.
        tonic::include_proto!("dbfs.error.v1");
    }
}

/// The protocol version that this build speaks, and the oldest that it understands (P12).
pub const PROTOCOL_VERSION: u32 = 1;
/// See [`PROTOCOL_VERSION`].
pub const PROTOCOL_VERSION_MIN: u32 = 1;

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
