//! Reading attributes, as leniently as the kernel does.

use byteorder::{ByteOrder, NativeEndian, NetworkEndian};
use netlink_packet_core::{NLA_ALIGNTO, NLA_HEADER_SIZE, NLA_TYPE_MASK};

use super::DecodeError;
use super::writer::header;
use crate::model::Name;

/// Calls `each` with the number and value of every attribute, and stops quietly at bytes that are
/// none, as the kernel does.
#[inline]
pub(crate) fn for_each_attribute<'a, E>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u16, &'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(header) = bytes.first_chunk::<NLA_HEADER_SIZE>() {
        let length = usize::from(NativeEndian::read_u16(&header[..2]));
        let kind = NativeEndian::read_u16(&header[2..]) & NLA_TYPE_MASK;
        let Some(value) = bytes.get(NLA_HEADER_SIZE..length) else { break };
        each(kind, value)?;
        let aligned = (length + NLA_ALIGNTO - 1) & !(NLA_ALIGNTO - 1);
        bytes = bytes.get(aligned..).unwrap_or_default();
    }
    Ok(())
}

/// Attributes in an order that is expected, which takes far fewer steps than any order does.
pub(crate) struct InOrder<'a>(pub(crate) &'a [u8]);

impl<'a> InOrder<'a> {
    #[inline(always)]
    pub(crate) fn u16_native(&mut self, kind: u16) -> Option<u16> {
        Some(NativeEndian::read_u16(&self.array::<2>(kind)?))
    }

    #[inline(always)]
    pub(crate) fn u16_network(&mut self, kind: u16) -> Option<u16> {
        Some(NetworkEndian::read_u16(&self.array::<2>(kind)?))
    }

    #[inline(always)]
    pub(crate) fn u32_native(&mut self, kind: u16) -> Option<u32> {
        Some(NativeEndian::read_u32(&self.array::<4>(kind)?))
    }

    #[inline(always)]
    pub(crate) fn u64_native(&mut self, kind: u16) -> Option<u64> {
        Some(NativeEndian::read_u64(&self.array::<8>(kind)?))
    }

    /// The value of the next attribute, where it is this one and has this length.
    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self, kind: u16) -> Option<[u8; N]> {
        let (expected, rest) = self.0.split_first_chunk()?;
        if *expected != header(kind, N) {
            return None;
        }
        let (value, rest) = rest.split_at_checked(N.next_multiple_of(NLA_ALIGNTO))?;
        self.0 = rest;
        value.first_chunk().copied()
    }

    /// What the next attribute holds, where it is this one.
    #[inline(always)]
    pub(crate) fn next_nest(&mut self, kind: u16) -> Option<&'a [u8]> {
        let (start, _) = self.0.split_first_chunk::<NLA_HEADER_SIZE>()?;
        let length = usize::from(NativeEndian::read_u16(&start[..2]));
        let is_it = NativeEndian::read_u16(&start[2..]) & NLA_TYPE_MASK == kind;
        if !is_it || !length.is_multiple_of(NLA_ALIGNTO) {
            return None;
        }
        let (nest, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        nest.get(NLA_HEADER_SIZE..)
    }

    /// Whether nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// The attributes that a message holds in one of its attributes; of duplicates the last one counts.
pub(crate) fn nested<'a>(
    bytes: &'a [u8],
    wanted: u16,
    name: &'static str,
) -> Result<&'a [u8], DecodeError> {
    let mut nest = None;
    for_each_attribute(bytes, |kind, value| {
        nest = if kind == wanted { Some(value) } else { nest };
        Ok::<_, DecodeError>(())
    })?;
    required(nest, name)
}

/// What must be there.
#[inline(always)]
pub(crate) fn required<T>(value: Option<T>, name: &'static str) -> Result<T, DecodeError> {
    match value {
        Some(value) => Ok(value),
        None => Err(DecodeError::Missing(name)),
    }
}

/// The value of an attribute, with the attribute's name for the error message.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) name: &'static str,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Value<'a> {
    pub(crate) fn new(name: &'static str, bytes: &'a [u8]) -> Self {
        Self { name, bytes }
    }

    pub(crate) fn take<const N: usize>(self) -> Result<[u8; N], DecodeError> {
        self.bytes.first_chunk().copied().ok_or(DecodeError::Short {
            name: self.name,
            length: self.bytes.len(),
            needed: N,
        })
    }

    pub(crate) fn u8(self) -> Result<u8, DecodeError> {
        Ok(self.take::<1>()?[0])
    }

    pub(crate) fn u16_native(self) -> Result<u16, DecodeError> {
        Ok(NativeEndian::read_u16(&self.take::<2>()?))
    }

    pub(crate) fn u16_network(self) -> Result<u16, DecodeError> {
        Ok(NetworkEndian::read_u16(&self.take::<2>()?))
    }

    pub(crate) fn u32_native(self) -> Result<u32, DecodeError> {
        Ok(NativeEndian::read_u32(&self.take::<4>()?))
    }

    pub(crate) fn u64_native(self) -> Result<u64, DecodeError> {
        Ok(NativeEndian::read_u64(&self.take::<8>()?))
    }

    /// An address: a short one is filled with zeros, as the kernel does.
    pub(crate) fn address(self) -> [u8; 16] {
        let mut address = [0; 16];
        let length = self.bytes.len().min(16);
        address[..length].copy_from_slice(&self.bytes[..length]);
        address
    }

    /// A name, up to its NUL if it has one; `None` where it is empty.
    pub(crate) fn name<const MAX: usize>(self) -> Result<Option<Name<MAX>>, DecodeError> {
        let text = self.bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        if text.is_empty() {
            return Ok(None);
        }
        Name::new(&text)
            .map(Some)
            .map_err(|error| DecodeError::Value { name: self.name, value: error.to_string() })
    }
}
