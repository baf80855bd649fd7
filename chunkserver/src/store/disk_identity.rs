//! The file that says whose data directory this is.
//!
//! Invariant (P7, P11): a directory of another cluster or node, or one with strangers' files, is refused by name and
//! nothing in it is touched. A directory is ours only once its identity is durable, before the first segment.

use common::checksum::crc64;
use common::disk::buffer::AlignedBuf;
use common::disk::{Disk, OpenMode};
use common::ids::{ClusterId, DiskId, NodeId};
use common::random::Random;

use super::error::Error;
use super::schema::PAGE;
use super::segment::Owner;

const NAME: &str = "identity";
const TITLE: &str = "dbfs data directory";
const FORMAT: u32 = 1;
const BYTES_MAX: usize = PAGE as usize;

/// The node that uses the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id in that cluster.
    pub node: NodeId,
}

/// Reads the identity of `disk`, or makes one if the directory is empty. True: it was made now.
pub(super) async fn claim(disk: &Disk, who: Identity, random: &Random) -> Result<(Owner, bool), Error> {
    let names = disk.list().await?;
    if names.iter().any(|name| name == NAME) {
        let owner = parse(&read(disk).await?).map_err(|reason| refuse(disk, reason))?;
        check(owner, who).map_err(|reason| refuse(disk, reason))?;
        return Ok((owner, false));
    }
    if let Some(stranger) = names.iter().find(|name| *name != &aside(NAME)) {
        let reason = format!(
            "it holds files (for example '{stranger}') but no '{NAME}' file of DBFS; name an empty directory, or put \
             the '{NAME}' file back"
        );
        return Err(refuse(disk, reason));
    }
    let owner = Owner {
        cluster: who.cluster,
        node: who.node,
        disk: DiskId::new(random.bytes()),
    };
    replace(disk, NAME, vec![print(owner)]).await?;
    Ok((owner, true))
}

fn check(owner: Owner, who: Identity) -> Result<(), String> {
    if owner.cluster != who.cluster {
        return Err(format!(
            "it belongs to cluster {}, this node to cluster {}; name another directory",
            owner.cluster, who.cluster
        ));
    }
    if owner.node != who.node {
        return Err(format!(
            "it belongs to node {}, this is node {}; name another directory",
            owner.node, who.node
        ));
    }
    Ok(())
}

fn refuse(disk: &Disk, reason: String) -> Error {
    Error::Directory {
        path: disk.describe().into(),
        reason,
    }
}

async fn read(disk: &Disk) -> Result<Vec<u8>, Error> {
    let file = disk.open(NAME, OpenMode::ReadDirect).await?;
    let buffer = file.read(0, BYTES_MAX, AlignedBuf::unpooled(BYTES_MAX)).await?;
    Ok(buffer.as_slice().to_vec())
}

/// Lines for people, then a checksum over them, then line ends up to a whole page.
fn print(owner: Owner) -> AlignedBuf {
    let mut text = format!(
        "{TITLE}\nformat: {FORMAT}\ncluster: {}\nnode: {}\ndisk: {}\n",
        owner.cluster, owner.node, owner.disk
    );
    let sum = crc64(text.as_bytes());
    text.push_str(&format!("check: {sum:016x}\n"));
    let mut page = vec![b'\n'; BYTES_MAX];
    for (target, byte) in page.iter_mut().zip(text.bytes()) {
        *target = byte;
    }
    AlignedBuf::copied_from(&page)
}

fn parse(bytes: &[u8]) -> Result<Owner, String> {
    let damaged = || "its identity file is damaged; restore the file, or name an empty directory".to_owned();
    let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
    let (body, rest) = text.split_once("check: ").ok_or_else(damaged)?;
    let sum = u64::from_str_radix(rest.trim_end(), 16).map_err(|_| damaged())?;
    if sum != crc64(body.as_bytes()) {
        return Err(damaged());
    }
    let field = |name: &str| {
        let mut lines = body.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .ok_or_else(damaged)
    };
    let format: u32 = field("format")?.parse().map_err(|_| damaged())?;
    if format > FORMAT {
        return Err(format!(
            "it is of format {format}, this build reads up to {FORMAT}; run the newer version"
        ));
    }
    Ok(Owner {
        cluster: field("cluster")?.parse().map_err(|_| damaged())?,
        node: field("node")?.parse().map_err(|_| damaged())?,
        disk: field("disk")?.parse().map_err(|_| damaged())?,
    })
}

/// The name under which a file is written before it takes its place.
pub(super) fn aside(name: &str) -> String {
    format!("{name}.new")
}

/// Makes `content` the file `name`, durably; after a power cut it is the old content or the new.
pub(super) async fn replace(disk: &Disk, name: &str, content: Vec<AlignedBuf>) -> Result<(), Error> {
    let aside = aside(name);
    match disk.remove(&aside).await {
        Ok(()) | Err(common::disk::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let file = disk.open(&aside, OpenMode::Create).await?;
    let outcome = async {
        let mut offset = 0;
        for part in content {
            let length = part.len() as u64;
            file.write(offset, vec![part.freeze()]).await?;
            offset += length;
        }
        file.sync().await?;
        disk.rename(&aside, name).await
    }
    .await;
    if outcome.is_err() {
        // The space goes back now rather than at the next start; the first error is the one to report.
        let _ = disk.remove(&aside).await;
    }
    outcome.map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_print_and_parse() {
        let owner = Owner {
            cluster: ClusterId::new([1; 16]),
            node: NodeId::new(2),
            disk: DiskId::new([3; 16]),
        };
        let page = print(owner);
        assert_eq!(page.len(), BYTES_MAX);
        assert_eq!(parse(page.as_slice()), Ok(owner));
        for at in 0..190 {
            let mut damaged = page.as_slice().to_vec();
            damaged[at] ^= 1;
            assert!(parse(&damaged).map_or(true, |read| read == owner), "byte {at}");
        }
        let newer = "dbfs data directory\nformat: 2\n";
        let newer = format!("{newer}check: {:016x}\n", crc64(newer.as_bytes()));
        assert!(parse(newer.as_bytes()).unwrap_err().contains("newer version"));
    }
}
