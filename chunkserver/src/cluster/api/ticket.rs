//! What a ticket lets its bearer do at this cluster (P9).

use common::error::Kind;
use common::ids::{UploadId, UserId, VersionId};
use common::units::CHUNK_BYTES_MAX;
use proto::error::RpcError;
use proto::ticket::v1::Upload;
use proto::ticket::{self, Purpose};

use crate::cluster::Cluster;

/// The shortest chunk that makes sense: one leaf of BLAKE3's tree.
const CHUNK_BYTES_MIN: u64 = 1024;

impl Cluster {
    /// What the ticket says about the upload `upload`, and whose it is.
    ///
    /// # Errors
    /// Forged, expired, for something else, or signed with a key that is not known here yet.
    pub(super) fn upload_ticket(&self, ticket: &[u8], upload: u64) -> Result<(Upload, UserId), RpcError> {
        let (Some(Purpose::Upload(said)), user) = self.check_ticket(ticket)? else {
            return Err(wrong("an upload"));
        };
        let chunk_bytes = said.chunk_bytes;
        let fits =
            chunk_bytes.is_power_of_two() && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk_bytes);
        if said.upload_id != upload || said.cluster_id.as_ref() != self.cluster_id().bytes() || !fits {
            return Err(wrong(&format!("upload {upload} at this cluster")));
        }
        Ok((said, user))
    }

    /// Checks that the ticket is for reading `version` here; whose it is.
    ///
    /// # Errors
    /// As [`Cluster::upload_ticket`].
    pub(super) fn read_ticket(&self, ticket: &[u8], version: u64) -> Result<(VersionId, UserId), RpcError> {
        match self.check_ticket(ticket)? {
            (Some(Purpose::Read(said)), user)
                if said.version == version && said.cluster_id.as_ref() == self.cluster_id().bytes() =>
            {
                Ok((VersionId::new(version), user))
            }
            // Whoever uploads a version may look at what became of it.
            (Some(Purpose::Upload(said)), user)
                if UploadId::new(said.upload_id).version().get() == version
                    && said.cluster_id.as_ref() == self.cluster_id().bytes() =>
            {
                Ok((VersionId::new(version), user))
            }
            _ => Err(wrong(&format!("version {version} at this cluster"))),
        }
    }

    fn check_ticket(&self, ticket: &[u8]) -> Result<(Option<Purpose>, UserId), RpcError> {
        match self.names.verify(ticket) {
            Ok(body) => Ok((body.purpose, UserId::new(body.user_id))),
            Err(error) => {
                let code = match error {
                    ticket::Error::Forged => "E_TICKET_FORGED",
                    ticket::Error::Expired => "E_TICKET_EXPIRED",
                    ticket::Error::UnknownKey => "E_TICKET_KEY",
                };
                let hint = match error {
                    ticket::Error::Forged => "",
                    ticket::Error::Expired => "ask the supernodes for a fresh ticket",
                    ticket::Error::UnknownKey => "try again in a moment: keys arrive with heartbeats",
                };
                Err(RpcError::new(error.kind(), code, error.to_string()).hint(hint))
            }
        }
    }
}

fn wrong(expected: &str) -> RpcError {
    RpcError::new(
        Kind::Denied,
        "E_TICKET_PURPOSE",
        format!("the ticket is not for {expected}"),
    )
}
