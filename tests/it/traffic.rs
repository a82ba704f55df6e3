//! Real traffic through the kernel: clients, a director and three real servers in network
//! namespaces of the guest; by masquerade and direct route, IPv4 and IPv6.

mod advice;
mod confirm;
mod connections;
mod controller;
mod killed;
mod network;
mod replacement;
mod schedulers;
mod server;
mod stream;
mod tunnels;
mod undisturbed;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipvs_netlink::{Destination, Family, Scheduler, Service};

use crate::case::Case;

pub(crate) use controller::control;
pub(crate) use network::{Namespace, OwnNamespace};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = undisturbed::cases();
    // The controller has a client of its own, so one client is enough for these cases.
    cases.extend(killed::cases().into_iter().map(Case::long));
    // The program has a client of its own.
    cases.extend(confirm::cases().into_iter().map(Case::long));
    // The connection table is the kernel's, whoever wrote the rules.
    cases.extend(connections::cases().into_iter().map(Case::long));
    cases.extend(replacement::cases().into_iter().map(Case::long));
    // The kernel unpacks the tunnels.
    cases.extend(tunnels::cases().into_iter().map(Case::long));
    // The advice is the same for each client.
    cases.extend(advice::cases().into_iter().map(Case::long));
    // The kernel spreads the requests, whoever wrote the rules.
    cases.extend(schedulers::cases().into_iter().map(Case::long));
    cases
}

/// The real servers, by their numbers.
const SERVERS: [u8; 3] = [1, 2, 3];
/// How many addresses the clients have in each lane, numbered from 1.
const CLIENTS: u8 = 20;
/// A wait of this length means a hang, however slow the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A way from clients to the real servers, with a virtual address of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lane {
    method: Method,
    family: Family,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Masquerade,
    DirectRoute,
}

impl Lane {
    const ALL: [Self; 4] = [
        Self { method: Method::Masquerade, family: Family::V4 },
        Self { method: Method::Masquerade, family: Family::V6 },
        Self { method: Method::DirectRoute, family: Family::V4 },
        Self { method: Method::DirectRoute, family: Family::V6 },
    ];

    fn virtual_address(self) -> IpAddr {
        self.method.network().host(self.family, 100)
    }

    fn client(self, number: u8) -> IpAddr {
        assert!((1..=CLIENTS).contains(&number));
        self.method.network().host(self.family, number)
    }

    fn service(self, scheduler: Scheduler) -> Service {
        Service::tcp(self.virtual_address(), 80).scheduler(scheduler)
    }

    fn destination(self, server: u8) -> Destination {
        let address = Network::SERVERS.host(self.family, server);
        match self.method {
            // Direct route does not change the port.
            Method::DirectRoute => Destination::direct_route(address, 80),
            Method::Masquerade => Destination::masquerade(address, 8080),
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} over {:?}", self.method, self.family)
    }
}

impl Method {
    /// The network of its clients: servers reply to some clients through the director, to others
    /// directly.
    fn network(self) -> Network {
        match self {
            Self::Masquerade => Network(50),
            Self::DirectRoute => Network(51),
        }
    }
}

/// A network of 256 hosts of either family on the common wire.
#[derive(Clone, Copy)]
struct Network(u8);

impl Network {
    const SERVERS: Self = Self(60);
    const ALL: [Self; 3] = [Self(50), Self(51), Self::SERVERS];
    const DIRECTOR: u8 = 254;

    fn host(self, family: Family, number: u8) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, self.0, 0, number).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, self.0.into(), 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    fn prefix(self, family: Family) -> String {
        let length = if family == Family::V4 { 24 } else { 64 };
        format!("{}/{length}", self.host(family, 0))
    }
}

/// Waits until a condition holds.
pub(crate) fn wait_until(
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !holds()? {
        anyhow::ensure!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
