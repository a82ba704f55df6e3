//! Codecs: how the kernel's types of attributes are written and read.

use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLA_ALIGNTO, NLA_HEADER_SIZE};

use super::DecodeError;
use super::reader::{AttributeValue, InOrder};
use super::writer::{Sink, Written};
use crate::model::{Name, Netmask};

/// A type of attribute: its value, its length and its byte order.
pub(crate) trait Codec {
    type Value;
    /// The most bytes that an attribute of the type takes, with its header and padding.
    const LENGTH: usize;

    fn encode<S: Sink>(kind: u16, value: Self::Value, sink: &mut S) -> Written;

    /// Reads the value as leniently as the kernel does; `None` counts as a missing attribute.
    fn decode(value: AttributeValue<'_>) -> Result<Option<Self::Value>, DecodeError>;
}

/// A codec whose attributes all have the same length.
pub(crate) trait Fixed: Codec {
    /// The value of the next attribute, if the attribute has this number and this length.
    fn next(attributes: &mut InOrder<'_>, kind: u16) -> Option<Self::Value>;
}

/// The length of an attribute whose value has this length.
pub(super) const fn attribute_length(value: usize) -> usize {
    NLA_HEADER_SIZE + value.next_multiple_of(NLA_ALIGNTO)
}

/// Makes codecs of fixed length: `Name: Value = length, to bytes, from bytes`.
macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident: $value:ty = $length:literal, $to:expr, $from:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl Codec for $name {
            type Value = $value;
            const LENGTH: usize = attribute_length($length);

            #[inline(always)]
            fn encode<S: Sink>(kind: u16, value: $value, sink: &mut S) -> Written {
                sink.attribute::<$length>(kind, $to(value))
            }

            #[inline(always)]
            fn decode(value: AttributeValue<'_>) -> Result<Option<$value>, DecodeError> {
                Ok(Some($from(value.take::<$length>()?)))
            }
        }

        impl Fixed for $name {
            #[inline(always)]
            fn next(attributes: &mut InOrder<'_>, kind: u16) -> Option<$value> {
                attributes.next::<$length>(kind).map($from)
            }
        }
    )*};
}

fixed! {
    U8: u8 = 1, u8::to_ne_bytes, u8::from_ne_bytes;
    U16Native: u16 = 2, u16::to_ne_bytes, u16::from_ne_bytes;
    U16Network: u16 = 2, u16::to_be_bytes, u16::from_be_bytes;
    U32Native: u32 = 4, u32::to_ne_bytes, u32::from_ne_bytes;
    U64Native: u64 = 8, u64::to_ne_bytes, u64::from_ne_bytes;
    Ipv4: Ipv4Addr = 4, ipv4_bytes, Ipv4Addr::from;
    Ipv6: Ipv6Addr = 16, ipv6_bytes, Ipv6Addr::from;
    /// Flags, and the mask of the bits that count.
    FlagsAndMask: (u32, u32) = 8, flags_bytes, flags;
}

fn ipv4_bytes(address: Ipv4Addr) -> [u8; 4] {
    address.octets()
}

fn ipv6_bytes(address: Ipv6Addr) -> [u8; 16] {
    address.octets()
}

fn flags_bytes((flags, mask): (u32, u32)) -> [u8; 8] {
    let ([f0, f1, f2, f3], [m0, m1, m2, m3]) = (flags.to_ne_bytes(), mask.to_ne_bytes());
    [f0, f1, f2, f3, m0, m1, m2, m3]
}

fn flags([f0, f1, f2, f3, m0, m1, m2, m3]: [u8; 8]) -> (u32, u32) {
    (u32::from_ne_bytes([f0, f1, f2, f3]), u32::from_ne_bytes([m0, m1, m2, m3]))
}

/// The sixteen bytes of the kernel's union of addresses; a shorter value is filled with zeros.
pub(crate) struct AddressBytes;

impl Codec for AddressBytes {
    type Value = [u8; 16];
    const LENGTH: usize = attribute_length(16);

    #[inline(always)]
    fn encode<S: Sink>(kind: u16, value: [u8; 16], sink: &mut S) -> Written {
        sink.attribute(kind, value)
    }

    fn decode(value: AttributeValue<'_>) -> Result<Option<[u8; 16]>, DecodeError> {
        let mut address = [0; 16];
        for (to, from) in address.iter_mut().zip(value.bytes) {
            *to = *from;
        }
        Ok(Some(address))
    }
}

impl Fixed for AddressBytes {
    #[inline(always)]
    fn next(attributes: &mut InOrder<'_>, kind: u16) -> Option<[u8; 16]> {
        attributes.next(kind)
    }
}

/// A string with the NUL that the kernel's policy asks for; an empty string is no name.
pub(crate) struct NulString<const MAX: usize>;

impl<const MAX: usize> Codec for NulString<MAX> {
    type Value = Name<MAX>;
    const LENGTH: usize = attribute_length(MAX + 1);

    #[inline(always)]
    fn encode<S: Sink>(kind: u16, value: Name<MAX>, sink: &mut S) -> Written {
        sink.string(kind, value.as_str())
    }

    fn decode(value: AttributeValue<'_>) -> Result<Option<Name<MAX>>, DecodeError> {
        let text = value.bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        if text.is_empty() {
            return Ok(None);
        }
        Name::new(&text)
            .map(Some)
            .map_err(|error| DecodeError::Value { name: value.name, value: error.to_string() })
    }
}

/// A mask in network order (IPv4) or a prefix length (IPv6). The service's family decides between
/// them, but may follow later in the message: the value is decoded as a mask, and
/// `ServiceAttributes` turns it into a prefix length.
pub(crate) struct Mask;

impl Codec for Mask {
    type Value = Netmask;
    const LENGTH: usize = attribute_length(4);

    #[inline(always)]
    fn encode<S: Sink>(kind: u16, value: Netmask, sink: &mut S) -> Written {
        match value {
            Netmask::V4(mask) => sink.attribute(kind, mask.octets()),
            Netmask::V6(prefix) => sink.attribute(kind, u32::from(prefix).to_ne_bytes()),
        }
    }

    fn decode(value: AttributeValue<'_>) -> Result<Option<Netmask>, DecodeError> {
        Ok(Some(Netmask::V4(value.take::<4>()?.into())))
    }
}
