//! A service as it is written: its key and its configuration.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::{Family, HashOptions, Invalid, Persistence, Protocol, Scheduler, ServiceKey};
use crate::uapi::ipvs::service as flag;

/// A virtual service: which traffic it takes, and how it spreads the traffic.
///
/// ```
/// use std::net::Ipv4Addr;
/// use std::time::Duration;
/// use ipvs_netlink::{Scheduler, Service};
///
/// let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80)
///     .scheduler(Scheduler::WeightedRoundRobin)
///     .persistence(Duration::from_secs(300));
/// assert_eq!(web.key.to_string(), "tcp 10.0.0.1:80");
/// ```
///
/// From text, as in a configuration file:
///
/// ```
/// use std::net::IpAddr;
/// use ipvs_netlink::{Protocol, Scheduler, Service};
///
/// let web = Service::new("tcp 10.0.0.1:80".parse()?).scheduler("wrr".parse()?);
/// assert_eq!(web.scheduler, Scheduler::WeightedRoundRobin);
/// assert_eq!(web.key, Service::tcp("10.0.0.1".parse::<IpAddr>()?, 80).key);
/// assert_eq!(web.key, Service::at(Protocol::TCP, "10.0.0.1:80".parse()?).key);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias = "virtual server")]
#[doc(alias = "vip")]
#[doc(alias = "vs")]
pub struct Service {
    /// The traffic that the service takes.
    pub key: ServiceKey,
    /// How a destination is chosen.
    pub scheduler: Scheduler,
    /// Whether, and how, a client stays with its destination.
    pub persistence: Option<Persistence>,
    /// Each packet is scheduled by itself and no connection is kept: for UDP services, and for the
    /// UDP packets of a firewall mark.
    pub one_packet: bool,
    /// Flags without a field of their own. The flags of `sh` and `mh` belong to [`HashOptions`],
    /// and are ignored here.
    pub flags: ServiceFlags,
}

bitflags::bitflags! {
    /// Service flags without a field of their own, bit for bit as the kernel keeps them.
    ///
    /// Bits of newer kernels are kept. Persistence, one-packet scheduling and the kernel's own
    /// *hashed* bit are never among these flags. As text the flags are `flag-1,flag-3,0x40`, with
    /// commas between them and bits without a name in hexadecimal.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ServiceFlags: u32 {
        /// The scheduler's first flag (`-b flag-1`); fallback for `sh` and `mh`.
        const SCHEDULER_1 = flag::SCHEDULER_1;
        /// The scheduler's second flag (`-b flag-2`); port for `sh` and `mh`.
        const SCHEDULER_2 = flag::SCHEDULER_2;
        /// The scheduler's third flag (`-b flag-3`).
        const SCHEDULER_3 = flag::SCHEDULER_3;
        const _ = !(flag::PERSISTENT | flag::HASHED | flag::ONE_PACKET);
    }
}

impl ServiceFlags {
    pub(crate) const FALLBACK: Self = Self::SCHEDULER_1;
    pub(crate) const PORT: Self = Self::SCHEDULER_2;

    /// The names by which `ipvsadm` knows flags.
    pub(crate) const NAMES: [(Self, &str); 3] = [
        (Self::SCHEDULER_1, "flag-1"),
        (Self::SCHEDULER_2, "flag-2"),
        (Self::SCHEDULER_3, "flag-3"),
    ];

    /// The names of the flags that have one.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }

    /// The bits without a name.
    pub(crate) fn nameless(self) -> Self {
        Self::NAMES.into_iter().fold(self, |rest, (flag, _)| rest - flag)
    }

    /// The flags with this number, such as `0x40` or 64.
    pub(crate) fn parse_bits(text: &str) -> Result<Self, Invalid> {
        let bits = parse_bits(text).ok_or_else(|| Invalid::expected("flag bits, as 0x40", text))?;
        Self::from_bits(bits).ok_or_else(|| {
            Invalid::new(format!(
                "{text} has bits that are not given as such: 0x1 is persistence, 0x2 the kernel's \
                 own, 0x4 one-packet scheduling"
            ))
        })
    }

    /// Refuses bits that have a field of their own, which only
    /// [`from_bits_retain`](Self::from_bits_retain) can set.
    fn check(self) -> Result<(), Invalid> {
        Self::from_bits(self.bits()).map(drop).ok_or_else(|| {
            Invalid::new(format!(
                "the flags {:#x} have bits with fields of their own: 0x1 is persistence, 0x2 the \
                 kernel's own, 0x4 one-packet scheduling",
                self.bits()
            ))
        })
    }

    fn from_options(options: HashOptions) -> Self {
        let mut flags = Self::empty();
        flags.set(Self::FALLBACK, options.fallback);
        flags.set(Self::PORT, options.port);
        flags
    }

    /// The options of `sh` and `mh` that these flags stand for.
    pub(crate) fn options(self) -> HashOptions {
        HashOptions::default()
            .fallback(self.contains(Self::FALLBACK))
            .port(self.contains(Self::PORT))
    }
}

impl fmt::Display for ServiceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for name in self.names() {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        let rest = self.nameless();
        if rest.is_empty() { Ok(()) } else { write!(f, "{separator}{:#x}", rest.bits()) }
    }
}

impl FromStr for ServiceFlags {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words
            .map(|word| match Self::NAMES.into_iter().find(|(_, name)| *name == word) {
                Some((flag, _)) => Ok(flag),
                None if word.starts_with(|c: char| c.is_ascii_digit()) => Self::parse_bits(word),
                None => Err(Invalid::expected("flag-1, flag-2, flag-3 or bits as 0x40", word)),
            })
            .collect()
    }
}

/// A number in hexadecimal, such as `0x40`, or in decimal.
pub(crate) fn parse_bits(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

impl Service {
    /// A service with this key: scheduled by `wlc`, not persistent.
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

    /// A service of any protocol at a socket address; see [`ServiceKey::at`].
    pub fn at(protocol: Protocol, address: SocketAddr) -> Self {
        Self::new(ServiceKey::at(protocol, address))
    }

    /// A service for traffic that a packet filter marked; see [`ServiceKey::mark`].
    ///
    /// # Errors
    /// When the mark is 0, which is no mark.
    #[doc(alias = "fwmark")]
    pub fn mark(mark: u32, family: Family) -> Result<Self, Invalid> {
        ServiceKey::mark(mark, family).map(Self::new)
    }

    /// How a destination is chosen.
    #[must_use]
    pub fn scheduler(self, scheduler: Scheduler) -> Self {
        Self { scheduler, ..self }
    }

    /// Keeps a client on its destination: takes a timeout, or a whole [`Persistence`].
    #[must_use]
    pub fn persistence(self, persistence: impl Into<Persistence>) -> Self {
        Self { persistence: Some(persistence.into()), ..self }
    }

    /// Whether each packet is scheduled by itself.
    #[must_use]
    pub fn one_packet(self, one_packet: bool) -> Self {
        Self { one_packet, ..self }
    }

    /// Flags without a field of their own.
    #[must_use]
    pub fn flags(self, flags: ServiceFlags) -> Self {
        Self { flags, ..self }
    }

    /// Refuses a service that no kernel takes or makes sense of, with the reason.
    ///
    /// A kernel may still hold such a service, if another program wrote it; the service is then
    /// read as it is.
    ///
    /// # Errors
    /// - When persistence has a netmask of the other family, a prefix length outside 1 to 128, or a
    ///   timeout that every kernel would wrap.
    /// - When a TCP, UDP or SCTP service on port 0 is not persistent: the kernel refuses its
    ///   connections.
    /// - When a TCP or SCTP service has one-packet scheduling, which the kernel does for UDP alone.
    /// - When persistence has a timeout of 0 s, with which no client is remembered.
    /// - When `flags` have bits of persistence or one-packet scheduling, or the kernel's own bit.
    pub fn check(&self) -> Result<(), Invalid> {
        self.check_as_is()?;
        if self.persistence.is_some_and(|persistence| persistence.seconds == 0) {
            return Err(Invalid::new(
                "persistence of 0 s remembers no client: give 1 s or more, or leave it out",
            ));
        }
        let ServiceKey::Address { protocol, port, .. } = self.key else { return Ok(()) };
        if self.one_packet && matches!(protocol, Protocol::TCP | Protocol::SCTP) {
            return Err(Invalid::new(format!(
                "one-packet scheduling is for UDP and firewall marks, not for {protocol}"
            )));
        }
        let is_balanced = matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP);
        if port == 0 && self.persistence.is_none() && is_balanced {
            return Err(Invalid::new(
                "port 0 stands for every port, which needs persistence: without it the kernel \
                 refuses the connections",
            ));
        }
        Ok(())
    }

    /// Refuses only a service that no kernel can hold.
    pub(crate) fn check_as_is(&self) -> Result<(), Invalid> {
        self.flags.check()?;
        self.persistence.map_or(Ok(()), |p| p.check(self.key.family()))
    }

    /// The same service in the one form that all equal ones share: a service that is read back
    /// equals the one that was written.
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
        let persistent = if service.persistence.is_some() { flag::PERSISTENT } else { 0 };
        let one_packet = if service.one_packet { flag::ONE_PACKET } else { 0 };
        flags.bits() | persistent | one_packet
    }

    /// The service with these flag bits; the caller sets persistence.
    pub(crate) fn from_flag_bits(key: ServiceKey, scheduler: Scheduler, bits: u32) -> Self {
        let flags = ServiceFlags::from_bits_truncate(bits);
        Self {
            key,
            scheduler: scheduler.with_hash_options(flags.options()),
            persistence: None,
            one_packet: bits & flag::ONE_PACKET != 0,
            flags,
        }
        .normalized()
    }
}

impl From<&Service> for ServiceKey {
    fn from(service: &Service) -> Self {
        service.key
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

    /// Once: all of these were accepted silently, and the services took no connections.
    #[test]
    fn refuses_what_no_kernel_makes_sense_of() {
        let minute = Duration::from_secs(60);
        let every_port = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 0);
        let dns = Service::udp(Ipv4Addr::new(10, 0, 0, 1), 53).one_packet(true);
        let mark = Service::mark(1, Family::V4).unwrap();
        for good in [every_port.persistence(minute), dns, mark, mark.one_packet(true)] {
            assert_eq!(good.check(), Ok(()));
        }
        for bits in [1, 2, 4, 7, 0x41] {
            let bad = web().flags(ServiceFlags::from_bits_retain(bits));
            assert!(bad.check().is_err() && bad.check_as_is().is_err(), "{bits:#x}");
        }
        let sctp = Service::sctp(Ipv4Addr::new(10, 0, 0, 1), 9);
        for bad in [
            every_port,
            Service::udp(Ipv4Addr::new(10, 0, 0, 1), 0),
            web().one_packet(true),
            sctp.one_packet(true),
            web().persistence(Duration::ZERO),
            mark.persistence(Duration::ZERO),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
            assert_eq!(bad.check_as_is(), Ok(()));
        }
    }

    #[test]
    fn flags_are_read_as_they_are_printed() {
        for (bits, text) in
            [(0, ""), (0x08, "flag-1"), (0x8000_0078, "flag-1,flag-2,flag-3,0x80000040")]
        {
            let flags = ServiceFlags::from_bits(bits).unwrap();
            assert_eq!(flags.to_string(), text);
            assert_eq!(text.parse(), Ok(flags));
        }
        for text in ["flag-4", "7", "0x1", "0x47", "0xg", "-8", "sh-port"] {
            assert!(text.parse::<ServiceFlags>().is_err(), "{text}");
        }
        // YAML reads text without quotes as a number.
        assert_eq!("64".parse(), ServiceFlags::parse_bits("0x40"));
    }

    /// Without normalization, a service with redundant fields would always differ from the same
    /// service read back.
    #[test]
    fn equal_services_share_one_form() {
        let whole =
            Persistence::new(Duration::from_secs(9)).netmask(Netmask::V4(Ipv4Addr::BROADCAST));
        assert_eq!(
            web().persistence(whole).normalized(),
            web().persistence(Duration::from_secs(9))
        );
        let twice = web().scheduler(Scheduler::SOURCE_HASH).flags(ServiceFlags::SCHEDULER_2);
        assert_eq!(twice.normalized(), web().scheduler(Scheduler::SOURCE_HASH));
    }
}
