//! Values of several parts: maps without what is by default, and without unknown keys.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    self, Family, Invalid, Persistence, Protocol, Scheduler, ServiceFlags, TunnelChecksum,
};
use crate::ruleset::Ruleset;

/// Whether a value is what it is by default, and so left out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What identifies a service: `protocol`, `address` and `port`, or `mark` and `family`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceKey {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    family: Option<Family>,
}

impl From<model::ServiceKey> for ServiceKey {
    fn from(key: model::ServiceKey) -> Self {
        let mut form = Self { protocol: None, address: None, port: None, mark: None, family: None };
        match key {
            model::ServiceKey::Address { protocol, address, port } => {
                form.protocol = Some(protocol);
                form.address = Some(address);
                form.port = Some(port);
            }
            model::ServiceKey::Mark { mark, family } => {
                form.mark = Some(mark);
                form.family = Some(family).filter(|family| *family != Family::V4);
            }
        }
        form
    }
}

impl TryFrom<ServiceKey> for model::ServiceKey {
    type Error = Invalid;

    fn try_from(form: ServiceKey) -> Result<Self, Invalid> {
        let ServiceKey { protocol, address, port, mark, family } = form;
        match (protocol, address, port, mark, family) {
            (Some(protocol), Some(address), Some(port), None, None) => {
                Ok(Self::address(protocol, address, port))
            }
            (None, None, None, Some(mark), family) => {
                Ok(Self::mark(mark, family.unwrap_or(Family::V4)))
            }
            _ => Err(Invalid::new(
                "a service has a protocol, an address and a port, or else a mark, which may have \
                 a family",
            )),
        }
    }
}

/// A service: its key, and what it has beside the default.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    family: Option<Family>,
    #[serde(default, skip_serializing_if = "is_default")]
    scheduler: Scheduler,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    persistence: Option<Persistence>,
    #[serde(default, skip_serializing_if = "is_default")]
    one_packet: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    flags: ServiceFlags,
}

impl From<model::Service> for Service {
    fn from(service: model::Service) -> Self {
        let service = service.normalized();
        let ServiceKey { protocol, address, port, mark, family } = service.key.into();
        let model::Service { scheduler, persistence, one_packet, flags, .. } = service;
        Self { protocol, address, port, mark, family, scheduler, persistence, one_packet, flags }
    }
}

impl TryFrom<Service> for model::Service {
    type Error = Invalid;

    fn try_from(form: Service) -> Result<Self, Invalid> {
        let Service { protocol, address, port, mark, family, .. } = form;
        let key = ServiceKey { protocol, address, port, mark, family };
        let mut service = Self::new(key.try_into()?).scheduler(form.scheduler).flags(form.flags);
        service.persistence = form.persistence;
        service.one_packet = form.one_packet;
        Ok(service.normalized())
    }
}

/// A destination: its key, and what it has beside the default.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Destination {
    address: IpAddr,
    port: u16,
    forwarding: model::Forwarding,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    weight: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    upper_threshold: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    lower_threshold: u32,
}

fn one() -> u32 {
    1
}

// Serde hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

impl From<model::Destination> for Destination {
    fn from(destination: model::Destination) -> Self {
        let model::Destination { key, forwarding, weight, upper_threshold, lower_threshold } =
            destination;
        let (address, port) = (key.address, key.port);
        Self { address, port, forwarding, weight, upper_threshold, lower_threshold }
    }
}

impl From<Destination> for model::Destination {
    fn from(form: Destination) -> Self {
        Self::new((form.address, form.port), form.forwarding)
            .weight(form.weight)
            .thresholds(form.upper_threshold, form.lower_threshold)
    }
}

/// A forwarding method by its name; only those of newer kernels have numbers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Forwarding {
    Masquerade,
    Local,
    Tunnel(model::Tunnel),
    DirectRoute,
    Bypass,
    Other(u32),
}

impl From<model::Forwarding> for Forwarding {
    fn from(forwarding: model::Forwarding) -> Self {
        match forwarding {
            model::Forwarding::Masquerade => Self::Masquerade,
            model::Forwarding::Local => Self::Local,
            model::Forwarding::Tunnel(tunnel) => Self::Tunnel(tunnel),
            model::Forwarding::DirectRoute => Self::DirectRoute,
            model::Forwarding::Bypass => Self::Bypass,
            model::Forwarding::Other(other) => Self::Other(other.number()),
        }
    }
}

impl TryFrom<Forwarding> for model::Forwarding {
    type Error = Invalid;

    fn try_from(form: Forwarding) -> Result<Self, Invalid> {
        Ok(match form {
            Forwarding::Masquerade => Self::Masquerade,
            Forwarding::Local => Self::Local,
            Forwarding::Tunnel(tunnel) => Self::Tunnel(tunnel),
            Forwarding::DirectRoute => Self::DirectRoute,
            Forwarding::Bypass => Self::Bypass,
            Forwarding::Other(number @ 5..=7) => {
                Self::from_number(number, model::Tunnel::default())
            }
            Forwarding::Other(number) => {
                return Err(Invalid::new(format!(
                    "another forwarding method than those with names is 5 to 7, not {number}"
                )));
            }
        })
    }
}

/// A tunnel by the name of its type; only those of newer kernels have numbers.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Tunnel {
    Ipip,
    Gue {
        port: NonZeroU16,
        #[serde(default, skip_serializing_if = "is_default")]
        checksum: TunnelChecksum,
    },
    Gre {
        #[serde(default, skip_serializing_if = "is_default")]
        checksum: bool,
    },
    Other {
        kind: u8,
        #[serde(default, skip_serializing_if = "is_default")]
        port: u16,
        #[serde(default, skip_serializing_if = "is_default")]
        flags: u16,
    },
}

impl From<model::Tunnel> for Tunnel {
    fn from(tunnel: model::Tunnel) -> Self {
        match tunnel {
            model::Tunnel::Ipip => Self::Ipip,
            model::Tunnel::Gue { port, checksum } => Self::Gue { port, checksum },
            model::Tunnel::Gre { checksum } => Self::Gre { checksum },
            model::Tunnel::Other(_) => {
                Self::Other { kind: tunnel.kind(), port: tunnel.port(), flags: tunnel.flags() }
            }
        }
    }
}

impl From<Tunnel> for model::Tunnel {
    fn from(form: Tunnel) -> Self {
        match form {
            Tunnel::Ipip => Self::Ipip,
            Tunnel::Gue { port, checksum } => Self::Gue { port, checksum },
            Tunnel::Gre { checksum } => Self::Gre { checksum },
            Tunnel::Other { kind, port, flags } => Self::from_numbers(kind, port, flags),
        }
    }
}

/// Timeouts in seconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timeouts {
    tcp: u32,
    tcp_fin: u32,
    udp: u32,
}

impl From<model::Timeouts> for Timeouts {
    fn from(timeouts: model::Timeouts) -> Self {
        let seconds = |timeout: Duration| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        let model::Timeouts { tcp, tcp_fin, udp } = timeouts;
        Self { tcp: seconds(tcp), tcp_fin: seconds(tcp_fin), udp: seconds(udp) }
    }
}

impl From<Timeouts> for model::Timeouts {
    fn from(form: Timeouts) -> Self {
        Self::from_seconds(form.tcp, form.tcp_fin, form.udp)
    }
}

/// Timeouts to set, in seconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeoutsUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp_fin: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    udp: Option<u64>,
}

impl From<model::TimeoutsUpdate> for TimeoutsUpdate {
    fn from(update: model::TimeoutsUpdate) -> Self {
        let seconds = |timeout: Option<Duration>| timeout.map(|timeout| timeout.as_secs());
        let model::TimeoutsUpdate { tcp, tcp_fin, udp } = update;
        Self { tcp: seconds(tcp), tcp_fin: seconds(tcp_fin), udp: seconds(udp) }
    }
}

impl TryFrom<TimeoutsUpdate> for model::TimeoutsUpdate {
    type Error = Invalid;

    fn try_from(form: TimeoutsUpdate) -> Result<Self, Invalid> {
        let timeout = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let TimeoutsUpdate { tcp, tcp_fin, udp } = form;
        let update = Self { tcp: timeout(tcp), tcp_fin: timeout(tcp_fin), udp: timeout(udp) };
        update.check()?;
        Ok(update)
    }
}

/// A ruleset: its services, each with its destinations.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entries {
    services: Vec<Rules>,
}

/// A service with its destinations.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    service: model::Service,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    destinations: Vec<model::Destination>,
}

impl From<Ruleset> for Entries {
    fn from(rules: Ruleset) -> Self {
        let rules = rules.services().map(|rules| Rules {
            service: *rules.service(),
            destinations: rules.destinations().copied().collect(),
        });
        Self { services: rules.collect() }
    }
}

impl TryFrom<Entries> for Ruleset {
    type Error = Invalid;

    fn try_from(form: Entries) -> Result<Self, Invalid> {
        let mut rules = Self::new();
        for Rules { service, destinations } in form.services {
            let key = service.key;
            let about = |invalid: Invalid| Invalid::new(format!("service {key}: {invalid}"));
            if rules.insert_service(service).map_err(about)?.is_some() {
                return Err(Invalid::new(format!("service {key} is there twice")));
            }
            for destination in destinations {
                let twice = rules.insert_destination(key, destination).map_err(|invalid| {
                    about(Invalid::new(format!("destination {}: {invalid}", destination.key)))
                })?;
                if twice.is_some() {
                    let twice = format!("destination {} is there twice", destination.key);
                    return Err(about(Invalid::new(twice)));
                }
            }
        }
        Ok(rules)
    }
}
