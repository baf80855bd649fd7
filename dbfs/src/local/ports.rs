//! Free loopback ports for a new installation.
//!
//! They are chosen once and kept, so they are taken from those that no outgoing connection is given: a later start does
//! not find one of them in use by somebody's connection.

use std::net::TcpListener;

use client::cli::failure::{Exit, Failure};
use common::net::lasting_ports;
use common::random::Random;

/// `count` ports that nobody uses now, fewer where there are not so many, from anywhere in the upper half of [`lasting_ports`]: the lower half is for those
/// who choose for themselves.
///
/// All are held at once while they are looked for, so that none is found twice.
pub(crate) fn free(count: u32, random: &Random) -> Vec<u16> {
    let lasting: Vec<u16> = lasting_ports().collect();
    let (_, upper) = lasting.split_at(lasting.len() / 2);
    let (later, sooner) = upper.split_at(random.below(upper.len() as u64) as usize);
    let held: Vec<(u16, TcpListener)> = sooner
        .iter()
        .chain(later)
        .filter_map(|port| hold(*port).map(|listener| (*port, listener)))
        .take(count as usize)
        .collect();
    held.into_iter().map(|(port, _)| port).collect()
}

/// The `count` ports from `first` on.
///
/// # Errors
/// Somebody uses one of them, or there are not so many.
pub(crate) fn from(first: u16, count: u32) -> Result<Vec<u16>, Failure> {
    let ports: Vec<u16> = (first..=u16::MAX).take(count as usize).collect();
    if ports.len() < count as usize {
        let message = format!(
            "{count} ports are needed, and there are {} from {first} on",
            ports.len()
        );
        return Err(Failure::usage(message).hint("name a lower --first-port"));
    }
    if let Some(taken) = ports.iter().find(|port| hold(**port).is_none()) {
        let message = format!("port {taken} is in use, and the {count} from {first} on are needed");
        return Err(Failure::new(Exit::Unavailable, "E_ADDRESS", message)
            .hint("name another --first-port, or leave it out for ports that are free"));
    }
    Ok(ports)
}

fn hold(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_different() {
        let mut ports = free(40, &Random::seeded(1));
        assert_eq!(ports.len(), 40);
        assert!(ports.iter().all(|port| lasting_ports().contains(port)));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 40);
    }

    #[test]
    fn chosen_ports_are_taken_as_they_are_or_not_at_all() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let refused = from(port - 2, 3).unwrap_err();
        assert!(refused.message.contains(&port.to_string()), "{}", refused.message);
        assert_eq!(from(65_534, 3).unwrap_err().exit, Exit::Usage);
        let ports = free(2, &Random::seeded(2));
        assert_eq!(from(ports[0], 1).unwrap(), [ports[0]]);
    }
}
