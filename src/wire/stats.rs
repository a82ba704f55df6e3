//! Statistics in both widths.

use super::DecodeError;
use super::codec::{Codec as _, Fixed as _, U32Native, U64Native};
use super::reader::{AttributeValue, InOrder, for_each_attribute};
use super::writer::{Sink, Written};
use crate::model::Stats;
use crate::uapi::ipvs::destination::{STATS, STATS64};
use crate::uapi::ipvs::{service, stats as attribute};

// The nests have the same numbers in a service and in a destination.
const _: () = assert!(STATS == service::STATS && STATS64 == service::STATS64);

/// The number of counters of a nest; their attribute numbers follow each other, beginning with
/// connections.
const COUNTERS: usize = attribute::OUTGOING_BYTE_RATE as usize;
const NARROW_LENGTH: usize = length(Width::Narrow);
const WIDE_LENGTH: usize = length(Width::Wide);

/// The table of the counters, in the order of their numbers.
macro_rules! counters {
    ($($kind:ident => $($field:ident).+;)*) => {
        /// The counters, each with its number.
        #[inline(always)]
        fn numbered(stats: &Stats) -> [(u16, u64); COUNTERS] {
            [$((attribute::$kind, stats.$($field).+)),*]
        }

        #[inline(always)]
        fn from_counters(counters: [u64; COUNTERS]) -> Stats {
            let mut stats = Stats::default();
            [$(stats.$($field).+),*] = counters;
            stats
        }
    };
}

counters! {
    CONNECTIONS => connections;
    INCOMING_PACKETS => incoming_packets;
    OUTGOING_PACKETS => outgoing_packets;
    INCOMING_BYTES => incoming_bytes;
    OUTGOING_BYTES => outgoing_bytes;
    CONNECTION_RATE => rates.connections;
    INCOMING_PACKET_RATE => rates.incoming_packets;
    OUTGOING_PACKET_RATE => rates.outgoing_packets;
    INCOMING_BYTE_RATE => rates.incoming_bytes;
    OUTGOING_BYTE_RATE => rates.outgoing_bytes;
}

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
    /// None: only the configuration is decoded.
    None,
    /// Those of `STATS64`, or of `STATS` from a kernel without `STATS64`.
    Widest,
    /// All counters of the message.
    All,
}

/// The nests of counters in a message, not yet decoded: only the end of the message shows which
/// nest is needed.
pub(crate) struct StatsNests<'a> {
    which: Counters,
    narrow: Option<&'a [u8]>,
    wide: Option<&'a [u8]>,
}

impl<'a> StatsNests<'a> {
    pub(crate) fn new(which: Counters) -> Self {
        Self { which, narrow: None, wide: None }
    }

    /// Both nests, if they follow each other and nothing follows them.
    #[inline(always)]
    pub(crate) fn in_order(bytes: &'a [u8], which: Counters) -> Option<Self> {
        let mut next = InOrder(bytes);
        let narrow = Some(next.next_nest(STATS)?);
        let wide = Some(next.next_nest(STATS64)?);
        next.is_at_end().then_some(Self { which, narrow, wide })
    }

    /// Keeps the value of an attribute if it is a nest of counters; tells whether it is one.
    pub(crate) fn take(&mut self, kind: u16, bytes: &'a [u8]) {
        match kind {
            STATS => self.narrow = Some(bytes),
            STATS64 => self.wide = Some(bytes),
            _ => {}
        }
    }

    /// `STATS` and `STATS64`.
    #[inline(always)]
    pub(crate) fn decode(self) -> Result<[Option<Stats>; 2], DecodeError> {
        let wide = self.wide.filter(|_| self.which != Counters::None);
        let narrow = self.narrow.filter(|_| match self.which {
            Counters::None => false,
            Counters::Widest => wide.is_none(),
            Counters::All => true,
        });
        Ok([
            narrow.map(|bytes| decode(bytes, Width::Narrow)).transpose()?,
            wide.map(|bytes| decode(bytes, Width::Wide)).transpose()?,
        ])
    }
}

/// Encodes `STATS` and `STATS64`, each if the message has it.
#[inline(always)]
pub(crate) fn encode<S: Sink>([narrow, wide]: [Option<&Stats>; 2], sink: &mut S) -> Written {
    if let Some(stats) = narrow {
        sink.nest(STATS, |sink| encode_nest(stats, Width::Narrow, sink))?;
    }
    if let Some(stats) = wide {
        sink.nest(STATS64, |sink| encode_nest(stats, Width::Wide, sink))?;
    }
    Some(())
}

fn encode_nest<S: Sink>(stats: &Stats, width: Width, sink: &mut S) -> Written {
    for (kind, value) in numbered(stats) {
        if is_wide(kind, width) {
            U64Native::encode(kind, value, sink)?;
        } else {
            // The kernel, too, writes the low half of a counter that has outgrown its field.
            #[allow(clippy::cast_possible_truncation)]
            U32Native::encode(kind, value as u32, sink)?;
        }
    }
    Some(())
}

fn decode(bytes: &[u8], width: Width) -> Result<Stats, DecodeError> {
    let in_order = match width {
        Width::Narrow => in_order::<NARROW_LENGTH>(bytes, width),
        Width::Wide => in_order::<WIDE_LENGTH>(bytes, width),
    };
    if let Some(counters) = in_order {
        return Ok(from_counters(counters));
    }
    let mut counters = [0; COUNTERS];
    for_each_attribute(bytes, |kind, value| {
        let index = usize::from(kind).wrapping_sub(attribute::CONNECTIONS.into());
        if let Some(counter) = counters.get_mut(index) {
            let value = AttributeValue::new("STATS", value);
            *counter = if is_wide(kind, width) {
                u64::from_ne_bytes(value.take()?)
            } else {
                u32::from_ne_bytes(value.take()?).into()
            };
        }
        Ok(())
    })?;
    Ok(from_counters(counters))
}

/// The counters, if they have the order in which kernels write them. The fast path: see
/// docs/performance.md.
#[inline(always)]
fn in_order<const LENGTH: usize>(bytes: &[u8], width: Width) -> Option<[u64; COUNTERS]> {
    let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
    let mut attributes = InOrder(bytes);
    let mut counters = [0; COUNTERS];
    for (kind, counter) in (attribute::CONNECTIONS..).zip(&mut counters) {
        *counter = if is_wide(kind, width) {
            U64Native::next(&mut attributes, kind)?
        } else {
            U32Native::next(&mut attributes, kind)?.into()
        };
    }
    attributes.is_at_end().then_some(counters)
}

/// The length of a whole nest.
const fn length(width: Width) -> usize {
    let (mut kind, mut length) = (attribute::CONNECTIONS, 0);
    while kind <= attribute::OUTGOING_BYTE_RATE {
        length += if is_wide(kind, width) { U64Native::LENGTH } else { U32Native::LENGTH };
        kind += 1;
    }
    length
}

/// Bytes are counted in 64 bits even in `STATS`; the rates of bytes are not.
const fn is_wide(kind: u16, width: Width) -> bool {
    matches!(width, Width::Wide)
        || matches!(kind, attribute::INCOMING_BYTES | attribute::OUTGOING_BYTES)
}
