//! The keys of services and destinations.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;

use super::Invalid;
use super::address::parse_address;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "closed as std::net::IpAddr is")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
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

impl FromStr for Family {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        [Self::V4, Self::V6]
            .into_iter()
            .find(|family| family.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| Invalid::expected("IPv4 or IPv6", text))
    }
}

/// An IP protocol number; as text `tcp`, `udp`, `sctp`, or the number of another one.
///
/// IPVS balances TCP, UDP and SCTP. The kernel stores any other number without complaint, as does
/// this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(u16);

impl Protocol {
    /// The Transmission Control Protocol, 6.
    pub const TCP: Self = Self(6);
    /// The User Datagram Protocol, 17.
    pub const UDP: Self = Self(17);
    /// The Stream Control Transmission Protocol, 132.
    pub const SCTP: Self = Self(132);

    /// The protocol with this number, as IANA assigns them.
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }

    /// The protocol's number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => f.write_str("tcp"),
            Self::UDP => f.write_str("udp"),
            Self::SCTP => f.write_str("sctp"),
            Self(other) => other.fmt(f),
        }
    }
}

impl FromStr for Protocol {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::TCP),
            "udp" => Ok(Self::UDP),
            "sctp" => Ok(Self::SCTP),
            number => number
                .parse()
                .map(Self)
                .map_err(|_| Invalid::expected("tcp, udp, sctp or a protocol number", text)),
        }
    }
}

/// The identity of a service: an address, or a firewall mark with a family.
///
/// Keys order by protocol, address and port, then marks; addresses order as numbers. As text, also
/// with the feature `serde`, a key is `tcp 10.0.0.1:80`, `udp [2001:db8::1]:53` or `IPv6 firewall
/// mark 7`; a mark without a family, `mark 7`, is one of IPv4.
///
/// ```
/// use ipvs_netlink::ServiceKey;
///
/// let web: ServiceKey = "tcp 10.0.0.1:80".parse()?;
/// assert_eq!(web.to_string(), "tcp 10.0.0.1:80");
/// # Ok::<(), ipvs_netlink::Invalid>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ServiceKey {
    /// Traffic to one address and port.
    #[non_exhaustive]
    Address {
        /// The transport protocol.
        protocol: Protocol,
        /// The virtual address.
        address: IpAddr,
        /// The port; 0 stands for every port, which the kernel supports for persistent services
        /// only.
        port: u16,
    },
    /// Traffic that a packet filter marked. The same mark for IPv4 and for IPv6 makes two services.
    #[doc(alias = "fwmark")]
    #[non_exhaustive]
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

    /// The key of a service of any protocol at a socket address. IPVS keeps no scope of an IPv6
    /// address: the scope of a link-local address is dropped.
    pub fn at(protocol: Protocol, address: SocketAddr) -> Self {
        Self::address(protocol, address.ip(), address.port())
    }

    /// The key of a service for traffic that a packet filter marked. If the mark is a `NonZeroU32`
    /// already, `ServiceKey::from((mark, family))` needs no `Result`.
    ///
    /// # Errors
    /// When the mark is 0, which is no mark.
    #[doc(alias = "fwmark")]
    pub fn mark(mark: u32, family: Family) -> Result<Self, Invalid> {
        let nonzero = NonZeroU32::new(mark);
        let mark = nonzero.ok_or_else(|| Invalid::expected(MARK, &mark.to_string()))?;
        Ok(Self::Mark { mark, family })
    }

    /// The protocol; `None` for a service by firewall mark.
    pub fn protocol(&self) -> Option<Protocol> {
        match *self {
            Self::Address { protocol, .. } => Some(protocol),
            Self::Mark { .. } => None,
        }
    }

    /// The address and the port; `None` for a service by firewall mark.
    #[doc(alias = "vip")]
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match *self {
            Self::Address { address, port, .. } => Some(SocketAddr::new(address, port)),
            Self::Mark { .. } => None,
        }
    }

    /// The firewall mark; `None` for a service by address.
    #[doc(alias = "fwmark")]
    pub fn firewall_mark(&self) -> Option<NonZeroU32> {
        match *self {
            Self::Mark { mark, .. } => Some(mark),
            Self::Address { .. } => None,
        }
    }

    /// The service's address family.
    pub fn family(&self) -> Family {
        match *self {
            Self::Address { address, .. } => address.into(),
            Self::Mark { family, .. } => family,
        }
    }
}

impl From<&Self> for ServiceKey {
    fn from(key: &Self) -> Self {
        *key
    }
}

impl From<(NonZeroU32, Family)> for ServiceKey {
    fn from((mark, family): (NonZeroU32, Family)) -> Self {
        Self::Mark { mark, family }
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

impl FromStr for ServiceKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (family, mark) = match words[..] {
            ["mark" | "fwmark", mark] | ["firewall", "mark", mark] => (Family::V4, mark),
            [family, "mark" | "fwmark", mark] | [family, "firewall", "mark", mark] => {
                (family.parse()?, mark)
            }
            [protocol, address] => {
                let DestinationKey { address, port } = address.parse()?;
                return Ok(Self::address(protocol.parse()?, address, port));
            }
            _ => return Err(Invalid::expected("tcp 10.0.0.1:80 or IPv4 firewall mark 7", text)),
        };
        Self::mark(mark.parse().map_err(|_| Invalid::expected(MARK, mark))?, family)
    }
}

/// The form of a firewall mark, for messages.
pub(crate) const MARK: &str = "a firewall mark, 1 to 4294967295";

/// The identity of a destination within its service: an address and a port. As text, also with the
/// feature `serde`, `10.0.1.1:8080` or `[2001:db8::1]:8080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
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

/// IPVS keeps no scope of an IPv6 address: the scope of a link-local address is dropped.
impl From<SocketAddr> for DestinationKey {
    fn from(address: SocketAddr) -> Self {
        Self { address: address.ip(), port: address.port() }
    }
}

impl From<&Self> for DestinationKey {
    fn from(key: &Self) -> Self {
        *key
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

impl FromStr for DestinationKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match parse_address(text)? {
            (address, Some(port)) => Ok(Self { address, port }),
            (_, None) => Err(Invalid::new(format!("the address {text} lacks a port, as in :80"))),
        }
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
        let mark = ServiceKey::mark(u32::MAX, Family::V6).unwrap();
        assert_eq!(mark.to_string(), "IPv6 firewall mark 4294967295");
    }

    #[test]
    fn keys_are_read_as_they_are_printed() {
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        for key in [
            ServiceKey::tcp(Ipv4Addr::LOCALHOST, 0),
            ServiceKey::address(Protocol(300), v6, 65535),
            ServiceKey::from((NonZeroU32::MAX, Family::V4)),
            ServiceKey::from((NonZeroU32::MIN, Family::V6)),
        ] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        assert_eq!("ipv6 mark 1".parse(), ServiceKey::mark(1, Family::V6));
        assert_eq!("fwmark 1".parse(), ServiceKey::mark(1, Family::V4));
        assert_eq!("TCP 10.0.0.1:80".parse(), "tcp 10.0.0.1:80".parse::<ServiceKey>());
        let key = DestinationKey::new(v6, 80);
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn what_is_no_key_is_told() {
        for (text, says) in [
            ("10.0.0.1:80", "expected tcp 10.0.0.1:80 or IPv4 firewall mark 7"),
            ("tpc 10.0.0.1:80", "expected tcp, udp, sctp or a protocol number, not \"tpc\""),
            ("tcp 10.0.0.1", "the address 10.0.0.1 lacks a port"),
            ("mark 0", "expected a firewall mark, 1 to 4294967295, not \"0\""),
            ("IPv5 mark 1", "expected IPv4 or IPv6"),
        ] {
            let error = text.parse::<ServiceKey>().unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
