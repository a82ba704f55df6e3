//! Persistence: connections of one client go to one destination.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use super::{EngineName, Family, Invalid};

/// Keeps the connections of a client, or of a network of clients, on one destination.
///
/// ```
/// use std::time::Duration;
/// use ipvs_netlink::{Netmask, Persistence};
///
/// let by_network = Persistence::new(Duration::from_secs(300)).netmask(Netmask::V6(64));
/// assert_eq!(by_network.timeout(), Duration::from_secs(300));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Persistence {
    /// For how long the kernel remembers a client without connections, in seconds.
    ///
    /// The kernel keeps the timeout in 32 bits of clock ticks: more than 2³² ticks wrap around
    /// (17,179,869 s at 250 ticks a second).
    pub seconds: u32,
    /// Clients whose addresses agree under this mask count as one; `None` compares whole addresses.
    pub netmask: Option<Netmask>,
    /// The persistence engine, such as `sip`; `None` tells clients apart by their address.
    pub engine: Option<EngineName>,
}

/// The part of an address by which clients are told apart; as text `255.255.255.0` or, for IPv6,
/// `64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "closed as Family is: one form for each")]
pub enum Netmask {
    /// A mask of an IPv4 address; the kernel takes any bits.
    V4(Ipv4Addr),
    /// The prefix length of an IPv6 address, 1 to 128; [`Service::check`](crate::Service::check) refuses others.
    V6(u8),
}

impl Netmask {
    /// The mask of the whole address, which the kernel reports if none was set.
    pub(crate) fn whole(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4(Ipv4Addr::BROADCAST),
            Family::V6 => Self::V6(128),
        }
    }
}

impl fmt::Display for Netmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(mask) => mask.fmt(f),
            Self::V6(prefix) => prefix.fmt(f),
        }
    }
}

impl FromStr for Netmask {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Ok(mask) = text.parse() {
            return Ok(Self::V4(mask));
        }
        text.parse().map(Self::V6).map_err(|_| Invalid::expected(NETMASK, text))
    }
}

/// The form of a netmask, for messages.
pub(crate) const NETMASK: &str =
    "a netmask, as 255.255.255.0, or for IPv6 a prefix length of 1 to 128";

impl Persistence {
    /// A timeout that wraps on every kernel: 2³² ticks at the fewest ticks a second, 100.
    const WRAPS: u32 = u32::MAX / 100;

    /// Persistence with this timeout. The kernel counts seconds: a fraction is rounded up.
    pub fn new(timeout: Duration) -> Self {
        let whole = timeout.as_secs().saturating_add((timeout.subsec_nanos() > 0).into());
        Self { seconds: u32::try_from(whole).unwrap_or(u32::MAX), netmask: None, engine: None }
    }

    /// The timeout.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// Counts clients whose addresses agree under the mask as one.
    #[must_use]
    pub fn netmask(self, netmask: Netmask) -> Self {
        Self { netmask: Some(netmask), ..self }
    }

    /// Tells clients apart by the data that a persistence engine finds in the packet, and not by
    /// the address.
    #[must_use]
    pub fn engine(self, engine: EngineName) -> Self {
        Self { engine: Some(engine), ..self }
    }

    /// The mask as the kernel is told.
    pub(crate) fn effective_netmask(&self, family: Family) -> Netmask {
        self.netmask.unwrap_or(Netmask::whole(family))
    }

    /// The same persistence in the one form that all equal ones share.
    pub(crate) fn normalized(self, family: Family) -> Self {
        Self { netmask: self.netmask.filter(|&mask| mask != Netmask::whole(family)), ..self }
    }

    pub(crate) fn check(&self, family: Family) -> Result<(), Invalid> {
        if self.seconds > Self::WRAPS {
            return Err(Invalid::new(format!(
                "a persistence timeout of {} s wraps around in the kernel; the most it can hold \
                 is {} s",
                self.seconds,
                Self::WRAPS
            )));
        }
        match (self.netmask, family) {
            (Some(Netmask::V4(mask)), Family::V6) => Err(Invalid::new(format!(
                "the IPv4 netmask {mask} is of no use to an IPv6 service; give a prefix length"
            ))),
            (Some(Netmask::V6(prefix)), Family::V4) => Err(Invalid::new(format!(
                "the IPv6 prefix length {prefix} is of no use to an IPv4 service; give a netmask"
            ))),
            (Some(Netmask::V6(prefix)), Family::V6) if !(1..=128).contains(&prefix) => {
                Err(Invalid::new(format!("a prefix length is 1 to 128, not {prefix}")))
            }
            _ => Ok(()),
        }
    }
}

impl From<Duration> for Persistence {
    fn from(timeout: Duration) -> Self {
        Self::new(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_a_second_round_up() {
        assert_eq!(Persistence::new(Duration::from_millis(1)).seconds, 1);
        assert_eq!(Persistence::new(Duration::MAX).seconds, u32::MAX);
    }

    #[test]
    fn masks_are_read_as_they_are_printed() {
        // Once: a prefix that `check` refuses was printed as text that could not be read back.
        for mask in (0..=u8::MAX).map(Netmask::V6).chain([Netmask::V4([255, 0, 255, 0].into())]) {
            assert_eq!(mask.to_string().parse(), Ok(mask));
        }
        for text in ["", "256", "-1", "255.255.0", "/24"] {
            assert!(text.parse::<Netmask>().is_err(), "{text}");
        }
    }

    #[test]
    fn masks_belong_to_a_family() {
        let minute = Persistence::new(Duration::from_secs(60));
        assert!(minute.netmask(Netmask::V6(64)).check(Family::V4).is_err());
        assert!(minute.netmask(Netmask::V4(Ipv4Addr::BROADCAST)).check(Family::V6).is_err());
        assert!(minute.netmask(Netmask::V6(0)).check(Family::V6).is_err());
        assert!(minute.netmask(Netmask::V6(129)).check(Family::V6).is_err());
        assert!(minute.netmask(Netmask::V6(1)).check(Family::V6).is_ok());
    }
}
