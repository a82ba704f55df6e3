//! Reading attributes, as leniently as the kernel does.

use byteorder::{ByteOrder, NativeEndian, NetworkEndian};
use netlink_packet_core::NlasIterator;

use super::DecodeError;
use crate::model::Name;

/// Calls `each` with the number and value of every attribute, and stops quietly at bytes that are
/// none, as the kernel does.
pub(crate) fn for_each_attribute<E>(
    bytes: &[u8],
    mut each: impl FnMut(u16, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    for attribute in NlasIterator::new(bytes) {
        let Ok(attribute) = attribute else { break };
        each(attribute.kind(), attribute.value())?;
    }
    Ok(())
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
