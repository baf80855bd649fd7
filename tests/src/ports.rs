//! Ports that one test has to itself, also while its processes are down.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use common::net::lasting_ports;

/// The first of `count` ports in a row that nobody uses now, that no other call in this process gets, and that neither
/// an outgoing connection nor an installation which chooses for itself is given.
pub fn own_ports(count: u32) -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let lasting = lasting_ports();
    let lower_half = u32::try_from(lasting.len() / 2).unwrap_or(0) - count;
    loop {
        // Another run of tests on this machine, which began a moment earlier, is some hundred ports away.
        let at = TAKEN.fetch_add(count, Ordering::Relaxed) + 256 * (std::process::id() % 1024);
        let first = lasting.start() + u16::try_from(at % lower_half).unwrap_or(0);
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (first..).take(count as usize).all(is_free) {
            return first;
        }
    }
}
