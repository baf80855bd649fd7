//! `host:port` as people write it: checked where it is read, so that a slip is a sentence and not a time-out.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

/// An address cannot be used as it is written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{text}' {reason}")]
pub struct Error {
    /// As written.
    pub text: String,
    /// What is wrong with it, as the rest of a sentence.
    pub reason: String,
    /// What to write in its place; empty where that cannot be guessed.
    pub instead: String,
}

impl Error {
    /// What is wrong, and what to write in its place.
    pub fn advice(&self) -> String {
        if self.instead.is_empty() {
            format!("{self}; write host:port")
        } else {
            format!("{self}; write {}", self.instead)
        }
    }
}

fn refuse<T>(text: &str, reason: &str, instead: String) -> Result<T, Error> {
    Err(Error {
        text: text.to_owned(),
        reason: reason.to_owned(),
        instead,
    })
}

/// Host and port of `text`. The host is a name, an IPv4 address, or an IPv6 address in brackets, which are kept.
///
/// # Errors
/// It is none; what could have been meant is in the error.
pub fn parse(text: &str) -> Result<(&str, u16), Error> {
    if let Some((_, rest)) = text.split_once("://") {
        let instead = rest.split('/').next().unwrap_or_default().to_owned();
        return refuse(text, "is a URL, and host:port is needed", instead);
    }
    if text.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | ',')) {
        return refuse(text, "is not host:port", String::new());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else {
            return refuse(text, "has no closing bracket", String::new());
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return refuse(text, "has no IPv6 address between its brackets", String::new());
        }
        let Some(port) = after.strip_prefix(':').and_then(port) else {
            return refuse(text, "has no port", format!("[{host}]:PORT"));
        };
        let bracketed = text.get(..host.len() + 2).unwrap_or(text);
        return Ok((bracketed, port));
    }
    match text.rsplit_once(':') {
        None => refuse(text, "has no port", format!("{text}:PORT")),
        Some((host, after)) if host.contains(':') => {
            let reason =
                "is an IPv6 address without brackets: where it ends and the port begins is not clear";
            let is_host = host.parse::<Ipv6Addr>().is_ok() && port(after).is_some();
            let instead = if is_host {
                format!("[{host}]:{after}")
            } else {
                format!("[{text}]:PORT")
            };
            refuse(text, reason, instead)
        }
        Some(("", _)) => refuse(text, "has no host", String::new()),
        Some((host, after)) => match port(after) {
            Some(port) => Ok((host, port)),
            None => refuse(
                text,
                "has no port from 0 to 65535 after its colon",
                format!("{host}:PORT"),
            ),
        },
    }
}

fn port(text: &str) -> Option<u16> {
    // `+1` parses as a number and is no port.
    Some(text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()
}

/// Checks an address that others are to connect to.
///
/// # Errors
/// It is not `host:port`, or nobody can connect to it.
pub fn check_reachable(text: &str) -> Result<(), Error> {
    let (host, port) = parse(text)?;
    if port == 0 {
        return refuse(
            text,
            "has port 0, which nobody can connect to",
            format!("{host}:PORT"),
        );
    }
    if is_unspecified(host) {
        let reason = "means every address of the machine itself, which nobody else can connect to";
        return refuse(text, reason, format!("HOST:{port}"));
    }
    Ok(())
}

fn is_unspecified(host: &str) -> bool {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    match plain.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_unspecified(),
        // The resolver takes `0` for 0.0.0.0.
        Err(_) => plain.bytes().all(|byte| matches!(byte, b'0' | b'.')),
    }
}

/// What a process that is bound to `bound` tells others to connect to: `advertise` where that is given, and otherwise
/// as it is bound. One that is bound to every address takes the one from which its `seeds` are reached.
///
/// # Errors
/// There is no such address, or the seeds are reached from different ones.
pub fn announced(advertise: &str, bound: &str, seeds: &[String]) -> Result<String, Error> {
    if !advertise.is_empty() {
        return check_reachable(advertise).map(|()| advertise.to_owned());
    }
    let (host, port) = parse(bound)?;
    if !is_unspecified(host) {
        return Ok(bound.to_owned());
    }
    let mut own: Vec<IpAddr> = seeds.iter().filter_map(|seed| source_toward(seed)).collect();
    own.sort_unstable();
    own.dedup();
    match own.as_slice() {
        [only] => Ok(SocketAddr::new(*only, port).to_string()),
        [] => refuse(
            bound,
            "listens on every address, and no seed says from which of them others can connect: set `advertise`",
            format!("HOST:{port}"),
        ),
        _ => refuse(
            bound,
            "listens on every address, and the seeds are reached from different ones: set `advertise`",
            format!("HOST:{port}"),
        ),
    }
}

/// Our address on the way to `seed`. Nothing is sent: connecting a datagram socket only looks up the route.
fn source_toward(seed: &str) -> Option<IpAddr> {
    let socket = |any: &str| UdpSocket::bind((any, 0)).ok();
    for any in ["0.0.0.0", "::"] {
        let source = socket(any).and_then(|socket| {
            socket.connect(seed).ok()?;
            Some(socket.local_addr().ok()?.ip())
        });
        if source.is_some_and(|source| !source.is_unspecified()) {
            return source;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_address_is_told_with_what_to_write() {
        for (text, read) in [
            ("host:7001", ("host", 7001)),
            ("127.0.0.1:0", ("127.0.0.1", 0)),
            ("[::1]:9", ("[::1]", 9)),
        ] {
            assert_eq!(parse(text), Ok(read), "{text}");
        }
        for (text, instead) in [
            ("host", "host:PORT"),
            ("host:", "host:PORT"),
            ("host:port", "host:PORT"),
            ("host:70000", "host:PORT"),
            ("host:+1", "host:PORT"),
            ("https://host:7001/x", "host:7001"),
            ("::1:47061", "[::1]:47061"),
            ("::1", "[::1]:PORT"),
            ("fe80::abcd", "[fe80::abcd]:PORT"),
            ("2001:db8::5:1", "[2001:db8::5]:1"),
            ("[::1]", "[::1]:PORT"),
            ("[::1", ""),
            ("[host]:1", ""),
            (":1", ""),
            ("", ":PORT"),
            ("me@host:1", ""),
            ("a b:1", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.instead, instead, "{text}: {error}");
        }
    }

    #[test]
    fn what_nobody_can_connect_to_is_not_announced() {
        for text in [
            "0.0.0.0:1",
            "[::]:1",
            "0:1",
            "0.0:1",
            "[::ffff:0.0.0.0]:1",
            "host:0",
            "host",
        ] {
            assert!(check_reachable(text).is_err(), "{text}");
            assert!(announced(text, "127.0.0.1:1", &[]).is_err(), "{text}");
        }
        let seeds = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
        assert_eq!(announced("", "10.0.0.1:7", &[]).unwrap(), "10.0.0.1:7");
        assert_eq!(announced("host:9", "0.0.0.0:7", &[]).unwrap(), "host:9");
        let loopback = seeds(&["127.0.0.1:5", "127.0.0.1:6"]);
        assert_eq!(announced("", "0.0.0.0:7", &loopback).unwrap(), "127.0.0.1:7");
        assert_eq!(announced("", "[::]:7", &loopback).unwrap(), "127.0.0.1:7");
        assert!(announced("", "0.0.0.0:7", &[]).is_err());
        assert!(announced("", "0.0.0.0:7", &seeds(&["no.such.host.invalid:1"])).is_err());
    }
}
