//! The attributes of a service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use super::DecodeError;
use super::reader::{Value, for_each_attribute, nested, required};
use super::stats::{self, Both, Counters, Width};
use super::uapi::{AF_INET, AF_INET6, service as attribute, top};
use super::writer::Attributes;
use crate::model::{
    EngineName, Family, Netmask, Persistence, Protocol, Scheduler, SchedulerName, Service,
    ServiceEntry, ServiceFlags, ServiceKey, Stats,
};

/// A service's attributes, each as the kernel has it; what is `None` is not in the message.
///
/// [`From`] a [`ServiceKey`] sets the identity alone, from a [`Service`] everything that is
/// written. [`TryFrom`] goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServiceAttributes {
    /// `AF`: 2 for IPv4, 10 for IPv6.
    pub family: Option<u16>,
    /// `PROTOCOL`.
    pub protocol: Option<u16>,
    /// `ADDR`, in network order; an IPv4 address is in the first four bytes.
    pub address: Option<[u8; 16]>,
    /// `PORT`, here in host order.
    pub port: Option<u16>,
    /// `FWMARK`.
    pub mark: Option<u32>,
    /// `SCHED_NAME`; an empty one is `None`.
    pub scheduler: Option<SchedulerName>,
    /// `FLAGS`: the flags and the mask of those that count.
    pub flags: Option<(u32, u32)>,
    /// `TIMEOUT`, in seconds.
    pub timeout: Option<u32>,
    /// `NETMASK`. Which of the two it is depends on [`family`](Self::family).
    pub netmask: Option<Netmask>,
    /// `STATS`, in which packets and rates have 32 bits.
    pub stats: Option<Stats>,
    /// `PE_NAME`; an empty one is `None`.
    pub engine: Option<EngineName>,
    /// `STATS64`.
    pub stats64: Option<Stats>,
}

impl ServiceAttributes {
    #[inline(always)]
    pub(crate) fn encode<S: Attributes>(&self, sink: &mut S) {
        if let Some(family) = self.family {
            sink.u16_native(attribute::AF, family);
        }
        if let Some(mark) = self.mark {
            sink.u32_native(attribute::FWMARK, mark);
        }
        if let Some(protocol) = self.protocol {
            sink.u16_native(attribute::PROTOCOL, protocol);
        }
        if let Some(address) = self.address {
            sink.array(attribute::ADDRESS, address);
        }
        if let Some(port) = self.port {
            sink.u16_network(attribute::PORT, port);
        }
        if let Some(scheduler) = self.scheduler {
            sink.string(attribute::SCHEDULER, scheduler.as_str());
        }
        if let Some(engine) = self.engine {
            sink.string(attribute::PE_NAME, engine.as_str());
        }
        if let Some((flags, mask)) = self.flags {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&flags.to_ne_bytes());
            bytes[4..].copy_from_slice(&mask.to_ne_bytes());
            sink.array(attribute::FLAGS, bytes);
        }
        if let Some(timeout) = self.timeout {
            sink.u32_native(attribute::TIMEOUT, timeout);
        }
        match self.netmask {
            Some(Netmask::V4(mask)) => sink.array(attribute::NETMASK, mask.octets()),
            Some(Netmask::V6(prefix)) => sink.u32_native(attribute::NETMASK, prefix.into()),
            None => {}
        }
        if let Some(stats) = &self.stats {
            let nest = sink.begin_nest();
            stats::encode(stats, Width::Narrow, sink);
            sink.end_nest(attribute::STATS, nest);
        }
        if let Some(stats) = &self.stats64 {
            let nest = sink.begin_nest();
            stats::encode(stats, Width::Wide, sink);
            sink.end_nest(attribute::STATS64, nest);
        }
    }

    /// Decodes the service of an answer, with its widest counters.
    pub(crate) fn of_answer(answer: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(nested(answer, top::SERVICE, "SERVICE")?, Counters::Widest)
    }

    pub(super) fn decode(bytes: &[u8], counters: Counters) -> Result<Self, DecodeError> {
        let mut service = Self::default();
        let mut stats = Both::new(counters);
        let mut mask = None;
        for_each_attribute(bytes, |kind, bytes| {
            match kind {
                attribute::AF => service.family = Some(Value::new("AF", bytes).u16_native()?),
                attribute::PROTOCOL => {
                    service.protocol = Some(Value::new("PROTOCOL", bytes).u16_native()?);
                }
                attribute::ADDRESS => service.address = Some(Value::new("ADDR", bytes).address()),
                attribute::PORT => service.port = Some(Value::new("PORT", bytes).u16_network()?),
                attribute::FWMARK => service.mark = Some(Value::new("FWMARK", bytes).u32_native()?),
                attribute::SCHEDULER => {
                    service.scheduler = Value::new("SCHED_NAME", bytes).name()?;
                }
                attribute::FLAGS => {
                    let bytes: [u8; 8] = Value::new("FLAGS", bytes).take()?;
                    service.flags = Some((
                        Value::new("FLAGS", &bytes[..4]).u32_native()?,
                        Value::new("FLAGS", &bytes[4..]).u32_native()?,
                    ));
                }
                attribute::TIMEOUT => {
                    service.timeout = Some(Value::new("TIMEOUT", bytes).u32_native()?);
                }
                attribute::NETMASK => mask = Some(Value::new("NETMASK", bytes).take()?),
                attribute::STATS => stats.set(Width::Narrow, bytes),
                attribute::PE_NAME => service.engine = Value::new("PE_NAME", bytes).name()?,
                attribute::STATS64 => stats.set(Width::Wide, bytes),
                _ => {}
            }
            Ok(())
        })?;
        (service.stats, service.stats64) = stats.decode()?;
        service.netmask = mask.map(|bytes| netmask(service.family, bytes)).transpose()?;
        Ok(service)
    }
}

/// What the four bytes of `NETMASK` mean depends on the family, which may come after them.
fn netmask(family: Option<u16>, bytes: [u8; 4]) -> Result<Netmask, DecodeError> {
    if family != Some(AF_INET6) {
        return Ok(Netmask::V4(bytes.into()));
    }
    let prefix = u32::from_ne_bytes(bytes);
    u8::try_from(prefix).map(Netmask::V6).map_err(|_| DecodeError::Value {
        name: "NETMASK",
        value: format!("{prefix}, which is no prefix length"),
    })
}

/// The kernel's number of a family.
pub(super) fn family_number(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

pub(super) fn family_of(number: u16) -> Result<Family, DecodeError> {
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
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

pub(super) fn address_of(family: Family, bytes: [u8; 16]) -> IpAddr {
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
                protocol: Some(protocol.0),
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
        let family = family_of(required(attributes.family, "AF")?)?;
        // A mark wins over an address, and one of zero is no mark.
        if let Some(mark) = attributes.mark.and_then(NonZeroU32::new) {
            return Ok(Self::Mark { mark, family });
        }
        let protocol = required(attributes.protocol, "PROTOCOL")?;
        let address = required(attributes.address, "ADDR")?;
        let port = required(attributes.port, "PORT")?;
        Ok(Self::address(Protocol(protocol), address_of(family, address), port))
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
        if flags & mask & ServiceFlags::PERSISTENT != 0 {
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
        Ok(Self::new(attributes.try_into()?, stats))
    }
}
