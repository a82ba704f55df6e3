//! What identifies a service and a destination.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

#[cfg(feature = "serde")]
use crate::forms;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Family {
    /// IPv4.
    #[cfg_attr(feature = "serde", serde(rename = "ipv4"))]
    V4,
    /// IPv6.
    #[cfg_attr(feature = "serde", serde(rename = "ipv6"))]
    V6,
}

impl From<IpAddr> for Family {
    fn from(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An IP protocol number.
///
/// IPVS balances TCP, UDP and SCTP; the kernel stores any other number without complaint, so any
/// other number is kept as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u16);

impl Protocol {
    /// The Transmission Control Protocol, 6.
    pub const TCP: Self = Self(6);
    /// The User Datagram Protocol, 17.
    pub const UDP: Self = Self(17);
    /// The Stream Control Transmission Protocol, 132.
    pub const SCTP: Self = Self(132);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => f.write_str("tcp"),
            Self::UDP => f.write_str("udp"),
            Self::SCTP => f.write_str("sctp"),
            Self(other) => write!(f, "protocol {other}"),
        }
    }
}

/// What identifies a service: an address, or a firewall mark with a family.
///
/// Keys order by protocol, address and port, then marks; addresses order as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "forms::ServiceKey", try_from = "forms::ServiceKey"))]
pub enum ServiceKey {
    /// Traffic to one address and port.
    Address {
        /// The transport protocol.
        protocol: Protocol,
        /// The virtual address.
        address: IpAddr,
        /// The port; 0 stands for every port, which is of use to persistent services only.
        port: u16,
    },
    /// Traffic that a packet filter marked. The same mark for IPv4 and IPv6 is two services.
    Mark {
        /// The firewall mark.
        mark: NonZeroU32,
        /// The family of the marked traffic.
        family: Family,
    },
}

impl ServiceKey {
    /// The key of a TCP service.
    pub fn tcp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::address(Protocol::TCP, address, port)
    }

    /// The key of a UDP service.
    pub fn udp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::address(Protocol::UDP, address, port)
    }

    /// The key of an SCTP service.
    pub fn sctp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::address(Protocol::SCTP, address, port)
    }

    /// The key of a service of any protocol.
    pub fn address(protocol: Protocol, address: impl Into<IpAddr>, port: u16) -> Self {
        Self::Address { protocol, address: address.into(), port }
    }

    /// The key of a service that takes what a packet filter marked.
    pub fn mark(mark: NonZeroU32, family: Family) -> Self {
        Self::Mark { mark, family }
    }

    /// The service's address family.
    pub fn family(&self) -> Family {
        match *self {
            Self::Address { address, .. } => address.into(),
            Self::Mark { family, .. } => family,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address { protocol, address, port } => {
                write!(f, "{protocol} {}", SocketAddr::new(address, port))
            }
            Self::Mark { mark, family } => write!(f, "{family} firewall mark {mark}"),
        }
    }
}

/// What identifies a destination within its service: an address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct DestinationKey {
    /// The real server's address.
    pub address: IpAddr,
    /// The real server's port.
    pub port: u16,
}

impl DestinationKey {
    /// The key of a destination.
    pub fn new(address: impl Into<IpAddr>, port: u16) -> Self {
        Self { address: address.into(), port }
    }

    /// The destination's address family.
    pub fn family(&self) -> Family {
        self.address.into()
    }
}

impl From<SocketAddr> for DestinationKey {
    fn from(address: SocketAddr) -> Self {
        Self { address: address.ip(), port: address.port() }
    }
}

impl<A: Into<IpAddr>> From<(A, u16)> for DestinationKey {
    fn from((address, port): (A, u16)) -> Self {
        Self::new(address, port)
    }
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn addresses_order_as_numbers() {
        let low = ServiceKey::tcp(Ipv4Addr::new(10, 0, 0, 1), 80);
        let high = ServiceKey::tcp(Ipv4Addr::new(192, 168, 0, 1), 80);
        assert!(low < high);
    }

    #[test]
    fn keys_print_as_people_write_them() {
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(ServiceKey::udp(v6, 53).to_string(), "udp [2001:db8::1]:53");
        let mark = ServiceKey::mark(NonZeroU32::MAX, Family::V6);
        assert_eq!(mark.to_string(), "IPv6 firewall mark 4294967295");
    }
}
