//! The identities of services and destinations in the kernel's table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{DestinationKey, Family, ServiceKey};
use crate::uapi::ipvs::{AF_INET, AF_INET6};

/// An address as the kernel keeps it: an IPv4 one in the first four bytes, the rest zero.
pub(super) type Address = [u8; 16];

/// The identity of a service. Keys have the order of listings: scrambled, since the kernel promises
/// no order, with firewall marks last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Address { scramble: u32, family: u16, protocol: u16, address: Address, port: u16 },
    Mark { family: u16, mark: u32 },
}

impl Key {
    pub(super) fn address(family: u16, protocol: u16, address: Address, port: u16) -> Self {
        let address = canonical(family, address);
        let scramble = address
            .iter()
            .chain(&port.to_ne_bytes())
            .chain(&protocol.to_ne_bytes())
            .fold(0x811c_9dc5_u32, |hash, &byte| {
                (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            });
        Self::Address { scramble, family, protocol, address, port }
    }

    pub(super) fn family(&self) -> u16 {
        match *self {
            Self::Address { family, .. } | Self::Mark { family, .. } => family,
        }
    }
}

impl From<ServiceKey> for Key {
    fn from(key: ServiceKey) -> Self {
        match key {
            ServiceKey::Address { protocol, address, port } => {
                let (family, address) = address_of(address);
                Self::address(family, protocol.number(), address, port)
            }
            ServiceKey::Mark { mark, family } => {
                let family = match family {
                    Family::V4 => AF_INET,
                    Family::V6 => AF_INET6,
                };
                Self::Mark { family, mark: mark.get() }
            }
        }
    }
}

/// The address with the bytes after an IPv4 address set to zero.
pub(super) fn canonical(family: u16, mut address: Address) -> Address {
    if family == AF_INET {
        address[4..].fill(0);
    }
    address
}

pub(super) fn address_of(address: IpAddr) -> (u16, Address) {
    match address {
        IpAddr::V4(v4) => {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&v4.octets());
            (AF_INET, address)
        }
        IpAddr::V6(v6) => (AF_INET6, v6.octets()),
    }
}

pub(super) fn ip(family: u16, address: Address) -> IpAddr {
    match (family, address) {
        (AF_INET, [a, b, c, d, ..]) => Ipv4Addr::new(a, b, c, d).into(),
        _ => Ipv6Addr::from(address).into(),
    }
}

/// The identity of a destination under its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DestinationId {
    pub(super) family: u16,
    pub(super) port: u16,
    pub(super) address: Address,
}

impl From<DestinationKey> for DestinationId {
    fn from(key: DestinationKey) -> Self {
        let (family, address) = address_of(key.address);
        Self { family, address, port: key.port }
    }
}

impl From<DestinationId> for DestinationKey {
    fn from(id: DestinationId) -> Self {
        Self::new(ip(id.family, id.address), id.port)
    }
}
