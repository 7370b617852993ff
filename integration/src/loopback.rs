//! Loopback addresses for one test: a `/24` of its own, so that every program can use fixed ports there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The port whose listener on `.1` is the claim on a `/24`; `countersign up` claims in the same way.
const CLAIM_PORT: u16 = 15_009;
/// How many `/24`s are tried.
const ATTEMPTS: u32 = 256;

/// Where to look first for the next one.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A `/24` of loopback that nobody else claims while this value lives.
#[derive(Debug)]
pub struct Loopback {
    second: u8,
    third: u8,
    _claim: TcpListener,
}

impl Loopback {
    /// Claims a free one.
    ///
    /// # Errors
    /// When none of many is free.
    pub fn claim() -> io::Result<Self> {
        let mut last = io::Error::other("nothing was tried");
        for _ in 0..ATTEMPTS {
            // Processes start far from one another.
            let index = std::process::id().wrapping_mul(97) + NEXT.fetch_add(1, Ordering::Relaxed);
            let [_, _, second, third] = (index % (254 * 256)).to_be_bytes();
            let second = second + 1;
            match TcpListener::bind((Ipv4Addr::new(127, second, third, 1), CLAIM_PORT)) {
                Ok(claim) => {
                    return Ok(Self {
                        second,
                        third,
                        _claim: claim,
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// An address in it.
    #[must_use]
    pub fn address(&self, last: u8, port: u16) -> SocketAddr {
        (Ipv4Addr::new(127, self.second, self.third, last), port).into()
    }
}
