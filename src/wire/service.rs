//! The attributes of a service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use super::DecodeError;
use super::codec::{AddressBytes, FlagsAndMask, Mask, NulString, U16Native, U16Network, U32Native};
use super::reader::{for_each_attribute, nested, required};
use super::stats::{self, Counters, StatsNests};
use super::table::attributes;
use super::writer::{Sink, Written};
use crate::model::{
    EngineName, Family, Netmask, Persistence, Protocol, Scheduler, SchedulerName, Service,
    ServiceEntry, ServiceKey, Stats,
};
use crate::uapi::ipvs::{AF_INET, AF_INET6, message, service::PERSISTENT};

attributes! {
    /// A service's attributes, each as the kernel has it; an attribute that the message lacks is
    /// `None`.
    ///
    /// [`From`] a [`ServiceKey`] sets the key alone, from a [`Service`] the whole configuration.
    /// [`TryFrom`] converts back.
    pub struct ServiceAttributes of crate::uapi::ipvs::service {
        /// `AF`: 2 for IPv4, 10 for IPv6.
        family: u16 = AF, "AF", U16Native;
        /// `FWMARK`.
        mark: u32 = FWMARK, "FWMARK", U32Native;
        /// `PROTOCOL`.
        protocol: u16 = PROTOCOL, "PROTOCOL", U16Native;
        /// `ADDR`, in network order; an IPv4 address is in the first four bytes.
        address: [u8; 16] = ADDRESS, "ADDR", AddressBytes;
        /// `PORT`, here in host order.
        port: u16 = PORT, "PORT", U16Network;
        /// `SCHED_NAME`; an empty name is `None`.
        scheduler: SchedulerName = SCHEDULER, "SCHED_NAME", NulString<15>;
        /// `PE_NAME`; an empty name is `None`.
        engine: EngineName = PE_NAME, "PE_NAME", NulString<16>;
        /// `FLAGS`: the flags, and the mask of the bits that count.
        flags: (u32, u32) = FLAGS, "FLAGS", FlagsAndMask;
        /// `TIMEOUT`, in seconds.
        timeout: u32 = TIMEOUT, "TIMEOUT", U32Native;
        /// `NETMASK`: a mask or a prefix length, depending on [`family`](Self::family).
        netmask: Netmask = NETMASK, "NETMASK", Mask;
    }
    and {
        /// `STATS`, in which packets and rates have 32 bits.
        stats: Stats;
        /// `STATS64`.
        stats64: Stats;
    }
}

impl ServiceAttributes {
    #[inline(always)]
    pub(crate) fn encode<S: Sink>(&self, sink: &mut S) -> Written {
        self.encode_table(sink)?;
        stats::encode([self.stats.as_ref(), self.stats64.as_ref()], sink)
    }

    /// Decodes the service of an answer, with its widest counters.
    pub(crate) fn from_answer(answer: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(nested(answer, message::SERVICE, "SERVICE")?, Counters::Widest)
    }

    pub(super) fn decode(bytes: &[u8], counters: Counters) -> Result<Self, DecodeError> {
        let mut service = Self::default();
        let mut stats = StatsNests::new(counters);
        for_each_attribute(bytes, |kind, bytes| {
            if !service.decode_one(kind, bytes)? {
                stats.take(kind, bytes);
            }
            Ok(())
        })?;
        [service.stats, service.stats64] = stats.decode()?;
        // The family decides what the bytes mean, and may follow after them.
        if let (Some(AF_INET6), Some(Netmask::V4(bytes))) = (service.family, service.netmask) {
            service.netmask = Some(prefix(u32::from_ne_bytes(bytes.octets()))?);
        }
        Ok(service)
    }
}

fn prefix(length: u32) -> Result<Netmask, DecodeError> {
    u8::try_from(length).map(Netmask::V6).map_err(|_| DecodeError::Value {
        name: "NETMASK",
        value: format!("{length}, which is no prefix length"),
    })
}

/// The kernel's number of a family.
pub(super) fn family_number(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

pub(super) fn family_from(number: u16) -> Result<Family, DecodeError> {
    match number {
        AF_INET => Ok(Family::V4),
        AF_INET6 => Ok(Family::V6),
        other => Err(DecodeError::Value {
            name: "AF",
            value: format!("{other}, neither IPv4 (2) nor IPv6 (10)"),
        }),
    }
}

/// An address padded to the sixteen bytes of the kernel's union.
pub(super) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

pub(super) fn address_from(family: Family, bytes: [u8; 16]) -> IpAddr {
    match family {
        Family::V4 => {
            let [a, b, c, d, ..] = bytes;
            Ipv4Addr::new(a, b, c, d).into()
        }
        Family::V6 => Ipv6Addr::from(bytes).into(),
    }
}

impl From<&ServiceKey> for ServiceAttributes {
    #[inline(always)]
    fn from(key: &ServiceKey) -> Self {
        let family = Some(family_number(key.family()));
        match *key {
            ServiceKey::Mark { mark, .. } => {
                Self { family, mark: Some(mark.get()), ..Self::default() }
            }
            ServiceKey::Address { protocol, address, port } => Self {
                family,
                protocol: Some(protocol.number()),
                address: Some(address_bytes(address)),
                port: Some(port),
                ..Self::default()
            },
        }
    }
}

impl From<&Service> for ServiceAttributes {
    #[inline(always)]
    fn from(service: &Service) -> Self {
        let family = service.key.family();
        let persistence = service.persistence;
        Self {
            scheduler: SchedulerName::new(service.scheduler.name()).ok(),
            flags: Some((service.flag_bits(), u32::MAX)),
            timeout: Some(persistence.map_or(0, |p| p.seconds)),
            netmask: Some(
                persistence.map_or(Netmask::whole(family), |p| p.effective_netmask(family)),
            ),
            engine: persistence.and_then(|p| p.engine),
            ..Self::from(&service.key)
        }
    }
}

impl TryFrom<&ServiceAttributes> for ServiceKey {
    type Error = DecodeError;

    fn try_from(attributes: &ServiceAttributes) -> Result<Self, DecodeError> {
        let family = family_from(required(attributes.family, "AF")?)?;
        // A mark wins over an address; zero is no mark.
        if let Some(mark) = attributes.mark.and_then(NonZeroU32::new) {
            return Ok(Self::Mark { mark, family });
        }
        let protocol = required(attributes.protocol, "PROTOCOL")?;
        let address = required(attributes.address, "ADDR")?;
        let port = required(attributes.port, "PORT")?;
        Ok(Self::address(Protocol::from_number(protocol), address_from(family, address), port))
    }
}

impl TryFrom<&ServiceAttributes> for Service {
    type Error = DecodeError;

    fn try_from(attributes: &ServiceAttributes) -> Result<Self, DecodeError> {
        let key = ServiceKey::try_from(attributes)?;
        let scheduler = required(attributes.scheduler, "SCHED_NAME")?;
        let scheduler = Scheduler::named(scheduler.as_str()).unwrap_or_default();
        let (flags, mask) = required(attributes.flags, "FLAGS")?;
        let timeout = required(attributes.timeout, "TIMEOUT")?;
        let mut service = Self::from_flag_bits(key, scheduler, flags & mask);
        if flags & mask & PERSISTENT != 0 {
            service.persistence = Some(Persistence {
                seconds: timeout,
                netmask: attributes.netmask,
                engine: attributes.engine,
            });
        }
        Ok(service.normalized())
    }
}

impl TryFrom<&ServiceAttributes> for ServiceEntry {
    type Error = DecodeError;

    fn try_from(attributes: &ServiceAttributes) -> Result<Self, DecodeError> {
        let stats = attributes.stats64.or(attributes.stats).unwrap_or_default();
        Ok(Self::new(attributes.try_into()?).stats(stats))
    }
}
