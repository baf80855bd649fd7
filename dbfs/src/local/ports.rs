//! Free loopback ports for a new installation.
//!
//! They are chosen below the range from which the operating system takes ports for outgoing connections, so that a
//! later start does not find one of them taken by somebody's connection.

use std::net::TcpListener;

use common::random::Random;

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// So many ports that nobody uses now; fewer where there are not so many.
///
/// All are held at once while they are looked for, so that none is found twice.
pub(crate) fn free(count: u32, random: &Random) -> Vec<u16> {
    let start = random.below(COUNT.into()) as u16;
    let candidates = (0..COUNT).map(|step| FIRST + (start + step) % COUNT);
    let held: Vec<(u16, TcpListener)> = candidates
        .filter_map(|port| {
            TcpListener::bind(("127.0.0.1", port))
                .ok()
                .map(|listener| (port, listener))
        })
        .take(count as usize)
        .collect();
    held.into_iter().map(|(port, _)| port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_different() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ports = free(40, &Random::seeded(1));
        assert_eq!(ports.len(), 40);
        assert!(!ports.contains(&taken.local_addr().unwrap().port()));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 40);
    }
}
