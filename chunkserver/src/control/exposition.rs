//! `/metrics` for Prometheus: plain HTTP, one answer per connection. Shows counts, never names or contents.

use std::time::Duration;

use common::net::{Connection, Listen};
use common::shutdown::Shutdown;
use common::time::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::metrics::Metrics;

/// How long one exchange may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest request that is read.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// Pause after an accept error, so that the loop does not spin.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Answers until `shutdown` is given, one connection after the other.
pub(crate) async fn serve(mut listener: Box<dyn Listen>, metrics: Metrics, clock: Clock, shutdown: Shutdown) {
    while let Some(accepted) = shutdown.guard(listener.accept()).await {
        match accepted {
            Ok((stream, from)) => {
                let exchange = clock.timeout(EXCHANGE_TIMEOUT, answer(stream, &metrics));
                if let Some(Some(Err(error))) = shutdown.guard(exchange).await {
                    tracing::debug!(%from, %error, "metrics were not delivered");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a metrics connection");
                clock.sleep(ACCEPT_ERROR_PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: Connection, metrics: &Metrics) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let (status, body) = if request.starts_with(b"GET /metrics ") {
        ("200 OK", metrics.text().map_err(std::io::Error::other)?)
    } else {
        ("404 Not Found", "only /metrics is here\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use common::net::Network;

    use super::*;

    #[tokio::test]
    async fn metrics_are_shown_and_nothing_else() {
        let network = Network::tcp(None);
        let listener = network.bind("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let shutdown = Shutdown::new();
        let metrics = Metrics::new().unwrap();
        let serving = tokio::spawn(serve(listener, metrics, Clock::real(), shutdown.clone()));
        for (path, expected) in [("/metrics", "dbfs_cluster_leads 0"), ("/", "404 Not Found")] {
            let mut stream = network.connect(&address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await.unwrap();
            assert!(reply.contains(expected), "{reply}");
        }
        shutdown.trigger();
        serving.await.unwrap();
    }
}
