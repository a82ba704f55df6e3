//! The attributes of a destination.

use super::DecodeError;
use super::codec::{AddressBytes, U8, U16Native, U16Network, U32Native};
use super::reader::{InOrder, for_each_attribute, nested, required};
use super::service::{address_bytes, address_from, family_from, family_number};
use super::stats::{self, Counters, StatsNests};
use super::table::attributes;
use super::writer::{Sink, Written};
use crate::model::{
    Destination, DestinationEntry, DestinationKey, Family, Forwarding, Stats, Tunnel,
};
use crate::uapi::ipvs::message;

attributes! {
    /// A destination's attributes, each as the kernel has it; an attribute that the message lacks
    /// is `None`.
    ///
    /// [`From`] a [`DestinationKey`] sets the key alone, from a [`Destination`] the whole
    /// configuration.
    pub struct DestinationAttributes of crate::uapi::ipvs::destination {
        /// `ADDR`, in network order; an IPv4 address is in the first four bytes.
        address: [u8; 16] = ADDRESS, "ADDR", AddressBytes;
        /// `PORT`, here in host order.
        port: u16 = PORT, "PORT", U16Network;
        /// `FWD_METHOD`, of which the low three bits count.
        forwarding: u32 = FORWARDING_METHOD, "FWD_METHOD", U32Native;
        /// `WEIGHT`.
        weight: u32 = WEIGHT, "WEIGHT", U32Native;
        /// `TUN_TYPE`: 0 ipip, 1 gue, 2 gre.
        tunnel_type: u8 = TUNNEL_TYPE, "TUN_TYPE", U8;
        /// `TUN_PORT`, here in host order.
        tunnel_port: u16 = TUNNEL_PORT, "TUN_PORT", U16Network;
        /// `TUN_FLAGS`: 1 checksum, 2 remote checksum.
        tunnel_flags: u16 = TUNNEL_FLAGS, "TUN_FLAGS", U16Native;
        /// `U_THRESH`.
        upper_threshold: u32 = UPPER_THRESHOLD, "U_THRESH", U32Native;
        /// `L_THRESH`.
        lower_threshold: u32 = LOWER_THRESHOLD, "L_THRESH", U32Native;
        /// `ACTIVE_CONNS`.
        active_connections: u32 = ACTIVE_CONNECTIONS, "ACTIVE_CONNS", U32Native;
        /// `INACT_CONNS`.
        inactive_connections: u32 = INACTIVE_CONNECTIONS, "INACT_CONNS", U32Native;
        /// `PERSIST_CONNS`.
        persistent_connections: u32 = PERSISTENT_CONNECTIONS, "PERSIST_CONNS", U32Native;
        /// `ADDR_FAMILY`: 2 for IPv4, 10 for IPv6; if it is missing, the service's family counts.
        family: u16 = ADDRESS_FAMILY, "ADDR_FAMILY", U16Native;
    }
    and {
        /// `STATS`, in which packets and rates have 32 bits.
        stats: Stats;
        /// `STATS64`.
        stats64: Stats;
    }
    in order
}

impl DestinationAttributes {
    #[inline(always)]
    pub(crate) fn encode<S: Sink>(&self, sink: &mut S) -> Written {
        self.encode_table(sink)?;
        stats::encode([self.stats.as_ref(), self.stats64.as_ref()], sink)
    }

    /// Decodes the destination of an answer; `service` as for [`key`](Self::key).
    #[inline(always)]
    pub(crate) fn from_answer<T: FromAttributes>(
        answer: &[u8],
        service: Family,
    ) -> Result<T, DecodeError> {
        let mut all = InOrder(answer);
        let bytes = match all.next_nest(message::DESTINATION) {
            Some(bytes) if all.is_at_end() => bytes,
            _ => nested(answer, message::DESTINATION, "DEST")?,
        };
        match Self::decode_as_answered(bytes, T::COUNTERS) {
            Some(destination) => T::from_attributes(&destination?, service),
            None => T::from_attributes(&Self::decode_in_any_order(bytes, T::COUNTERS)?, service),
        }
    }

    /// Decodes the attributes in any order, whichever of them are present.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_as_answered(bytes, Counters::All)
            .unwrap_or_else(|| Self::decode_in_any_order(bytes, Counters::All))
    }

    /// Decodes the answers of kernels since 5.3: the whole table, then the counters.
    #[inline(always)]
    fn decode_as_answered(bytes: &[u8], counters: Counters) -> Option<Result<Self, DecodeError>> {
        let (mut destination, counts) = Self::decode_in_order(bytes)?;
        let stats = StatsNests::in_order(counts, counters)?;
        Some(stats.decode().map(|stats| {
            [destination.stats, destination.stats64] = stats;
            destination
        }))
    }

    #[inline(never)]
    fn decode_in_any_order(bytes: &[u8], counters: Counters) -> Result<Self, DecodeError> {
        let mut destination = Self::default();
        let mut stats = StatsNests::new(counters);
        for_each_attribute(bytes, |kind, bytes| {
            if !destination.decode_one(kind, bytes)? {
                stats.take(kind, bytes);
            }
            Ok(())
        })?;
        [destination.stats, destination.stats64] = stats.decode()?;
        Ok(destination)
    }

    /// The destination's key. `service` is the family of the destination's service, which counts if
    /// `ADDR_FAMILY` is missing: kernels before 3.18 do not know this attribute.
    ///
    /// # Errors
    /// When the address or the port is missing, or the family is neither IPv4 nor IPv6.
    #[inline(always)]
    pub fn key(&self, service: Family) -> Result<DestinationKey, DecodeError> {
        let family = match self.family {
            None | Some(0) => service,
            Some(number) => family_from(number)?,
        };
        let address = required(self.address, "ADDR")?;
        let port = required(self.port, "PORT")?;
        Ok(DestinationKey::new(address_from(family, address), port))
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
        let mut entry = DestinationEntry::new(self.destination(service)?).stats(stats);
        entry.active_connections = self.active_connections.unwrap_or(0);
        entry.inactive_connections = self.inactive_connections.unwrap_or(0);
        entry.persistent_connections = self.persistent_connections.unwrap_or(0);
        Ok(entry)
    }
}

/// A type into which a listing decodes a destination's attributes.
pub(crate) trait FromAttributes: Sized {
    const COUNTERS: Counters;

    fn from_attributes(
        attributes: &DestinationAttributes,
        service: Family,
    ) -> Result<Self, DecodeError>;
}

impl FromAttributes for Destination {
    const COUNTERS: Counters = Counters::None;

    #[inline(always)]
    fn from_attributes(
        attributes: &DestinationAttributes,
        service: Family,
    ) -> Result<Self, DecodeError> {
        attributes.destination(service)
    }
}

impl FromAttributes for DestinationEntry {
    const COUNTERS: Counters = Counters::Widest;

    #[inline(always)]
    fn from_attributes(
        attributes: &DestinationAttributes,
        service: Family,
    ) -> Result<Self, DecodeError> {
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
        // The kernel resets tunnel attributes that are left out, as it should for every other
        // method.
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

    /// A destination as kernels since 5.3 write it, and the same attributes one by one.
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
        let entry = DestinationAttributes::from_answer(bytes, Family::V4).unwrap();
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
        assert!(DestinationAttributes::decode_as_answered(&bytes[4..], Counters::All).is_some());
        assert_eq!(expected.1.stats.connections, 1 << 40, "the wide counters");
        assert_eq!(expected.1.active_connections, 11);
        for _ in 1..parts.len() {
            parts.rotate_left(1);
            let bytes = nested_in(&bytes, &parts);
            assert!(
                DestinationAttributes::decode_as_answered(&bytes[4..], Counters::All).is_none()
            );
            assert_eq!(decoded(&bytes), expected);
        }
    }

    /// Kernels before 4.1 have fewer attributes, and later ones will have more.
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
            let _ = DestinationAttributes::from_answer::<DestinationEntry>(
                &bytes[..length],
                Family::V4,
            );
            let _ = DestinationAttributes::decode(&bytes[length..]);
        }
    }
}
