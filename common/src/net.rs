//! The network seam: where connections come from and go to.
//!
//! Invariant: every TCP socket of ours has TCP_NODELAY set (a delayed acknowledgement costs 44 ms per small request),
//! and connecting has a time limit.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::time::Clock;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ACCEPT_BACKLOG: u32 = 1024;

/// Ports that anybody may listen on and that few programs are known for.
const PORTS: RangeInclusive<u16> = 10_000..=65_535;
/// Where Linux says from which ports it serves outgoing connections.
const OUTGOING: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// What it says unless somebody changed it.
const OUTGOING_USUAL: RangeInclusive<u16> = 32_768..=60_999;

/// A future of this seam.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// One connection, whatever carries it.
pub type Connection = Box<dyn Duplex>;

/// A bound address that accepts connections.
pub trait Listen: Send {
    /// The next connection and who it is from. An error concerns that one connection; go on accepting.
    fn accept(&mut self) -> Pending<'_, io::Result<(Connection, String)>>;
    /// The address as bound, with the real port where 0 was asked for.
    fn address(&self) -> String;
}

/// What a process that does not serve yet says about itself, in clear, to whoever connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Greeting {
    /// It belongs to a group, or may.
    Starting,
    /// It has never belonged to a group.
    WithoutGroup,
}

impl Greeting {
    /// The length of the longest.
    pub const BYTES_MAX: u64 = 64;

    const fn text(self) -> &'static [u8] {
        match self {
            Self::Starting => b"dbfs: starting\n",
            Self::WithoutGroup => b"dbfs: starting without a group\n",
        }
    }

    /// What `said` says.
    pub fn read(said: &[u8]) -> Option<Self> {
        let all = [Self::Starting, Self::WithoutGroup];
        all.into_iter().find(|greeting| greeting.text() == said)
    }
}

/// Runs `opening` while every connection to `listener` is told `greeting` and closed at once: whoever connects to a
/// process that does not serve yet learns it immediately, in place of waiting for an answer.
pub async fn turn_away_during<T>(
    listener: &mut dyn Listen,
    greeting: Greeting,
    opening: impl Future<Output = T>,
) -> T {
    let turning_away = async {
        loop {
            match listener.accept().await {
                // It fits into the buffer of a new connection, so that nobody is waited for.
                Ok((mut connection, _)) => drop(connection.write_all(greeting.text()).await),
                // It concerned one connection alone.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::select! {
        opened = opening => opened,
        () = turning_away => unreachable!("it goes on for ever"),
    }
}

/// How a process reaches others and is reached.
pub trait Transport: Send + Sync {
    /// Binds `address` (`host:port`).
    fn bind<'a>(&'a self, address: &'a str) -> Pending<'a, io::Result<Box<dyn Listen>>>;
    /// Connects to `address` (`host:port`).
    fn connect<'a>(&'a self, address: &'a str) -> Pending<'a, io::Result<Connection>>;
}

/// A cloneable handle to the network.
#[derive(Clone)]
pub struct Network(Arc<dyn Transport>);

impl Network {
    /// TCP. `congestion_control` (for example `cubic`) is set per socket where given; a kernel that does not know it
    /// keeps its default.
    pub fn tcp(congestion_control: Option<String>) -> Self {
        Self(Arc::new(Tcp { congestion_control }))
    }

    /// A network of another kind, for simulation.
    pub fn from_transport(transport: Arc<dyn Transport>) -> Self {
        Self(transport)
    }

    /// Binds `address` (`host:port`).
    ///
    /// # Errors
    /// The address is in use, not ours, or not an address.
    pub async fn bind(&self, address: &str) -> io::Result<Box<dyn Listen>> {
        self.0.bind(address).await
    }

    /// Connects to `address` (`host:port`).
    ///
    /// # Errors
    /// Nobody listens there, or does not answer within 3 s.
    pub async fn connect(&self, address: &str) -> io::Result<Connection> {
        self.0.connect(address).await
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

/// Ports that the operating system gives to no outgoing connection. Who listens on one of them, ends and comes back does
/// not find somebody's connection there; on any other port that happens sooner or later.
pub fn lasting_ports() -> RangeInclusive<u16> {
    let outgoing = std::fs::read_to_string(OUTGOING).ok();
    beside(&outgoing.and_then(|text| range(&text)).unwrap_or(OUTGOING_USUAL))
}

/// The larger of what `outgoing` leaves below and above itself; everything if that is next to nothing.
fn beside(outgoing: &RangeInclusive<u16>) -> RangeInclusive<u16> {
    let below = *PORTS.start()..=outgoing.start().saturating_sub(1);
    let above = outgoing.end().saturating_add(1)..=*PORTS.end();
    let larger = if below.len() >= above.len() { below } else { above };
    if larger.len() >= 1000 { larger } else { PORTS }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first <= last).then_some(first..=last)
}

struct Tcp {
    congestion_control: Option<String>,
}

impl Tcp {
    fn tune(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if let Some(name) = &self.congestion_control {
            // Only a preference: the kernel's default carries the bytes too.
            let _ = socket2::SockRef::from(stream).set_tcp_congestion(name.as_bytes());
        }
        Ok(())
    }
}

impl Transport for Tcp {
    fn bind<'a>(&'a self, address: &'a str) -> Pending<'a, io::Result<Box<dyn Listen>>> {
        Box::pin(async move {
            let target = one_of(address, &resolve(address).await?)?;
            let socket = match target {
                SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
                SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
            };
            socket.set_reuseaddr(true)?;
            socket.bind(target)?;
            let listener = socket.listen(ACCEPT_BACKLOG)?;
            let tuning = Tcp {
                congestion_control: self.congestion_control.clone(),
            };
            Ok(Box::new(TcpListen::new(listener, tuning)) as Box<dyn Listen>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> Pending<'a, io::Result<Connection>> {
        Box::pin(async move {
            let connecting = TcpStream::connect(address);
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
                .await
                .map_err(|_| {
                    io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer"))
                })??;
            self.tune(&stream)?;
            Ok(Box::new(stream) as Connection)
        })
    }
}

async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host(address).await?.collect())
}

/// The first of `found`, which are the addresses of the name in `address`. Says so where the name has others too:
/// whoever connects by that name may try those.
fn one_of(address: &str, found: &[SocketAddr]) -> io::Result<SocketAddr> {
    let first = found
        .first()
        .copied()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address")))?;
    let others: Vec<String> = found
        .iter()
        .filter(|other| other.ip() != first.ip())
        .map(|other| other.ip().to_string())
        .collect();
    if !others.is_empty() {
        tracing::warn!(
            %address, listening = %first, not_listening = others.join(", "),
            "the name has several addresses: only the first is listened on; name an address to choose another"
        );
    }
    Ok(first)
}

/// Descriptors that connections leave to files: segments, databases, logs.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Where Linux says what this process may have at most.
const LIMITS: &str = "/proc/self/limits";
/// Pause while there are no descriptors for connections.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// The operating system's numbers for "too many open files", of the process and of the machine.
const OUT_OF_DESCRIPTORS: [i32; 2] = [libc::EMFILE, libc::ENFILE];

/// How many descriptors this process may have open; no bound where that cannot be learned.
fn descriptors_max() -> u64 {
    let text = std::fs::read_to_string(LIMITS).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(u64::MAX)
}

struct TcpListen {
    listener: TcpListener,
    tuning: Tcp,
    descriptors_max: u64,
    /// Given up where there is no descriptor left, to take a connection with and close it.
    spare: Option<File>,
    /// Connections are turned away for want of descriptors, which was logged.
    exhausted: bool,
}

impl TcpListen {
    fn new(listener: TcpListener, tuning: Tcp) -> Self {
        Self {
            listener,
            tuning,
            descriptors_max: descriptors_max(),
            spare: File::open("/dev/null").ok(),
            exhausted: false,
        }
    }

    /// Whether a connection with this descriptor leaves enough to others. The lowest free number is given first, so that
    /// the number says how many are in use.
    fn may_keep(&self, descriptor: i32) -> bool {
        let reserved = DESCRIPTORS_RESERVED.min(self.descriptors_max / 8);
        u64::try_from(descriptor).unwrap_or(0).saturating_add(reserved) < self.descriptors_max
    }

    /// There are no descriptors for connections: said once, until there are some again.
    fn run_out(&mut self) {
        if !self.exhausted {
            self.exhausted = true;
            tracing::warn!(
                most = self.descriptors_max,
                "out of file descriptors: connections are turned away until others end; raise the limit (ulimit -n)"
            );
        }
    }
}

impl Listen for TcpListen {
    fn accept(&mut self) -> Pending<'_, io::Result<(Connection, String)>> {
        Box::pin(async move {
            loop {
                match self.listener.accept().await {
                    Ok((stream, from)) if self.may_keep(stream.as_raw_fd()) => {
                        if self.exhausted && self.spare.is_some() {
                            self.exhausted = false;
                            tracing::info!("there are file descriptors for connections again");
                        }
                        self.tuning.tune(&stream)?;
                        return Ok((Box::new(stream) as Connection, from.to_string()));
                    }
                    Ok((stream, _)) => {
                        drop(stream);
                        self.run_out();
                    }
                    Err(error)
                        if error
                            .raw_os_error()
                            .is_some_and(|number| OUT_OF_DESCRIPTORS.contains(&number)) =>
                    {
                        self.run_out();
                        // Without a free descriptor the connection could not even be closed, and would be reported again
                        // and again.
                        if self.spare.take().is_some() {
                            drop(self.listener.accept().await);
                        }
                        self.spare = File::open("/dev/null").ok();
                    }
                    Err(error) => return Err(error),
                }
                Clock::real().sleep(EXHAUSTED_PAUSE).await;
            }
        })
    }

    fn address(&self) -> String {
        self.listener
            .local_addr()
            .map(|address| address.to_string())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn both_ends_send_without_delay() {
        let tuning = Tcp {
            congestion_control: Some("cubic".to_owned()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (there, here) = tokio::join!(TcpStream::connect(address), listener.accept());
        for stream in [there.unwrap(), here.unwrap().0] {
            assert!(!stream.nodelay().unwrap());
            tuning.tune(&stream).unwrap();
            assert!(stream.nodelay().unwrap());
        }
    }

    #[test]
    fn lasting_ports_lie_beside_those_of_connections() {
        assert_eq!(range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(range("60999 32768"), None);
        assert_eq!(range("1024"), None);
        assert_eq!(beside(&(32_768..=60_999)), 10_000..=32_767);
        assert_eq!(beside(&(1024..=50_000)), 50_001..=65_535);
        assert_eq!(beside(&(1024..=65_535)), PORTS);
        assert_eq!(beside(&(10_500..=65_535)), PORTS);
        assert!(lasting_ports().len() >= 1000);
    }

    #[tokio::test]
    async fn connections_leave_descriptors_to_files_and_are_taken_again_later() {
        let tuning = Tcp {
            congestion_control: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut listener = TcpListen::new(listener, tuning);
        assert!(listener.descriptors_max >= 256, "{}", listener.descriptors_max);
        let address = listener.address();
        let real = std::mem::replace(&mut listener.descriptors_max, 8);
        let turned_away = async {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            // Closed at once, which the other end sees, in place of waiting for an answer.
            stream.read(&mut [0]).await.unwrap_or(0)
        };
        tokio::select! {
            _ = listener.accept() => panic!("it was taken"),
            read = turned_away => assert_eq!(read, 0),
        }
        assert!(listener.exhausted);
        listener.descriptors_max = real;
        let (_kept, taken) = tokio::join!(TcpStream::connect(&address), listener.accept());
        taken.unwrap();
        assert!(!listener.exhausted);
    }

    #[test]
    fn a_name_with_several_addresses_is_bound_to_the_first() {
        let of =
            |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let both = of(&["127.0.0.1:7", "[::1]:7"]);
        assert_eq!(one_of("localhost:7", &both).unwrap(), both[0]);
        assert_eq!(one_of("x:7", &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error() {
        let network = Network::tcp(None);
        let first = network.bind("127.0.0.1:0").await.unwrap();
        let second = network.bind(&first.address()).await.err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    }
}
