//! Where a mesh lives on loopback: a `/24` of its own, `127.X.Y.0`.
//!
//! Every workload has an address of its own there, as a pod has, so that all can use standard ports and
//! two meshes never collide. Which `/24` follows from the state directory, so that a mesh is found at the
//! same addresses after every start; if another mesh holds it, the next one is taken.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aws_lc_rs::digest;

/// The port whose listener is the claim on a `/24`.
const CLAIM_PORT: u16 = 15_009;

/// How many `/24`s are tried: more than meshes can sensibly run on one machine.
const ATTEMPTS: u16 = 256;

/// The last byte of the first workload's address.
const FIRST_WORKLOAD: u8 = 10;

/// Why a mesh has no addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("cannot claim loopback addresses: {subnet} (first of {ATTEMPTS} tried)")]
    NoneFree { subnet: Subnet, source: io::Error },
}

/// A `/24` of loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    second: u8,
    third: u8,
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "127.{}.{}.0/24", self.second, self.third)
    }
}

impl Subnet {
    /// The subnet at a place among all 65,024; 127.0.0.0/16, which others use, is left out.
    fn at(index: u16) -> Self {
        let index = index % (254 * 256);
        let [second, third] = index.to_be_bytes();
        Self {
            second: second + 1,
            third,
        }
    }

    fn host(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, last)
    }

    /// Where the CA and the control plane listen.
    pub(crate) fn system(self) -> Ipv4Addr {
        self.host(1)
    }

    /// Where the development issuer listens.
    pub(crate) fn issuer(self) -> Ipv4Addr {
        self.host(2)
    }

    /// The address of the `index`th workload; `None` when the `/24` is used up.
    pub(crate) fn workload(self, index: usize) -> Option<Ipv4Addr> {
        let last = u8::try_from(index).ok()?.checked_add(FIRST_WORKLOAD)?;
        (last < u8::MAX).then(|| self.host(last))
    }
}

/// How many workloads a mesh can have.
pub(crate) const MOST_WORKLOADS: usize = (u8::MAX - FIRST_WORKLOAD) as usize;

/// A `/24` that no other mesh can take while this value lives, or this process, however it ends.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) subnet: Subnet,
    _listener: TcpListener,
}

/// Claims the `/24` of a state directory, or the next that is free.
pub(crate) fn claim(state_directory: &Path) -> Result<Claim, AddressError> {
    let hash = digest::digest(&digest::SHA256, state_directory.as_os_str().as_bytes());
    let start = match hash.as_ref() {
        [first, second, ..] => u16::from_be_bytes([*first, *second]),
        _ => 0,
    };
    let mut first_failure = None;
    for attempt in 0..ATTEMPTS {
        let subnet = Subnet::at(start.wrapping_add(attempt));
        match TcpListener::bind(SocketAddrV4::new(subnet.system(), CLAIM_PORT)) {
            Ok(listener) => {
                return Ok(Claim {
                    subnet,
                    _listener: listener,
                });
            }
            Err(error) => {
                first_failure.get_or_insert((subnet, error));
            }
        }
    }
    let (subnet, source) =
        first_failure.unwrap_or_else(|| (Subnet::at(start), io::ErrorKind::AddrInUse.into()));
    Err(AddressError::NoneFree { subnet, source })
}

/// A port that somebody is going to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedPort {
    pub(crate) address: SocketAddr,
    /// Who wants it and what for: "workload orders, port 8080".
    pub(crate) wanted_by: String,
}

/// A port that cannot be had.
#[derive(Debug)]
pub(crate) struct UnavailablePort {
    pub(crate) port: WantedPort,
    pub(crate) error: io::Error,
}

impl fmt::Display for UnavailablePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WantedPort { address, wanted_by } = &self.port;
        if self.error.kind() == io::ErrorKind::AddrInUse {
            let port = address.port();
            write!(
                f,
                "port {address} is in use, wanted by {wanted_by}; \
                 find who has it with `ss -ltnp 'sport = :{port}'`"
            )
        } else {
            write!(
                f,
                "port {address} cannot be used, wanted by {wanted_by}: {}",
                self.error
            )
        }
    }
}

/// The ports among `wanted` that cannot be had now.
pub(crate) fn unavailable(wanted: &[WantedPort]) -> Vec<UnavailablePort> {
    wanted
        .iter()
        .filter_map(|port| {
            let error = TcpListener::bind(port.address).err()?;
            Some(UnavailablePort {
                port: port.clone(),
                error,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_subnet_is_loopback_and_there_once() {
        let all: HashSet<_> = (0..=u16::MAX)
            .map(|index| Subnet::at(index).to_string())
            .collect();
        assert_eq!(all.len(), 254 * 256);
        for index in 0..=u16::MAX {
            let subnet = Subnet::at(index);
            assert!(subnet.system().is_loopback());
            assert!((1..=254).contains(&subnet.second));
        }
    }

    #[test]
    fn workloads_fill_the_subnet_and_no_more() {
        let subnet = Subnet {
            second: 1,
            third: 2,
        };
        assert_eq!(subnet.workload(0), Some(Ipv4Addr::new(127, 1, 2, 10)));
        assert_eq!(
            subnet.workload(MOST_WORKLOADS - 1),
            Some(Ipv4Addr::new(127, 1, 2, 254))
        );
        assert_eq!(subnet.workload(MOST_WORKLOADS), None);
        assert_eq!(subnet.workload(usize::MAX), None);
    }

    #[test]
    fn a_mesh_keeps_its_subnet_and_two_never_share() {
        let directory = tempfile::tempdir().unwrap();
        let first = claim(directory.path()).unwrap();
        let second = claim(directory.path()).unwrap();
        assert_ne!(first.subnet, second.subnet);
        let kept = first.subnet;
        drop((first, second));
        assert_eq!(claim(directory.path()).unwrap().subnet, kept);
    }

    #[test]
    fn a_port_in_use_is_told_with_who_wants_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let wanted = [WantedPort {
            address,
            wanted_by: "workload orders, port 8080".to_owned(),
        }];
        let unavailable = unavailable(&wanted);
        let text = unavailable
            .iter()
            .map(ToString::to_string)
            .collect::<String>();
        let expected = format!("port {address} is in use, wanted by workload orders, port 8080; ");
        assert!(text.starts_with(&expected), "{text}");
        drop(taken);
        assert!(super::unavailable(&wanted).is_empty());
    }
}
