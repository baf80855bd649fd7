//! The metrics endpoint: `GET /metrics` in Prometheus' text format, and answers for probes.
//!
//! | path | answers 200 while | otherwise |
//! |---|---|---|
//! | `/livez`, `/healthz` | the process answers at all, whatever its disks and its group do | no answer: start it again |
//! | `/readyz` | it has opened what it keeps and serves | 503: send it no callers yet |
//! | `/quorumz` | its Raft group commits what is asked of it | 503: look at the others; starting this one again does not help |
//!
//! Invariant (P10): at most so many connections, each for so long; whoever connects can read numbers and nothing else.
//! It speaks plain HTTP without a login, so it is off unless configured, and belongs on a loopback or private address.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::cli::failure::{Exit, Failure};
use common::net::{Connection, Listen};
use common::shutdown::Shutdown;
use common::standing::Standing;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::{Registry, TextEncoder};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

const CONNECTIONS_MAX: usize = 16;
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// The `metrics` section of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `host:port` to serve metrics on; empty: nowhere.
    pub(crate) listen: String,
}

/// Binds the endpoint and serves it in the background until `shutdown`.
///
/// # Errors
/// The address cannot be bound.
pub(crate) async fn serve(
    config: &Config,
    registry: &Registry,
    standing: &Standing,
    seams: &client::Seams,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    if config.listen.is_empty() {
        return Ok(());
    }
    let listener = seams.network.bind(&config.listen).await.map_err(|error| {
        Failure::new(
            Exit::Unavailable,
            "E_ADDRESS",
            format!("cannot serve metrics on {}: {error}", config.listen),
        )
        .hint("write another address at metrics.listen, or leave it empty")
    })?;
    tracing::info!(address = listener.address(), "serving metrics");
    let shown = Shown {
        registry: registry.clone(),
        standing: standing.clone(),
    };
    let (seams, shutdown) = (seams.clone(), shutdown.clone());
    tokio::spawn(async move { shutdown.guard(accept(listener, shown, seams)).await });
    Ok(())
}

/// What can be asked for.
#[derive(Clone)]
struct Shown {
    registry: Registry,
    standing: Standing,
}

async fn accept(mut listener: Box<dyn Listen>, shown: Shown, seams: client::Seams) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            seams.clock.sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (clock, shown) = (seams.clock.clone(), shown.clone());
        tokio::spawn(async move {
            // Whoever is slow or speaks nonsense is left.
            let _ = clock
                .timeout(CONNECTION_TIMEOUT, answer_all(connection, shown))
                .await;
            drop(place);
        });
    }
}

async fn answer_all(connection: Connection, shown: Shown) -> hyper::Result<()> {
    let service = service_fn(|request| std::future::ready(answer(&request, &shown)));
    let server = hyper::server::conn::http1::Builder::new();
    server.serve_connection(TokioIo::new(connection), service).await
}

fn answer<B>(request: &Request<B>, shown: &Shown) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match TextEncoder::new().encode_to_string(&all(&shown.registry)) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        (&Method::GET | &Method::HEAD, "/livez" | "/healthz") => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => {
            probe(shown.standing.is_ready(), "this process does not serve yet\n")
        }
        (&Method::GET | &Method::HEAD, "/quorumz") => probe(
            shown.standing.has_quorum(),
            "no majority of this process's group works together\n",
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "there is /metrics, /livez, /readyz and /quorumz\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("text/plain; version=0.0.4"),
    );
    Ok(response)
}

fn probe(holds: bool, otherwise: &str) -> (StatusCode, String) {
    if holds {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, otherwise.to_owned())
    }
}

/// The role's numbers, and those of the process as such (CPU, memory, open files), which the library keeps by itself.
fn all(registry: &Registry) -> Vec<prometheus::proto::MetricFamily> {
    let mut families = registry.gather();
    families.extend(prometheus::gather());
    families
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: &str, path: &str) -> String {
        let mut stream = client::Seams::real().network.connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn numbers_can_be_read() {
        let seams = client::Seams::real();
        let listener = seams.network.bind("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let registry = Registry::new();
        let standing = Standing::default();
        let shown = Shown {
            registry: registry.clone(),
            standing: standing.clone(),
        };
        tokio::spawn(accept(listener, shown, seams.clone()));
        let counter = prometheus::IntCounter::new("dbfs_test_total", "A test.").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc();
        let numbers = get(&address, "/metrics").await;
        assert!(
            numbers.contains("dbfs_test_total 1") && numbers.contains("process_cpu_seconds_total"),
            "{numbers}"
        );
        // Three questions, three answers: alive at once, ready when it serves, with a quorum when its group has one.
        let answers = async || {
            let mut codes = Vec::new();
            for path in ["/livez", "/healthz", "/readyz", "/quorumz"] {
                let answer = get(&address, path).await;
                codes.push(answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap());
            }
            codes
        };
        assert_eq!(answers().await, [200, 200, 503, 503]);
        let quorum = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let asked = Arc::clone(&quorum);
        standing.set_quorum(move || asked.load(std::sync::atomic::Ordering::Relaxed));
        standing.set_ready(true);
        assert_eq!(answers().await, [200, 200, 200, 200]);
        quorum.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(answers().await, [200, 200, 200, 503]);
        assert!(get(&address, "/secret").await.starts_with("HTTP/1.1 404"));
        let taken = Config { listen: address };
        let failure = serve(&taken, &registry, &standing, &seams, &Shutdown::new())
            .await
            .unwrap_err();
        assert_eq!(failure.code, "E_ADDRESS");
    }
}
