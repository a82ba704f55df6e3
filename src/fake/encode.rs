//! Services, destinations and sync daemons as the kernel writes them.

use super::destination::KernelDestination;
use super::key::Key;
use super::service::KernelService;
use super::table::KernelDaemon;
use super::writer::Writer;
use crate::model::Stats;
use crate::uapi::ipvs::{daemon, destination, message, service, stats};

pub(super) fn service(out: &mut Writer, key: &Key, entry: &KernelService, hz: u32) {
    out.nest(message::SERVICE, |nest| {
        nest.put_u16(service::AF, key.family());
        match *key {
            Key::Mark { mark, .. } => nest.put_u32(service::FWMARK, mark),
            Key::Address { protocol, address, port, .. } => {
                nest.put_u16(service::PROTOCOL, protocol);
                nest.put(service::ADDRESS, &address);
                nest.put_u16_network(service::PORT, port);
            }
        }
        nest.put_text(service::SCHEDULER, entry.scheduler.as_deref().unwrap_or("none"));
        if let Some(engine) = &entry.engine {
            nest.put_text(service::PE_NAME, engine);
        }
        let mut flags = [0xff; 8];
        flags[..4].copy_from_slice(&entry.flags.to_ne_bytes());
        nest.put(service::FLAGS, &flags);
        nest.put_u32(service::TIMEOUT, entry.timeout / hz.max(1));
        nest.put(service::NETMASK, &entry.netmask);
        statistics(nest, service::STATS, service::STATS64, &entry.stats.shown());
    });
}

pub(super) fn destination(out: &mut Writer, entry: &KernelDestination) {
    let settings = &entry.settings;
    out.nest(message::DESTINATION, |nest| {
        nest.put(destination::ADDRESS, &entry.id.address);
        nest.put_u16_network(destination::PORT, entry.id.port);
        nest.put_u32(destination::FORWARDING_METHOD, settings.forwarding);
        nest.put_u32(destination::WEIGHT, settings.weight);
        nest.put_u8(destination::TUNNEL_TYPE, settings.tunnel_type);
        nest.put_u16_network(destination::TUNNEL_PORT, settings.tunnel_port);
        nest.put_u16(destination::TUNNEL_FLAGS, settings.tunnel_flags);
        nest.put_u32(destination::UPPER_THRESHOLD, settings.upper_threshold);
        nest.put_u32(destination::LOWER_THRESHOLD, settings.lower_threshold);
        nest.put_u32(destination::ACTIVE_CONNECTIONS, entry.active);
        nest.put_u32(destination::INACTIVE_CONNECTIONS, entry.inactive);
        nest.put_u32(destination::PERSISTENT_CONNECTIONS, entry.persistent);
        nest.put_u16(destination::ADDRESS_FAMILY, entry.id.family);
        statistics(nest, destination::STATS, destination::STATS64, &entry.stats.shown());
    });
}

pub(super) fn daemon(out: &mut Writer, state: u32, entry: &KernelDaemon) {
    out.nest(message::DAEMON, |nest| {
        nest.put_u32(daemon::STATE, state);
        nest.put_text(daemon::INTERFACE, &entry.interface);
        nest.put_u32(daemon::SYNC_ID, entry.sync_id);
        nest.put_u16(daemon::MAX_LENGTH, entry.max_length);
        nest.put_u16(daemon::PORT, entry.port);
        nest.put_u8(daemon::TTL, entry.ttl);
        match entry.group {
            std::net::IpAddr::V4(group) => nest.put(daemon::GROUP, &group.octets()),
            std::net::IpAddr::V6(group) => nest.put(daemon::GROUP6, &group.octets()),
        }
    });
}

/// Writes the counters twice: in the old widths, which cut some of them, and in 64 bits.
fn statistics(out: &mut Writer, narrow: u16, wide: u16, entry: &Stats) {
    let rates = &entry.rates;
    let counters = [
        (stats::CONNECTIONS, entry.connections),
        (stats::INCOMING_PACKETS, entry.incoming_packets),
        (stats::OUTGOING_PACKETS, entry.outgoing_packets),
        (stats::INCOMING_BYTES, entry.incoming_bytes),
        (stats::OUTGOING_BYTES, entry.outgoing_bytes),
        (stats::CONNECTION_RATE, rates.connections),
        (stats::INCOMING_PACKET_RATE, rates.incoming_packets),
        (stats::OUTGOING_PACKET_RATE, rates.outgoing_packets),
        (stats::INCOMING_BYTE_RATE, rates.incoming_bytes),
        (stats::OUTGOING_BYTE_RATE, rates.outgoing_bytes),
    ];
    out.nest(narrow, |nest| {
        for (kind, value) in counters {
            match kind {
                stats::INCOMING_BYTES | stats::OUTGOING_BYTES => nest.put_u64(kind, value),
                _ => nest.put_u32(kind, low_half(value)),
            }
        }
    });
    out.nest(wide, |nest| {
        for (kind, value) in counters {
            nest.put_u64(kind, value);
        }
    });
}

#[allow(clippy::cast_possible_truncation)]
fn low_half(value: u64) -> u32 {
    value as u32
}
