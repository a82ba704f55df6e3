//! Statistics in both widths.

use super::DecodeError;
use super::reader::{InOrder, Value, for_each_attribute};
use super::uapi::stats as attribute;
use super::writer::Attributes;
use crate::model::{Rates, Stats};

const COUNTERS: usize = attribute::OUTGOING_BYTE_RATE as usize;
/// Ten attributes, of which two, or all, have 64 bits.
const NARROW_LENGTH: usize = 8 * 8 + 2 * 12;
const WIDE_LENGTH: usize = 10 * 12;

/// How wide the counters of packets and the rates are.
#[derive(Clone, Copy)]
pub(crate) enum Width {
    /// In `STATS`: 32 bits, which wrap.
    Narrow,
    /// In `STATS64`.
    Wide,
}

/// Which counters are decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counters {
    /// None: the configuration is all that is asked for.
    None,
    /// Those of `STATS64`, or of `STATS` where a kernel has no others.
    Widest,
    /// All that are in the message.
    All,
}

/// The counters of a message, until it is known which of them are decoded.
pub(crate) struct Both<'a> {
    which: Counters,
    narrow: Option<&'a [u8]>,
    wide: Option<&'a [u8]>,
}

impl<'a> Both<'a> {
    pub(crate) fn new(which: Counters) -> Self {
        Self { which, narrow: None, wide: None }
    }

    pub(crate) fn set(&mut self, width: Width, bytes: &'a [u8]) {
        match width {
            Width::Narrow => self.narrow = Some(bytes),
            Width::Wide => self.wide = Some(bytes),
        }
    }

    /// `STATS` and `STATS64`.
    #[inline(always)]
    pub(crate) fn decode(self) -> Result<(Option<Stats>, Option<Stats>), DecodeError> {
        let wide = self.wide.filter(|_| self.which != Counters::None);
        let narrow = self.narrow.filter(|_| match self.which {
            Counters::None => false,
            Counters::Widest => wide.is_none(),
            Counters::All => true,
        });
        Ok((
            narrow.map(|bytes| decode(bytes, Width::Narrow)).transpose()?,
            wide.map(|bytes| decode(bytes, Width::Wide)).transpose()?,
        ))
    }
}

pub(crate) fn encode<S: Attributes>(stats: &Stats, width: Width, sink: &mut S) {
    let mut counter = |kind, value: u64| match width {
        // The kernel, too, shows the low half of what has outgrown the field.
        #[allow(clippy::cast_possible_truncation)]
        Width::Narrow if !is_bytes(kind) => sink.u32_native(kind, value as u32),
        _ => sink.u64_native(kind, value),
    };
    counter(attribute::CONNECTIONS, stats.connections);
    counter(attribute::INCOMING_PACKETS, stats.incoming_packets);
    counter(attribute::OUTGOING_PACKETS, stats.outgoing_packets);
    counter(attribute::INCOMING_BYTES, stats.incoming_bytes);
    counter(attribute::OUTGOING_BYTES, stats.outgoing_bytes);
    counter(attribute::CONNECTION_RATE, stats.rates.connections);
    counter(attribute::INCOMING_PACKET_RATE, stats.rates.incoming_packets);
    counter(attribute::OUTGOING_PACKET_RATE, stats.rates.outgoing_packets);
    counter(attribute::INCOMING_BYTE_RATE, stats.rates.incoming_bytes);
    counter(attribute::OUTGOING_BYTE_RATE, stats.rates.outgoing_bytes);
}

fn decode(bytes: &[u8], width: Width) -> Result<Stats, DecodeError> {
    let in_order = match width {
        Width::Narrow => in_order::<NARROW_LENGTH>(bytes, width),
        Width::Wide => in_order::<WIDE_LENGTH>(bytes, width),
    };
    if let Some(counters) = in_order {
        return Ok(of_counters(counters));
    }
    let mut counters = [0; COUNTERS];
    for_each_attribute(bytes, |kind, value| {
        let index = usize::from(kind).wrapping_sub(attribute::CONNECTIONS.into());
        if let Some(counter) = counters.get_mut(index) {
            let value = Value::new("STATS", value);
            *counter = match width {
                Width::Narrow if !is_bytes(kind) => value.u32_native()?.into(),
                _ => value.u64_native()?,
            };
        }
        Ok(())
    })?;
    Ok(of_counters(counters))
}

/// The counters, where they have the order in which kernels write them.
#[inline(always)]
fn in_order<const LENGTH: usize>(bytes: &[u8], width: Width) -> Option<[u64; COUNTERS]> {
    let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
    let mut attributes = InOrder(bytes);
    let mut counters = [0; COUNTERS];
    for (kind, counter) in (attribute::CONNECTIONS..).zip(&mut counters) {
        *counter = match width {
            Width::Narrow if !is_bytes(kind) => attributes.u32_native(kind)?.into(),
            _ => attributes.u64_native(kind)?,
        };
    }
    attributes.is_at_end().then_some(counters)
}

/// The counters by their numbers, from that of connections on.
#[inline(always)]
fn of_counters(counters: [u64; COUNTERS]) -> Stats {
    let counter = |kind: u16| counters[usize::from(kind - attribute::CONNECTIONS)];
    Stats {
        connections: counter(attribute::CONNECTIONS),
        incoming_packets: counter(attribute::INCOMING_PACKETS),
        outgoing_packets: counter(attribute::OUTGOING_PACKETS),
        incoming_bytes: counter(attribute::INCOMING_BYTES),
        outgoing_bytes: counter(attribute::OUTGOING_BYTES),
        rates: Rates {
            connections: counter(attribute::CONNECTION_RATE),
            incoming_packets: counter(attribute::INCOMING_PACKET_RATE),
            outgoing_packets: counter(attribute::OUTGOING_PACKET_RATE),
            incoming_bytes: counter(attribute::INCOMING_BYTE_RATE),
            outgoing_bytes: counter(attribute::OUTGOING_BYTE_RATE),
        },
    }
}

/// Bytes are counted in 64 bits even in `STATS`; the rates of bytes are not.
fn is_bytes(kind: u16) -> bool {
    matches!(kind, attribute::INCOMING_BYTES | attribute::OUTGOING_BYTES)
}
