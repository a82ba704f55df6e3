//! Values of several parts: maps that leave defaults out and refuse unknown keys.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::seconds::{self, Seconds};
use super::text::{self, OnlyMap, Text, TextOrMap};
use crate::model::{
    DaemonRole, Destination, DestinationKey, EngineName, Family, Forwarding, InterfaceName,
    Invalid, Netmask, Persistence, Protocol, Scheduler, Service, ServiceFlags, ServiceKey,
    SyncDaemon, Timeouts, TimeoutsUpdate, Tunnel, TunnelChecksum, parse_bare_address,
};

/// Has serde write and read types as maps.
macro_rules! as_maps {
    ($($type:ty => $map:ty: $expected:literal;)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$map>::from(*self).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let map = deserializer.deserialize_any(OnlyMap::<$map>::new($expected))?;
                map.try_into().map_err(D::Error::custom)
            }
        }
    )*};
}

as_maps! {
    SyncDaemon => DaemonMap: "a sync daemon: a map with its role and its interface";
    Timeouts => TimeoutsMap: "timeouts: a map";
    TimeoutsUpdate => TimeoutsUpdateMap: "timeouts: a map";
}

/// Whether a value is the default, which is left out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A service: the parts of its key, and all fields that are not the default.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceMap {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<BareAddress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "fwmark")]
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

impl From<Service> for ServiceMap {
    fn from(service: Service) -> Self {
        let Service { key, scheduler, persistence, one_packet, flags } = service.normalized();
        let map = Self { scheduler, persistence, one_packet, flags, ..Self::default() };
        match key {
            ServiceKey::Address { protocol, address, port } => {
                let address = Some(BareAddress(address));
                Self { protocol: Some(protocol), address, port: Some(port), ..map }
            }
            ServiceKey::Mark { mark, family } => Self {
                mark: Some(mark),
                family: Some(family).filter(|family| *family != Family::V4),
                ..map
            },
        }
    }
}

impl ServiceMap {
    fn key(&self) -> Result<ServiceKey, Invalid> {
        let Self { protocol, address, port, mark, family, .. } = *self;
        match (protocol, address, port, mark) {
            (Some(protocol), Some(BareAddress(address)), Some(port), None) => match family {
                Some(family) if family != Family::from(address) => Err(Invalid::new(format!(
                    "the address {address} is none of the family {family}"
                ))),
                _ => Ok(ServiceKey::address(protocol, address, port)),
            },
            (None, None, None, Some(mark)) => {
                Ok(ServiceKey::from((mark, family.unwrap_or(Family::V4))))
            }
            (None, None, None, None) => Err(Invalid::new(
                "a service needs a protocol, an address and a port, or else a mark",
            )),
            (_, _, _, Some(_)) => Err(Invalid::new(
                "a service has a mark or else a protocol, an address and a port, not both",
            )),
            _ => {
                let parts = [
                    (protocol.is_none(), "protocol"),
                    (address.is_none(), "address"),
                    (port.is_none(), "port"),
                ];
                let missing = parts.into_iter().filter(|(missing, _)| *missing);
                let missing: Vec<_> = missing.map(|(_, part)| part).collect();
                Err(Invalid::new(format!("the service has no {}", missing.join(" and no "))))
            }
        }
    }
}

impl TryFrom<ServiceMap> for Service {
    type Error = Invalid;

    fn try_from(map: ServiceMap) -> Result<Self, Invalid> {
        let key = map.key()?;
        // Two of the flags are options of sh and mh.
        let (options, flags) =
            (map.scheduler.hash_options().unwrap_or_default(), map.flags.options());
        let options =
            options.fallback(options.fallback || flags.fallback).port(options.port || flags.port);
        let scheduler = map.scheduler.with_hash_options(options);
        let mut service = Self::new(key).scheduler(scheduler).flags(map.flags);
        service.persistence = map.persistence;
        service.one_packet = map.one_packet;
        Ok(service.normalized())
    }
}

impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ServiceMap::from(*self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrMap::<Self, ServiceMap>::new(
            "a service as tcp 10.0.0.1:80 or mark 7, or a map with its parts",
            |text| text.parse::<ServiceKey>().map(Self::new),
        ))
    }
}

/// Reads an address, and refuses one with a port, with the reason.
#[derive(Clone, Copy, Serialize)]
struct BareAddress(IpAddr);

impl<'de> Deserialize<'de> for BareAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text { expected: "an address, as 10.0.0.1", parse: parse_bare_address };
        deserializer.deserialize_any(text).map(Self)
    }
}

/// Persistence, of which most services set only the timeout.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PersistenceMap {
    timeout: Seconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netmask: Option<Netmask>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    engine: Option<EngineName>,
}

impl TryFrom<PersistenceMap> for Persistence {
    type Error = Invalid;

    fn try_from(map: PersistenceMap) -> Result<Self, Invalid> {
        let PersistenceMap { timeout: Seconds(timeout), netmask, engine } = map;
        Ok(Self { netmask, engine, ..persistence(timeout)? })
    }
}

/// Persistence with a timeout that may not fit into IPVS's number of seconds.
fn persistence(timeout: Duration) -> Result<Persistence, Invalid> {
    let seconds = timeout.as_secs();
    if seconds > u32::MAX.into() {
        return Err(Invalid::new(format!("a persistence timeout of {seconds} s is too long")));
    }
    Ok(Persistence::new(timeout))
}

impl Serialize for Persistence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { seconds: _, netmask, engine } = *self;
        PersistenceMap { timeout: Seconds(self.timeout()), netmask, engine }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Persistence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrMap::<Self, PersistenceMap>::new(
            "a timeout in seconds, or a map with a timeout, a netmask and an engine",
            |text| seconds::parse(text).and_then(persistence),
        ))
    }
}

/// A destination: the parts of its key, and all fields that are not the default.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DestinationMap {
    address: BareAddress,
    port: u16,
    forwarding: Forwarding,
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

// Serde passes the value by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

impl From<Destination> for DestinationMap {
    fn from(destination: Destination) -> Self {
        let Destination { key, forwarding, weight, upper_threshold, lower_threshold } = destination;
        let (address, port) = (BareAddress(key.address), key.port);
        Self { address, port, forwarding, weight, upper_threshold, lower_threshold }
    }
}

impl From<DestinationMap> for Destination {
    fn from(map: DestinationMap) -> Self {
        Self::new((map.address.0, map.port), map.forwarding)
            .weight(map.weight)
            .thresholds(map.upper_threshold, map.lower_threshold)
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        DestinationMap::from(*self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrMap::<Self, DestinationMap>::new(
            "a destination as 10.0.1.1:80 masquerade, or a map with its parts",
            destination,
        ))
    }
}

/// A destination with defaults for all but its key and its forwarding method.
fn destination(text: &str) -> Result<Destination, Invalid> {
    let (key, forwarding) = text.split_once(char::is_whitespace).ok_or_else(|| {
        Invalid::expected(
            "a destination's address, port and forwarding method, as 10.0.1.1:80 masquerade",
            text,
        )
    })?;
    Ok(Destination::new(key.parse::<DestinationKey>()?, forwarding.trim().parse()?))
}

/// A forwarding method with parts: a tunnel.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForwardingMap {
    tunnel: Tunnel,
}

impl From<ForwardingMap> for Forwarding {
    fn from(map: ForwardingMap) -> Self {
        Self::Tunnel(map.tunnel)
    }
}

impl Serialize for Forwarding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.tunnel() {
            Some(tunnel) => ForwardingMap { tunnel }.serialize(serializer),
            None => text::serialize(self, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Forwarding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrMap::<Self, ForwardingMap>::new(
            "a forwarding method, as masquerade, or a map with a tunnel",
            Self::from_str,
        ))
    }
}

/// A tunnel by the name of its type; types of newer kernels alone have numbers.
#[derive(Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    deny_unknown_fields,
    expecting = "a tunnel: a map with its type"
)]
enum TunnelMap {
    // With braces, since serde accepts unknown keys beside a variant without parts.
    Ipip {},
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

impl From<Tunnel> for TunnelMap {
    fn from(tunnel: Tunnel) -> Self {
        match tunnel {
            Tunnel::Ipip => Self::Ipip {},
            Tunnel::Gue { port, checksum } => Self::Gue { port, checksum },
            Tunnel::Gre { checksum } => Self::Gre { checksum },
            Tunnel::Other(_) => {
                Self::Other { kind: tunnel.kind(), port: tunnel.port(), flags: tunnel.flags() }
            }
        }
    }
}

impl From<TunnelMap> for Tunnel {
    fn from(map: TunnelMap) -> Self {
        match map {
            TunnelMap::Ipip {} => Self::Ipip,
            TunnelMap::Gue { port, checksum } => Self::Gue { port, checksum },
            TunnelMap::Gre { checksum } => Self::Gre { checksum },
            TunnelMap::Other { kind, port, flags } => Self::from_numbers(kind, port, flags),
        }
    }
}

impl Serialize for Tunnel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        TunnelMap::from(*self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tunnel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrMap::<Self, TunnelMap>::new(
            "a tunnel, as ipip or gue port 6080, or a map with its type",
            Self::from_str,
        ))
    }
}

/// Timeouts in seconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeoutsMap {
    tcp: Seconds,
    tcp_fin: Seconds,
    udp: Seconds,
}

impl From<Timeouts> for TimeoutsMap {
    fn from(timeouts: Timeouts) -> Self {
        let Timeouts { tcp, tcp_fin, udp } = timeouts;
        Self { tcp: Seconds(tcp), tcp_fin: Seconds(tcp_fin), udp: Seconds(udp) }
    }
}

impl From<TimeoutsMap> for Timeouts {
    fn from(map: TimeoutsMap) -> Self {
        Self { tcp: map.tcp.0, tcp_fin: map.tcp_fin.0, udp: map.udp.0 }
    }
}

/// A sync daemon. It is not checked: the kernel can run one that `SyncDaemon::check` refuses.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DaemonMap {
    role: DaemonRole,
    interface: InterfaceName,
    #[serde(default)]
    sync_id: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_length: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<u8>,
}

impl From<SyncDaemon> for DaemonMap {
    fn from(daemon: SyncDaemon) -> Self {
        let SyncDaemon { role, interface, sync_id, max_length, group, port, ttl } = daemon;
        Self { role, interface, sync_id, max_length, group, port, ttl }
    }
}

impl From<DaemonMap> for SyncDaemon {
    fn from(map: DaemonMap) -> Self {
        let DaemonMap { role, interface, sync_id, max_length, group, port, ttl } = map;
        Self { role, interface, sync_id, max_length, group, port, ttl }
    }
}

/// Timeouts to set, in seconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeoutsUpdateMap {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<Seconds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp_fin: Option<Seconds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    udp: Option<Seconds>,
}

impl From<TimeoutsUpdate> for TimeoutsUpdateMap {
    fn from(update: TimeoutsUpdate) -> Self {
        let TimeoutsUpdate { tcp, tcp_fin, udp } = update;
        Self { tcp: tcp.map(Seconds), tcp_fin: tcp_fin.map(Seconds), udp: udp.map(Seconds) }
    }
}

impl TryFrom<TimeoutsUpdateMap> for TimeoutsUpdate {
    type Error = Invalid;

    fn try_from(map: TimeoutsUpdateMap) -> Result<Self, Invalid> {
        let timeout = |seconds: Option<Seconds>| seconds.map(|Seconds(timeout)| timeout);
        let TimeoutsUpdateMap { tcp, tcp_fin, udp } = map;
        let update = Self { tcp: timeout(tcp), tcp_fin: timeout(tcp_fin), udp: timeout(udp) };
        update.check()?;
        Ok(update)
    }
}
