//! A service as it is written: its key and its configuration.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::{Family, HashOptions, Invalid, Persistence, Protocol, Scheduler, ServiceKey};
#[cfg(feature = "serde")]
use crate::forms;

/// A virtual service: what traffic is taken, and how it is spread.
///
/// ```
/// use std::net::Ipv4Addr;
/// use std::time::Duration;
/// use ipvs_netlink::{Scheduler, Service};
///
/// let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80)
///     .scheduler(Scheduler::WeightedRoundRobin)
///     .persistent(Duration::from_secs(300));
/// assert_eq!(web.key.to_string(), "tcp 10.0.0.1:80");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "forms::Service", try_from = "forms::Service"))]
#[non_exhaustive]
pub struct Service {
    /// What traffic is taken.
    pub key: ServiceKey,
    /// How a destination is chosen.
    pub scheduler: Scheduler,
    /// Whether, and how, a client stays with its destination.
    pub persistence: Option<Persistence>,
    /// Each packet is scheduled by itself and no connection is kept: for UDP and firewall marks.
    pub one_packet: bool,
    /// Flags that nothing else here stands for. Those of `sh` and `mh` belong to
    /// [`HashOptions`]; given here too, they are ignored.
    pub flags: ServiceFlags,
}

bitflags::bitflags! {
    /// Service flags without a field of their own, bit for bit as the kernel keeps them.
    ///
    /// Bits of newer kernels are kept. Persistence, one-packet scheduling and the kernel's own
    /// *hashed* bit never show here.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ServiceFlags: u32 {
        /// The scheduler's first flag (`-b flag-1`); fallback for `sh` and `mh`.
        const SCHEDULER_1 = 0x08;
        /// The scheduler's second flag (`-b flag-2`); port for `sh` and `mh`.
        const SCHEDULER_2 = 0x10;
        /// The scheduler's third flag (`-b flag-3`).
        const SCHEDULER_3 = 0x20;
        const _ = !(Self::PERSISTENT | Self::HASHED | Self::ONE_PACKET);
    }
}

impl ServiceFlags {
    pub(crate) const PERSISTENT: u32 = 0x1;
    pub(crate) const HASHED: u32 = 0x2;
    pub(crate) const ONE_PACKET: u32 = 0x4;
    pub(crate) const FALLBACK: Self = Self::SCHEDULER_1;
    pub(crate) const PORT: Self = Self::SCHEDULER_2;

    fn from_options(options: HashOptions) -> Self {
        let mut flags = Self::empty();
        flags.set(Self::FALLBACK, options.fallback);
        flags.set(Self::PORT, options.port);
        flags
    }

    /// What these flags are to `sh` and `mh`.
    pub(crate) fn options(self) -> HashOptions {
        HashOptions::default()
            .fallback(self.contains(Self::FALLBACK))
            .port(self.contains(Self::PORT))
    }
}

impl Service {
    /// A service of this key: scheduled by `wlc`, not persistent.
    pub fn new(key: ServiceKey) -> Self {
        Self {
            key,
            scheduler: Scheduler::default(),
            persistence: None,
            one_packet: false,
            flags: ServiceFlags::empty(),
        }
    }

    /// A TCP service.
    pub fn tcp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::new(ServiceKey::tcp(address, port))
    }

    /// A UDP service.
    pub fn udp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::new(ServiceKey::udp(address, port))
    }

    /// An SCTP service.
    pub fn sctp(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::new(ServiceKey::sctp(address, port))
    }

    /// A service of any protocol.
    pub fn address(protocol: Protocol, address: impl Into<IpAddr>, port: u16) -> Self {
        Self::new(ServiceKey::address(protocol, address, port))
    }

    /// A service for traffic that a packet filter marked.
    pub fn mark(mark: NonZeroU32, family: Family) -> Self {
        Self::new(ServiceKey::mark(mark, family))
    }

    /// How a destination is chosen.
    #[must_use]
    pub fn scheduler(self, scheduler: Scheduler) -> Self {
        Self { scheduler, ..self }
    }

    /// Keeps a client on its destination: a timeout, or a [`Persistence`] with more.
    #[must_use]
    pub fn persistent(self, persistence: impl Into<Persistence>) -> Self {
        Self { persistence: Some(persistence.into()), ..self }
    }

    /// Whether each packet is scheduled by itself.
    #[must_use]
    pub fn one_packet(self, one_packet: bool) -> Self {
        Self { one_packet, ..self }
    }

    /// Flags that nothing else here stands for.
    #[must_use]
    pub fn flags(self, flags: ServiceFlags) -> Self {
        Self { flags, ..self }
    }

    /// Refuses what no kernel would take, with the reason.
    ///
    /// # Errors
    /// When persistence has a netmask of the other family, a prefix length outside 1 to 128, or a
    /// timeout that every kernel would wrap.
    pub fn check(&self) -> Result<(), Invalid> {
        self.persistence.map_or(Ok(()), |p| p.check(self.key.family()))
    }

    /// The same service in the one form that equal ones share, so that what was written equals
    /// what is read back.
    #[must_use]
    pub fn normalized(self) -> Self {
        let flags = match self.scheduler.hash_options() {
            Some(_) => self.flags - (ServiceFlags::FALLBACK | ServiceFlags::PORT),
            None => self.flags,
        };
        let persistence = self.persistence.map(|p| p.normalized(self.key.family()));
        Self { persistence, flags, ..self }
    }

    /// All flag bits of the service, as the kernel keeps them.
    pub(crate) fn flag_bits(&self) -> u32 {
        let service = self.normalized();
        let mut flags = service.flags;
        if let Some(options) = service.scheduler.hash_options() {
            flags |= ServiceFlags::from_options(options);
        }
        let persistent = if service.persistence.is_some() { ServiceFlags::PERSISTENT } else { 0 };
        let one_packet = if service.one_packet { ServiceFlags::ONE_PACKET } else { 0 };
        flags.bits() | persistent | one_packet
    }

    /// The service whose flag bits these are; persistence is the caller's to set.
    pub(crate) fn from_flag_bits(key: ServiceKey, scheduler: Scheduler, bits: u32) -> Self {
        let flags = ServiceFlags::from_bits_truncate(bits);
        Self {
            key,
            scheduler: scheduler.with_hash_options(flags.options()),
            persistence: None,
            one_packet: bits & ServiceFlags::ONE_PACKET != 0,
            flags,
        }
        .normalized()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Netmask;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn web() -> Service {
        Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80)
    }

    #[test]
    fn flag_bits_go_both_ways() {
        let options = HashOptions::default().fallback(true);
        for service in [
            web(),
            web().one_packet(true),
            web().scheduler(Scheduler::SourceHash(options)),
            web().scheduler(Scheduler::RoundRobin).flags(ServiceFlags::SCHEDULER_1),
            web().scheduler(Scheduler::MAGLEV_HASH).flags(ServiceFlags::SCHEDULER_3),
            web().flags(ServiceFlags::from_bits_retain(0x8000_0000)),
        ] {
            let bits = service.flag_bits();
            assert_eq!(Service::from_flag_bits(service.key, service.scheduler, bits), service);
        }
    }

    /// Without it a service written with redundant fields would differ for ever from what is read.
    #[test]
    fn equal_services_share_one_form() {
        let whole =
            Persistence::new(Duration::from_secs(9)).netmask(Netmask::V4(Ipv4Addr::BROADCAST));
        assert_eq!(web().persistent(whole).normalized(), web().persistent(Duration::from_secs(9)));
        let twice = web().scheduler(Scheduler::SOURCE_HASH).flags(ServiceFlags::SCHEDULER_2);
        assert_eq!(twice.normalized(), web().scheduler(Scheduler::SOURCE_HASH));
    }
}
