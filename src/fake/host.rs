//! The host of a fake kernel: its modules, interfaces, addresses and permissions.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::release::{Release, Series};

/// The number of the host's CPUs.
pub(super) const CPUS: usize = 2;

/// The version that IPVS reports: 1.2.1.
pub(super) const VERSION: u32 = 0x0001_0201;

/// The host that a fake kernel runs on; [`Kernel::configure`](super::Kernel::configure) changes it
/// at any time.
///
/// A [`Release`] sets all facts that differ between kernels; a test can change each by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // Each is a separate fact.
pub struct Host {
    /// The kernel's release, which determines its sysctls.
    pub release: Release,
    /// The number of the IPVS family; `None` is a kernel without IPVS. Loading the module again
    /// gives the family another number.
    pub family: Option<u16>,
    /// The kernel's ticks per second, by which long timeouts wrap; 100 to 1000 in practice.
    pub hz: u32,
    /// Whether callers have `CAP_NET_ADMIN`; without it every request is answered with `EPERM`.
    pub privileged: bool,
    /// The names of the available schedulers.
    pub schedulers: Vec<String>,
    /// The names of the available persistence engines.
    pub engines: Vec<String>,
    /// The interfaces that sync daemons can use.
    pub interfaces: Vec<Interface>,
    /// Whether an IPv4 address was ever configured. In a network namespace that never had one,
    /// every IPv4 destination is `EINVAL`.
    pub configured: bool,
    /// The IPv4 broadcast addresses of the host's networks. A destination with one of them is
    /// `EINVAL`.
    pub broadcast: Vec<Ipv4Addr>,
    /// The host's own addresses. A destination may have an address that is not unicast, or an IPv6
    /// link-local one, only if the address is in this list.
    pub local: Vec<IpAddr>,
    /// The number of buckets of the connection table; the largest number if the table is
    /// [resized](Self::resizes_connection_table).
    pub connection_table_size: u32,
    /// See [`Release::resizes_connection_table`].
    pub resizes_connection_table: bool,
    /// See [`Release::largest_threshold`].
    pub largest_threshold: u32,
    /// See [`Release::rechecks_thresholds`].
    pub rechecks_thresholds: bool,
    /// See [`Release::checks_permission_first`].
    pub checks_permission_first: bool,
    /// See [`Release::checks_headers`].
    pub checks_headers: bool,
    /// See [`Release::acknowledgement_size`].
    pub acknowledgement_size: usize,
    /// The interval at which counters move; with zero they move at once. See
    /// [`Release::COUNTER_TICK`].
    pub counter_tick: Duration,
}

/// A network interface, with the properties that matter to sync daemons.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// Whether the interface is up.
    pub up: bool,
    /// Whether the interface has an IPv6 address; IPv4 addresses do not matter here.
    pub has_address: bool,
    /// Whether IPv6 is enabled on the interface: `disable_ipv6` is 0.
    pub ipv6: bool,
    /// The size of the largest packet, in bytes; below 1280 the interface has no IPv6.
    pub mtu: u32,
}

impl Interface {
    /// An interface that is up, has an IPv6 address and takes packets of 1500 bytes.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), up: true, has_address: true, ipv6: true, mtu: 1500 }
    }
}

impl Host {
    /// A host with a kernel of this series: see [`of_release`](Self::of_release).
    pub fn of_series(series: Series) -> Self {
        Self::of_release(&series.release())
    }

    /// A host with a kernel of this release and all its modules, the interfaces `lo` and
    /// `eth0`, and routes to everywhere.
    pub fn of_release(release: &Release) -> Self {
        let mut schedulers: Vec<String> =
            ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"]
                .map(str::to_owned)
                .into();
        if release.has_twos() {
            schedulers.push("twos".to_owned());
        }
        let mut broadcast = vec![Ipv4Addr::new(127, 255, 255, 255)];
        if release.has_lowest_broadcast() {
            broadcast.push(Ipv4Addr::new(127, 0, 0, 0));
        }
        Self {
            release: release.clone(),
            family: Some(0x1c),
            hz: 250,
            privileged: true,
            schedulers,
            engines: vec!["sip".to_owned()],
            interfaces: vec![
                Interface { mtu: 65536, ..Interface::new("lo") },
                Interface::new("eth0"),
            ],
            configured: true,
            broadcast,
            local: vec![IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()],
            connection_table_size: 4096,
            resizes_connection_table: release.resizes_connection_table(),
            largest_threshold: release.largest_threshold(),
            rechecks_thresholds: release.rechecks_thresholds(),
            checks_permission_first: release.checks_permission_first(),
            checks_headers: release.checks_headers(),
            acknowledgement_size: release.acknowledgement_size(),
            counter_tick: Release::COUNTER_TICK,
        }
    }

    pub(super) fn has_scheduler(&self, name: &[u8]) -> bool {
        self.schedulers.iter().any(|known| known.as_bytes() == name)
    }

    pub(super) fn has_engine(&self, name: &[u8]) -> bool {
        self.engines.iter().any(|known| known.as_bytes() == name)
    }

    /// Whether a new destination may have this address.
    pub(super) fn is_reachable(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                let special = v4.is_unspecified()
                    || v4.is_broadcast()
                    || v4.is_multicast()
                    || self.broadcast.contains(&v4);
                self.configured && !special
            }
            IpAddr::V6(v6) => {
                let special = v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.to_ipv4_mapped().is_some()
                    || v6.is_unicast_link_local();
                !special || self.local.contains(&address)
            }
        }
    }

    pub(super) fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }
}

/// A host with Linux 6.12.
impl Default for Host {
    fn default() -> Self {
        Self::of_series(Series::Linux6_12)
    }
}
