//! Reading attributes, as leniently as the kernel does.

use byteorder::{ByteOrder, NativeEndian};
use netlink_packet_core::{NLA_ALIGNTO, NLA_HEADER_SIZE, NLA_TYPE_MASK};

use super::DecodeError;
use super::writer::header;

/// Calls `each` with the number and value of every attribute. Stops without an error at bytes that
/// are no attribute, as the kernel does.
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

/// Reads attributes in an expected order, in far fewer steps than in any order.
pub(crate) struct InOrder<'a>(pub(crate) &'a [u8]);

impl<'a> InOrder<'a> {
    /// The value of the next attribute, if the attribute has this number and this length.
    #[inline(always)]
    pub(crate) fn next<const N: usize>(&mut self, kind: u16) -> Option<[u8; N]> {
        let (expected, rest) = self.0.split_first_chunk()?;
        if *expected != header(kind, N) {
            return None;
        }
        let (value, rest) = rest.split_at_checked(N.next_multiple_of(NLA_ALIGNTO))?;
        self.0 = rest;
        value.first_chunk().copied()
    }

    /// The value of the next attribute, if the attribute has this number.
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

    /// Whether all attributes were read.
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

/// The value of an attribute that must be present.
#[inline(always)]
pub(crate) fn required<T>(value: Option<T>, name: &'static str) -> Result<T, DecodeError> {
    match value {
        Some(value) => Ok(value),
        None => Err(DecodeError::Missing(name)),
    }
}

/// The value of an attribute, with the attribute's name for the error message.
#[derive(Clone, Copy)]
pub(crate) struct AttributeValue<'a> {
    pub(crate) name: &'static str,
    pub(crate) bytes: &'a [u8],
}

impl<'a> AttributeValue<'a> {
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
}
