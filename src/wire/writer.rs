//! Writing attributes: one encoding for a growing buffer, a given slice, or the length alone.

use byteorder::{ByteOrder, NativeEndian, NetworkEndian};
use netlink_packet_core::{NLA_ALIGNTO, NLA_F_NESTED, NLA_HEADER_SIZE};

/// Where encoded bytes go.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
    /// The number of bytes put so far.
    fn position(&self) -> usize;
    /// Overwrites bytes put before.
    fn patch(&mut self, at: usize, bytes: [u8; 2]);
}

impl Sink for Vec<u8> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn position(&self) -> usize {
        self.len()
    }

    fn patch(&mut self, at: usize, bytes: [u8; 2]) {
        self[at..at + 2].copy_from_slice(&bytes);
    }
}

/// Counts instead of writing.
#[derive(Default)]
pub(crate) struct Length(pub(crate) usize);

impl Sink for Length {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn position(&self) -> usize {
        self.0
    }

    fn patch(&mut self, _: usize, _: [u8; 2]) {}
}

/// Writes into a slice, which must be long enough.
pub(crate) struct Slice<'a> {
    bytes: &'a mut [u8],
    position: usize,
}

impl<'a> Slice<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, position: 0 }
    }
}

impl Sink for Slice<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.position + bytes.len();
        self.bytes[self.position..end].copy_from_slice(bytes);
        self.position = end;
    }

    fn position(&self) -> usize {
        self.position
    }

    fn patch(&mut self, at: usize, bytes: [u8; 2]) {
        self.bytes[at..at + 2].copy_from_slice(&bytes);
    }
}

/// Writes attributes; a field's byte order shows in the name of the method.
pub(crate) trait Attributes: Sink + Sized {
    /// A string with the terminating NUL that the kernel's policy asks for.
    #[inline(always)]
    fn string(&mut self, kind: u16, value: &str) {
        self.header(kind, NLA_HEADER_SIZE + value.len() + 1);
        self.put(value.as_bytes());
        self.put(&[0]);
        self.pad(value.len() + 1);
    }

    /// A value of known length, put at once with its header and padding.
    #[inline(always)]
    fn array<const N: usize>(&mut self, kind: u16, value: [u8; N]) {
        const LONGEST: usize = NLA_HEADER_SIZE + 16;
        let mut bytes = [0; LONGEST];
        NativeEndian::write_u16(&mut bytes[..2], attribute_length(NLA_HEADER_SIZE + N));
        NativeEndian::write_u16(&mut bytes[2..4], kind);
        bytes[NLA_HEADER_SIZE..NLA_HEADER_SIZE + N].copy_from_slice(&value);
        self.put(&bytes[..(NLA_HEADER_SIZE + N).next_multiple_of(NLA_ALIGNTO)]);
    }

    fn u8(&mut self, kind: u16, value: u8) {
        self.array(kind, [value]);
    }

    fn u16_native(&mut self, kind: u16, value: u16) {
        let mut bytes = [0; 2];
        NativeEndian::write_u16(&mut bytes, value);
        self.array(kind, bytes);
    }

    fn u16_network(&mut self, kind: u16, value: u16) {
        let mut bytes = [0; 2];
        NetworkEndian::write_u16(&mut bytes, value);
        self.array(kind, bytes);
    }

    fn u32_native(&mut self, kind: u16, value: u32) {
        let mut bytes = [0; 4];
        NativeEndian::write_u32(&mut bytes, value);
        self.array(kind, bytes);
    }

    fn u64_native(&mut self, kind: u16, value: u64) {
        let mut bytes = [0; 8];
        NativeEndian::write_u64(&mut bytes, value);
        self.array(kind, bytes);
    }

    /// An attribute that holds attributes; its length is set once they are written.
    #[inline(always)]
    fn nest(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.position();
        self.header(kind | NLA_F_NESTED, 0);
        content(self);
        let mut length = [0; 2];
        NativeEndian::write_u16(&mut length, attribute_length(self.position() - start));
        self.patch(start, length);
    }

    fn header(&mut self, kind: u16, length: usize) {
        let mut header = [0; NLA_HEADER_SIZE];
        NativeEndian::write_u16(&mut header[..2], attribute_length(length));
        NativeEndian::write_u16(&mut header[2..], kind);
        self.put(&header);
    }

    fn pad(&mut self, length: usize) {
        self.put(&[0; NLA_ALIGNTO][..length.next_multiple_of(NLA_ALIGNTO) - length]);
    }
}

impl<S: Sink> Attributes for S {}

/// Every attribute of the family is of bounded size; the largest message has below 1 KiB.
fn attribute_length(length: usize) -> u16 {
    u16::try_from(length).expect("an attribute of the family is far below 64 KiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned_and_nests_know_their_length() {
        let mut buffer = Vec::new();
        buffer.nest(1, |nest| {
            nest.u16_network(4, 80);
            nest.string(6, "wrr");
        });
        let nested = 1 | NLA_F_NESTED;
        let mut expected = Vec::new();
        for native in [20, nested, 6, 4] {
            expected.extend(u16::to_ne_bytes(native));
        }
        expected.extend([0, 80, 0, 0]);
        for native in [8, 6] {
            expected.extend(u16::to_ne_bytes(native));
        }
        expected.extend(*b"wrr\0");
        assert_eq!(buffer, expected);
    }
}
