//! A destination as it is written: its key and its configuration.

use std::net::IpAddr;

use super::{DestinationKey, Forwarding, Invalid, ServiceKey, Tunnel};

/// A destination (real server) of a service.
///
/// ```
/// use std::net::Ipv4Addr;
/// use ipvs_netlink::Destination;
///
/// let backend = Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 8080).weight(3);
/// assert_eq!(backend.key.to_string(), "10.0.1.1:8080");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias = "real server")]
#[doc(alias = "rs")]
#[doc(alias = "backend")]
pub struct Destination {
    /// Its address and port.
    pub key: DestinationKey,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// Its share of new connections, 0 to 2,147,483,647; a destination of weight 0 gets none.
    pub weight: u32,
    /// The number of connections at which the destination is overloaded and gets no new ones; 0 is
    /// no limit. Recent kernels (6.1.187, 6.12.104, 7.2 and later) refuse more than 2,147,483,647.
    pub upper_threshold: u32,
    /// The number of connections below which an overloaded destination gets new ones again; 0
    /// leaves this number to the kernel (three quarters of the upper threshold).
    pub lower_threshold: u32,
}

impl Destination {
    /// A destination of weight 1 without thresholds.
    pub fn new(key: impl Into<DestinationKey>, forwarding: Forwarding) -> Self {
        Self { key: key.into(), forwarding, weight: 1, upper_threshold: 0, lower_threshold: 0 }
    }

    /// A destination reached by masquerading (network address translation).
    #[doc(alias = "nat")]
    pub fn masquerade(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::new((address, port), Forwarding::Masquerade)
    }

    /// A destination on this host itself.
    pub fn local(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::new((address, port), Forwarding::Local)
    }

    /// A destination reached through a tunnel. Only such a destination may be of another address
    /// family than its service.
    pub fn tunnel(address: impl Into<IpAddr>, port: u16, tunnel: Tunnel) -> Self {
        Self::new((address, port), Forwarding::Tunnel(tunnel))
    }

    /// A destination on the same link, reached by direct routing.
    #[doc(alias = "dr")]
    pub fn direct_route(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::new((address, port), Forwarding::DirectRoute)
    }

    /// A destination that sends packets on to where they were addressed, past IPVS.
    pub fn bypass(address: impl Into<IpAddr>, port: u16) -> Self {
        Self::new((address, port), Forwarding::Bypass)
    }

    /// Its share of new connections.
    #[must_use]
    pub fn weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// The number of connections at which the destination gets no new ones, and the number below
    /// which it gets them again.
    #[must_use]
    pub fn thresholds(self, upper: u32, lower: u32) -> Self {
        Self { upper_threshold: upper, lower_threshold: lower, ..self }
    }

    /// How packets reach it.
    #[must_use]
    pub fn forwarding(self, forwarding: Forwarding) -> Self {
        Self { forwarding, ..self }
    }

    /// The largest weight that kernels take.
    pub(crate) const LARGEST_WEIGHT: u32 = i32::MAX.cast_unsigned();

    /// Refuses a destination that no kernel would take under this service, with the reason.
    ///
    /// # Errors
    /// When the weight is above 2,147,483,647, the lower threshold above the upper one, the address
    /// of another family than the service's without a tunnel, or a GUE tunnel without a port.
    #[inline]
    pub fn check(&self, service: &ServiceKey) -> Result<(), Invalid> {
        if self.weight > Self::LARGEST_WEIGHT {
            return Err(Invalid::new(format!(
                "a weight is at most {}, not {}",
                Self::LARGEST_WEIGHT,
                self.weight
            )));
        }
        if self.lower_threshold > self.upper_threshold {
            return Err(Invalid::new(format!(
                "the lower threshold {} is above the upper one, {}",
                self.lower_threshold, self.upper_threshold
            )));
        }
        if self.key.family() != service.family() && self.forwarding.tunnel().is_none() {
            return Err(Invalid::new(format!(
                "{} is {}, its service {}: another family needs a tunnel",
                self.key,
                self.key.family(),
                service.family()
            )));
        }
        if matches!(self.forwarding, Forwarding::Tunnel(tunnel) if tunnel.kind() == Tunnel::GUE && tunnel.port() == 0)
        {
            return Err(Invalid::new("a gue tunnel needs a port other than 0"));
        }
        Ok(())
    }
}

impl From<&Destination> for DestinationKey {
    fn from(destination: &Destination) -> Self {
        destination.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn refuses_what_no_kernel_takes() {
        let service = ServiceKey::tcp(Ipv4Addr::LOCALHOST, 80);
        let good = Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 80);
        assert!(good.weight(i32::MAX as u32).check(&service).is_ok());
        assert!(good.weight(i32::MAX as u32 + 1).check(&service).is_err());
        assert!(good.thresholds(1, 2).check(&service).is_err());
        assert!(good.thresholds(0, 1).check(&service).is_err());
        let v6 = Destination::masquerade(Ipv6Addr::LOCALHOST, 80);
        assert!(v6.check(&service).is_err());
        assert!(v6.forwarding(Forwarding::Tunnel(Tunnel::Ipip)).check(&service).is_ok());
    }
}
