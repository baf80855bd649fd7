//! The first frames of a connection: both sides say who they are and agree on a version, or one says why not.

use common::error::Kind;
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{FrameType, Malformed, RequestNumber};
use super::message::{Goodbye, Hello, VERSION_MAX, VERSION_MIN};
use super::transport::{self, FrameReader, FrameWriter};

/// The two sides could not agree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream failed or holds something else.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// The other side refused us, or we refused it: the reason.
    #[error(transparent)]
    Refused(#[from] Goodbye),
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Error::Transport(malformed.into())
    }
}

impl Hello {
    /// What this build says of itself on behalf of `cluster`.
    pub fn of(cluster: common::ids::ClusterId, node: Option<common::ids::NodeId>) -> Self {
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            cluster,
            features: 0,
            node,
        }
    }
}

/// The asking side: says `ours` and waits for what the server says of itself.
///
/// # Errors
/// The stream fails, or the server refuses.
pub async fn ask<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    ours: &Hello,
) -> Result<Hello, Error> {
    writer.preface();
    writer.control(RequestNumber::CONNECTION, ours);
    writer.flush().await.map_err(transport::Error::from)?;
    let theirs = listen(reader).await?;
    judge(ours, &theirs)?;
    Ok(theirs)
}

/// The serving side: hears what the client says and answers with `ours` or a refusal.
///
/// # Errors
/// The stream fails, or the client was refused; it has been told why then.
pub async fn answer<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    ours: &Hello,
) -> Result<Hello, Error> {
    let heard = listen(reader).await;
    writer.preface();
    let verdict = match heard {
        Ok(theirs) => judge(ours, &theirs).map(|()| theirs).map_err(Error::from),
        Err(error) => Err(error),
    };
    match &verdict {
        Ok(_) => writer.control(RequestNumber::CONNECTION, ours),
        Err(Error::Refused(goodbye)) => writer.control(RequestNumber::CONNECTION, goodbye),
        Err(Error::Transport(_)) => return verdict,
    }
    writer.flush().await.map_err(transport::Error::from)?;
    verdict
}

async fn listen<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<Hello, Error> {
    reader.preface().await?;
    let frame = reader.next().await?.ok_or(Malformed::Truncated)?;
    if frame.frame_type == FrameType::Goodbye {
        return Err(Error::Refused(frame.decode()?));
    }
    Ok(frame.decode::<Hello>()?)
}

fn judge(ours: &Hello, theirs: &Hello) -> Result<(), Goodbye> {
    if ours.cluster != theirs.cluster {
        return Err(Goodbye::new(
            Kind::Stale,
            "E_WRONG_CLUSTER",
            format!("this is cluster {}, not {}", ours.cluster, theirs.cluster),
        ));
    }
    if ours.version_max.min(theirs.version_max) < ours.version_min.max(theirs.version_min) {
        return Err(Goodbye::new(
            Kind::Invalid,
            "E_PROTOCOL_VERSION",
            format!(
                "bulk protocol {} to {} is spoken here, not {} to {}",
                ours.version_min, ours.version_max, theirs.version_min, theirs.version_max
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{ClusterId, NodeId};

    async fn meet(client: Hello, server: Hello) -> (Result<Hello, Error>, Result<Hello, Error>) {
        let (near, far) = tokio::io::duplex(4096);
        let ((near_read, near_write), (far_read, far_write)) =
            (tokio::io::split(near), tokio::io::split(far));
        let asking = async {
            ask(
                &mut FrameReader::new(near_read),
                &mut FrameWriter::new(near_write),
                &client,
            )
            .await
        };
        let answering = async {
            answer(
                &mut FrameReader::new(far_read),
                &mut FrameWriter::new(far_write),
                &server,
            )
            .await
        };
        tokio::join!(asking, answering)
    }

    fn hello() -> Hello {
        Hello::of(ClusterId::new([1; 16]), None)
    }

    #[tokio::test]
    async fn both_sides_learn_of_each_other() {
        let server = Hello {
            node: Some(NodeId::new(3)),
            version_max: 9,
            ..hello()
        };
        let (asked, answered) = meet(hello(), server.clone()).await;
        assert_eq!(asked.unwrap(), server);
        assert_eq!(answered.unwrap(), hello());
    }

    #[tokio::test]
    async fn another_cluster_or_version_is_refused_politely() {
        let cases = [
            (
                Hello {
                    cluster: ClusterId::new([2; 16]),
                    ..hello()
                },
                "E_WRONG_CLUSTER",
            ),
            (
                Hello {
                    version_min: 8,
                    version_max: 9,
                    ..hello()
                },
                "E_PROTOCOL_VERSION",
            ),
        ];
        for (stranger, code) in cases {
            let (asked, answered) = meet(stranger, hello()).await;
            for result in [asked, answered] {
                let Err(Error::Refused(goodbye)) = result else {
                    panic!("refused on both sides: {result:?}");
                };
                assert_eq!(goodbye.code, code);
            }
        }
    }

    #[tokio::test]
    async fn another_protocol_is_noticed() {
        let mut reader = FrameReader::new(&b"GET / HTTP/1.1\r\n\r\n"[..]);
        let mut writer = FrameWriter::new(tokio::io::sink());
        let result = answer(&mut reader, &mut writer, &hello()).await;
        assert!(
            matches!(
                result,
                Err(Error::Transport(transport::Error::Malformed(Malformed::Preface)))
            ),
            "{result:?}"
        );
    }
}
