//! The attributes of a destination.

use super::DecodeError;
use super::reader::{InOrder, Value, for_each_attribute, nested, required};
use super::service::{address_bytes, address_of, family_number, family_of};
use super::stats::{self, Both, Counters, Width};
use super::uapi::{destination as attribute, top};
use super::writer::Attributes;
use crate::model::{
    Destination, DestinationEntry, DestinationKey, Family, Forwarding, Stats, Tunnel,
};

/// The length of an answer's attributes up to the counters: an address, and twelve of a word.
const NUMBERS_LENGTH: usize = 20 + 12 * 8;

/// A destination's attributes, each as the kernel has it; what is `None` is not in the message.
///
/// [`From`] a [`DestinationKey`] sets the identity alone, from a [`Destination`] everything that
/// is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DestinationAttributes {
    /// `ADDR`, in network order; an IPv4 address is in the first four bytes.
    pub address: Option<[u8; 16]>,
    /// `PORT`, here in host order.
    pub port: Option<u16>,
    /// `FWD_METHOD`, of which the low three bits count.
    pub forwarding: Option<u32>,
    /// `WEIGHT`.
    pub weight: Option<u32>,
    /// `U_THRESH`.
    pub upper_threshold: Option<u32>,
    /// `L_THRESH`.
    pub lower_threshold: Option<u32>,
    /// `ACTIVE_CONNS`.
    pub active_connections: Option<u32>,
    /// `INACT_CONNS`.
    pub inactive_connections: Option<u32>,
    /// `PERSIST_CONNS`.
    pub persistent_connections: Option<u32>,
    /// `STATS`, in which packets and rates have 32 bits.
    pub stats: Option<Stats>,
    /// `ADDR_FAMILY`: 2 for IPv4, 10 for IPv6; the service's where it is missing.
    pub family: Option<u16>,
    /// `STATS64`.
    pub stats64: Option<Stats>,
    /// `TUN_TYPE`: 0 ipip, 1 gue, 2 gre.
    pub tunnel_type: Option<u8>,
    /// `TUN_PORT`, here in host order.
    pub tunnel_port: Option<u16>,
    /// `TUN_FLAGS`: 1 checksum, 2 remote checksum.
    pub tunnel_flags: Option<u16>,
}

impl DestinationAttributes {
    #[inline(always)]
    pub(crate) fn encode<S: Attributes>(&self, sink: &mut S) {
        if let Some(address) = self.address {
            sink.array(attribute::ADDRESS, address);
        }
        if let Some(port) = self.port {
            sink.u16_network(attribute::PORT, port);
        }
        if let Some(forwarding) = self.forwarding {
            sink.u32_native(attribute::FORWARDING_METHOD, forwarding);
        }
        if let Some(weight) = self.weight {
            sink.u32_native(attribute::WEIGHT, weight);
        }
        if let Some(kind) = self.tunnel_type {
            sink.u8(attribute::TUNNEL_TYPE, kind);
        }
        if let Some(port) = self.tunnel_port {
            sink.u16_network(attribute::TUNNEL_PORT, port);
        }
        if let Some(flags) = self.tunnel_flags {
            sink.u16_native(attribute::TUNNEL_FLAGS, flags);
        }
        for (kind, count) in [
            (attribute::UPPER_THRESHOLD, self.upper_threshold),
            (attribute::LOWER_THRESHOLD, self.lower_threshold),
            (attribute::ACTIVE_CONNECTIONS, self.active_connections),
            (attribute::INACTIVE_CONNECTIONS, self.inactive_connections),
            (attribute::PERSISTENT_CONNECTIONS, self.persistent_connections),
        ] {
            if let Some(count) = count {
                sink.u32_native(kind, count);
            }
        }
        if let Some(family) = self.family {
            sink.u16_native(attribute::ADDRESS_FAMILY, family);
        }
        if let Some(stats) = &self.stats {
            let nest = sink.begin_nest();
            stats::encode(stats, Width::Narrow, sink);
            sink.end_nest(attribute::STATS, nest);
        }
        if let Some(stats) = &self.stats64 {
            let nest = sink.begin_nest();
            stats::encode(stats, Width::Wide, sink);
            sink.end_nest(attribute::STATS64, nest);
        }
    }

    /// Decodes the destination of an answer; `service` as for [`key`](Self::key).
    #[inline(always)]
    pub(crate) fn of_answer<T: OfDestination>(
        answer: &[u8],
        service: Family,
    ) -> Result<T, DecodeError> {
        let mut all = InOrder(answer);
        let bytes = match all.next_nest(top::DESTINATION) {
            Some(bytes) if all.is_at_end() => bytes,
            _ => nested(answer, top::DESTINATION, "DEST")?,
        };
        match Self::decode_in_order(bytes, T::COUNTERS) {
            Some(destination) => T::of(&destination?, service),
            None => T::of(&Self::decode_in_any_order(bytes, T::COUNTERS)?, service),
        }
    }

    /// Decodes all that there is.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_in_order(bytes, Counters::All)
            .unwrap_or_else(|| Self::decode_in_any_order(bytes, Counters::All))
    }

    /// Decodes what has the order in which kernels since 5.3 answer, in far fewer steps.
    #[inline(always)]
    fn decode_in_order(bytes: &[u8], counters: Counters) -> Option<Result<Self, DecodeError>> {
        // Of a known length, what follows needs no look at it.
        let (numbers, counts) = bytes.split_first_chunk::<NUMBERS_LENGTH>()?;
        let mut next = InOrder(numbers);
        let mut destination = Self {
            address: Some(next.array(attribute::ADDRESS)?),
            port: Some(next.u16_network(attribute::PORT)?),
            forwarding: Some(next.u32_native(attribute::FORWARDING_METHOD)?),
            weight: Some(next.u32_native(attribute::WEIGHT)?),
            tunnel_type: Some(next.array::<1>(attribute::TUNNEL_TYPE)?[0]),
            tunnel_port: Some(next.u16_network(attribute::TUNNEL_PORT)?),
            tunnel_flags: Some(next.u16_native(attribute::TUNNEL_FLAGS)?),
            upper_threshold: Some(next.u32_native(attribute::UPPER_THRESHOLD)?),
            lower_threshold: Some(next.u32_native(attribute::LOWER_THRESHOLD)?),
            active_connections: Some(next.u32_native(attribute::ACTIVE_CONNECTIONS)?),
            inactive_connections: Some(next.u32_native(attribute::INACTIVE_CONNECTIONS)?),
            persistent_connections: Some(next.u32_native(attribute::PERSISTENT_CONNECTIONS)?),
            family: Some(next.u16_native(attribute::ADDRESS_FAMILY)?),
            stats: None,
            stats64: None,
        };
        let mut next = InOrder(counts);
        let mut stats = Both::new(counters);
        stats.set(Width::Narrow, next.next_nest(attribute::STATS)?);
        stats.set(Width::Wide, next.next_nest(attribute::STATS64)?);
        if !next.is_at_end() {
            return None;
        }
        Some(stats.decode().map(|stats| {
            (destination.stats, destination.stats64) = stats;
            destination
        }))
    }

    #[inline(never)]
    fn decode_in_any_order(bytes: &[u8], counters: Counters) -> Result<Self, DecodeError> {
        let mut destination = Self::default();
        let mut stats = Both::new(counters);
        for_each_attribute(bytes, |kind, bytes| {
            let value = |name| Value::new(name, bytes);
            let to = &mut destination;
            match kind {
                attribute::ADDRESS => to.address = Some(value("ADDR").address()),
                attribute::PORT => to.port = Some(value("PORT").u16_network()?),
                attribute::FORWARDING_METHOD => {
                    to.forwarding = Some(value("FWD_METHOD").u32_native()?);
                }
                attribute::WEIGHT => to.weight = Some(value("WEIGHT").u32_native()?),
                attribute::UPPER_THRESHOLD => {
                    to.upper_threshold = Some(value("U_THRESH").u32_native()?);
                }
                attribute::LOWER_THRESHOLD => {
                    to.lower_threshold = Some(value("L_THRESH").u32_native()?);
                }
                attribute::ACTIVE_CONNECTIONS => {
                    to.active_connections = Some(value("ACTIVE_CONNS").u32_native()?);
                }
                attribute::INACTIVE_CONNECTIONS => {
                    to.inactive_connections = Some(value("INACT_CONNS").u32_native()?);
                }
                attribute::PERSISTENT_CONNECTIONS => {
                    to.persistent_connections = Some(value("PERSIST_CONNS").u32_native()?);
                }
                attribute::STATS => stats.set(Width::Narrow, bytes),
                attribute::ADDRESS_FAMILY => to.family = Some(value("ADDR_FAMILY").u16_native()?),
                attribute::STATS64 => stats.set(Width::Wide, bytes),
                attribute::TUNNEL_TYPE => to.tunnel_type = Some(value("TUN_TYPE").u8()?),
                attribute::TUNNEL_PORT => to.tunnel_port = Some(value("TUN_PORT").u16_network()?),
                attribute::TUNNEL_FLAGS => to.tunnel_flags = Some(value("TUN_FLAGS").u16_native()?),
                _ => {}
            }
            Ok(())
        })?;
        (destination.stats, destination.stats64) = stats.decode()?;
        Ok(destination)
    }

    /// The destination's key. `service` is the family it has where it does not say so itself:
    /// kernels before 3.18 know but one.
    ///
    /// # Errors
    /// When the address or the port is missing, or the family is neither IPv4 nor IPv6.
    #[inline(always)]
    pub fn key(&self, service: Family) -> Result<DestinationKey, DecodeError> {
        let family = match self.family {
            None | Some(0) => service,
            Some(number) => family_of(number)?,
        };
        let address = required(self.address, "ADDR")?;
        let port = required(self.port, "PORT")?;
        Ok(DestinationKey::new(address_of(family, address), port))
    }

    /// The destination's configuration; `service` as for [`key`](Self::key).
    ///
    /// # Errors
    /// When an attribute that the kernel always sends is missing.
    #[inline(always)]
    pub fn destination(&self, service: Family) -> Result<Destination, DecodeError> {
        let tunnel = Tunnel::from_numbers(
            self.tunnel_type.unwrap_or(0),
            self.tunnel_port.unwrap_or(0),
            self.tunnel_flags.unwrap_or(0),
        );
        let method = required(self.forwarding, "FWD_METHOD")?;
        Ok(Destination {
            key: self.key(service)?,
            forwarding: Forwarding::from_number(method, tunnel),
            weight: required(self.weight, "WEIGHT")?,
            upper_threshold: required(self.upper_threshold, "U_THRESH")?,
            lower_threshold: required(self.lower_threshold, "L_THRESH")?,
        })
    }

    /// The destination with its counters; `service` as for [`key`](Self::key).
    ///
    /// # Errors
    /// When an attribute of its configuration is missing; missing counters are zero.
    #[inline(always)]
    pub fn entry(&self, service: Family) -> Result<DestinationEntry, DecodeError> {
        let stats = self.stats64.or(self.stats).unwrap_or_default();
        let mut entry = DestinationEntry::new(self.destination(service)?, stats);
        entry.active_connections = self.active_connections.unwrap_or(0);
        entry.inactive_connections = self.inactive_connections.unwrap_or(0);
        entry.persistent_connections = self.persistent_connections.unwrap_or(0);
        Ok(entry)
    }
}

/// What is read of a destination.
pub(crate) trait OfDestination: Sized {
    const COUNTERS: Counters;

    fn of(attributes: &DestinationAttributes, service: Family) -> Result<Self, DecodeError>;
}

impl OfDestination for Destination {
    const COUNTERS: Counters = Counters::None;

    #[inline(always)]
    fn of(attributes: &DestinationAttributes, service: Family) -> Result<Self, DecodeError> {
        attributes.destination(service)
    }
}

impl OfDestination for DestinationEntry {
    const COUNTERS: Counters = Counters::Widest;

    #[inline(always)]
    fn of(attributes: &DestinationAttributes, service: Family) -> Result<Self, DecodeError> {
        attributes.entry(service)
    }
}

impl From<&DestinationKey> for DestinationAttributes {
    #[inline(always)]
    fn from(key: &DestinationKey) -> Self {
        Self {
            address: Some(address_bytes(key.address)),
            port: Some(key.port),
            family: Some(family_number(key.family())),
            ..Self::default()
        }
    }
}

impl From<&Destination> for DestinationAttributes {
    #[inline(always)]
    fn from(destination: &Destination) -> Self {
        let mut attributes = Self {
            forwarding: Some(destination.forwarding.number()),
            weight: Some(destination.weight),
            upper_threshold: Some(destination.upper_threshold),
            lower_threshold: Some(destination.lower_threshold),
            ..Self::from(&destination.key)
        };
        // Left out, they are reset to nothing, which is right for every other method.
        if let Some(tunnel) = destination.forwarding.tunnel() {
            attributes.tunnel_type = Some(tunnel.kind());
            attributes.tunnel_port = Some(tunnel.port());
            attributes.tunnel_flags = Some(tunnel.flags());
        }
        attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Rates;
    use crate::wire::{Command, Message};
    use netlink_packet_core::Emitable;
    use std::net::Ipv4Addr;

    /// A destination as kernels since 5.3 answer it, and its attributes one by one.
    fn answer() -> (Vec<u8>, Vec<Vec<u8>>) {
        let count = |n| Stats {
            connections: n,
            incoming_packets: n + 1,
            outgoing_packets: n + 2,
            incoming_bytes: n + 3,
            outgoing_bytes: n + 4,
            rates: Rates { connections: n + 5, incoming_bytes: n + 6, ..Rates::default() },
        };
        let backend = Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 8080).thresholds(9, 3);
        let mut attributes = DestinationAttributes::from(&backend.weight(7));
        attributes.tunnel_type = Some(1);
        attributes.tunnel_port = Some(6080);
        attributes.tunnel_flags = Some(2);
        attributes.active_connections = Some(11);
        attributes.inactive_connections = Some(12);
        attributes.persistent_connections = Some(13);
        attributes.stats = Some(count(100));
        attributes.stats64 = Some(count(1 << 40));
        let mut message = Message::new(Command::NewDest);
        message.destination = Some(attributes);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let mut parts = Vec::new();
        let mut rest = &bytes[4..];
        while !rest.is_empty() {
            let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
            let (part, after) = rest.split_at(length.next_multiple_of(4));
            parts.push(part.to_vec());
            rest = after;
        }
        (bytes, parts)
    }

    fn decoded(bytes: &[u8]) -> (DestinationAttributes, DestinationEntry) {
        let entry = DestinationAttributes::of_answer(bytes, Family::V4).unwrap();
        (DestinationAttributes::decode(&bytes[4..]).unwrap(), entry)
    }

    fn nested_in(bytes: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(4 + content.len()).unwrap();
        [&length.to_ne_bytes()[..], &bytes[2..4], &content].concat()
    }

    #[test]
    fn the_order_of_attributes_does_not_matter() {
        let (bytes, mut parts) = answer();
        let expected = decoded(&bytes);
        assert!(DestinationAttributes::decode_in_order(&bytes[4..], Counters::All).is_some());
        assert_eq!(expected.1.stats.connections, 1 << 40, "the wide counters");
        assert_eq!(expected.1.active_connections, 11);
        for _ in 1..parts.len() {
            parts.rotate_left(1);
            let bytes = nested_in(&bytes, &parts);
            assert!(DestinationAttributes::decode_in_order(&bytes[4..], Counters::All).is_none());
            assert_eq!(decoded(&bytes), expected);
        }
    }

    /// As on kernels before 4.1, and on those that will have more.
    #[test]
    fn fewer_and_more_attributes_are_read() {
        let (bytes, mut parts) = answer();
        let (attributes, mut entry) = decoded(&bytes);
        parts.push([8u16.to_ne_bytes(), 99u16.to_ne_bytes(), [1, 2], [3, 4]].concat());
        assert_eq!(decoded(&nested_in(&bytes, &parts)), (attributes, entry));
        parts.truncate(parts.len() - 2);
        let narrow = decoded(&nested_in(&bytes, &parts));
        entry.stats = attributes.stats.unwrap();
        assert_eq!(narrow.1, entry);
        assert_eq!(narrow.0, DestinationAttributes { stats64: None, ..attributes });
    }

    #[test]
    fn cut_bytes_are_no_panic() {
        let (bytes, _) = answer();
        for length in 0..bytes.len() {
            let _ =
                DestinationAttributes::of_answer::<DestinationEntry>(&bytes[..length], Family::V4);
            let _ = DestinationAttributes::decode(&bytes[length..]);
        }
    }
}
