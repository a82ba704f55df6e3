//! Writing attributes: one encoding for a given slice, or the length alone.

use byteorder::{ByteOrder, NativeEndian, NetworkEndian};
use netlink_packet_core::{NLA_ALIGNTO, NLA_F_NESTED, NLA_HEADER_SIZE};

/// Where encoded bytes go.
pub(crate) trait Sink: Sized {
    fn put<const N: usize>(&mut self, bytes: [u8; N]);
    fn put_slice(&mut self, bytes: &[u8]);
    /// An attribute that holds attributes, once it has begun.
    type Nest;
    fn begin_nest(&mut self) -> Self::Nest;
    /// Ends an attribute that holds those written since it began.
    fn end_nest(&mut self, kind: u16, nest: Self::Nest);
}

/// Counts instead of writing.
#[derive(Default)]
pub(crate) struct Length(pub(crate) usize);

impl Sink for Length {
    fn put<const N: usize>(&mut self, _: [u8; N]) {
        self.0 += N;
    }

    fn put_slice(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    type Nest = ();

    fn begin_nest(&mut self) {
        self.0 += NLA_HEADER_SIZE;
    }

    fn end_nest(&mut self, _: u16, (): ()) {}
}

/// Writes into a slice, which must be long enough.
pub(crate) struct Slice<'a> {
    rest: &'a mut [u8],
}

impl<'a> Slice<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The number of bytes that are not written yet.
    #[inline(always)]
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline(always)]
    fn take<const N: usize>(&mut self) -> &'a mut [u8; N] {
        let (taken, rest) =
            std::mem::take(&mut self.rest).split_first_chunk_mut().expect(LONG_ENOUGH);
        self.rest = rest;
        taken
    }
}

/// The length is asked for before, or the longest message fits.
const LONG_ENOUGH: &str = "a message is written into a slice that holds it";

impl<'a> Sink for Slice<'a> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        *self.take() = bytes;
    }

    #[inline(always)]
    fn put_slice(&mut self, bytes: &[u8]) {
        let (to, rest) =
            std::mem::take(&mut self.rest).split_at_mut_checked(bytes.len()).expect(LONG_ENOUGH);
        to.copy_from_slice(bytes);
        self.rest = rest;
    }

    /// Where the header goes, and the number of bytes that were left behind it.
    type Nest = (&'a mut [u8; NLA_HEADER_SIZE], usize);

    #[inline(always)]
    fn begin_nest(&mut self) -> Self::Nest {
        let to = self.take();
        (to, self.left())
    }

    #[inline(always)]
    fn end_nest(&mut self, kind: u16, (to, left): Self::Nest) {
        *to = header(kind | NLA_F_NESTED, left - self.left());
    }
}

/// Writes attributes; a field's byte order shows in the name of the method.
pub(crate) trait Attributes: Sink {
    /// A string with the terminating NUL that the kernel's policy asks for.
    #[inline(always)]
    fn string(&mut self, kind: u16, value: &str) {
        let length = value.len() + 1;
        self.put(header(kind, length));
        self.put_slice(value.as_bytes());
        self.put_slice(&[0; NLA_ALIGNTO][..=length.next_multiple_of(NLA_ALIGNTO) - length]);
    }

    /// A value that needs no padding.
    #[inline(always)]
    fn array<const N: usize>(&mut self, kind: u16, value: [u8; N]) {
        const { assert!(N.is_multiple_of(NLA_ALIGNTO), "this value would need padding") }
        self.put(header(kind, N));
        self.put(value);
    }

    #[inline(always)]
    fn u8(&mut self, kind: u16, value: u8) {
        self.word(kind, 1, [value, 0, 0, 0]);
    }

    #[inline(always)]
    fn u16_native(&mut self, kind: u16, value: u16) {
        let mut bytes = [0; NLA_ALIGNTO];
        NativeEndian::write_u16(&mut bytes, value);
        self.word(kind, 2, bytes);
    }

    #[inline(always)]
    fn u16_network(&mut self, kind: u16, value: u16) {
        let mut bytes = [0; NLA_ALIGNTO];
        NetworkEndian::write_u16(&mut bytes, value);
        self.word(kind, 2, bytes);
    }

    #[inline(always)]
    fn u32_native(&mut self, kind: u16, value: u32) {
        let mut bytes = [0; NLA_ALIGNTO];
        NativeEndian::write_u32(&mut bytes, value);
        self.word(kind, 4, bytes);
    }

    /// A value of at most four bytes, put at once with its header and padding.
    #[inline(always)]
    fn word(&mut self, kind: u16, length: usize, value: [u8; NLA_ALIGNTO]) {
        let [a, b, c, d] = header(kind, length);
        let [e, f, g, h] = value;
        self.put([a, b, c, d, e, f, g, h]);
    }

    fn u64_native(&mut self, kind: u16, value: u64) {
        let mut bytes = [0; 8];
        NativeEndian::write_u64(&mut bytes, value);
        self.array(kind, bytes);
    }
}

impl<S: Sink> Attributes for S {}

/// The header of an attribute whose value has this length.
#[inline(always)]
pub(super) fn header(kind: u16, length: usize) -> [u8; NLA_HEADER_SIZE] {
    let length = u16::try_from(NLA_HEADER_SIZE + length);
    let mut header = [0; NLA_HEADER_SIZE];
    // The largest message of the family has below 1 KiB.
    NativeEndian::write_u16(&mut header[..2], length.expect("an attribute is below 64 KiB"));
    NativeEndian::write_u16(&mut header[2..], kind);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned_and_nests_know_their_length() {
        let mut buffer = [0xaa; 20];
        let mut slice = Slice::new(&mut buffer);
        let nest = slice.begin_nest();
        slice.u16_network(4, 80);
        slice.string(6, "wrr");
        slice.end_nest(1, nest);
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
        assert_eq!(buffer, expected[..]);
    }
}
