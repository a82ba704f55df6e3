//! Writing attributes: one encoding, into a given slice or for the length alone.

use netlink_packet_core::{NLA_ALIGNTO, NLA_F_NESTED, NLA_HEADER_SIZE};

/// `None`: the slice had no room for the bytes.
pub(crate) type Written = Option<()>;

/// The target of encoded bytes.
pub(crate) trait Sink: Sized {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Written;
    fn put_slice(&mut self, bytes: &[u8]) -> Written;
    /// An attribute that contains attributes, once it has begun.
    type Nest;
    fn begin_nest(&mut self) -> Option<Self::Nest>;
    /// Ends an attribute that contains everything that was written since it began.
    fn end_nest(&mut self, kind: u16, nest: Self::Nest);

    /// An attribute that contains the attributes that `body` writes.
    #[inline(always)]
    fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self) -> Written) -> Written {
        let nest = self.begin_nest()?;
        body(self)?;
        self.end_nest(kind, nest);
        Some(())
    }

    /// An attribute whose value needs no padding, or has four bytes at most. Header, value and
    /// padding are written in one step.
    #[inline(always)]
    fn attribute<const N: usize>(&mut self, kind: u16, value: [u8; N]) -> Written {
        if N <= NLA_ALIGNTO {
            let mut padded = [0; NLA_ALIGNTO];
            for (to, from) in padded.iter_mut().zip(value) {
                *to = from;
            }
            let ([h0, h1, h2, h3], [v0, v1, v2, v3]) = (header(kind, N), padded);
            self.put([h0, h1, h2, h3, v0, v1, v2, v3])
        } else {
            const { assert!(N <= NLA_ALIGNTO || N.is_multiple_of(NLA_ALIGNTO), "needs padding") }
            self.put(header(kind, N))?;
            self.put(value)
        }
    }

    /// A string with a terminating NUL.
    #[inline(always)]
    fn string(&mut self, kind: u16, value: &str) -> Written {
        let length = value.len() + 1;
        self.put(header(kind, length))?;
        self.put_slice(value.as_bytes())?;
        match length.next_multiple_of(NLA_ALIGNTO) - length {
            0 => self.put([0; 1]),
            1 => self.put([0; 2]),
            2 => self.put([0; 3]),
            _ => self.put([0; 4]),
        }
    }
}

/// Counts instead of writing.
pub(crate) struct Length(usize);

impl Length {
    /// The length, in bytes, of the output of `write`.
    #[inline(always)]
    pub(crate) fn of(write: impl FnOnce(&mut Self) -> Written) -> usize {
        let mut length = Self(0);
        let _ = write(&mut length);
        length.0
    }
}

impl Sink for Length {
    fn put<const N: usize>(&mut self, _: [u8; N]) -> Written {
        self.0 += N;
        Some(())
    }

    fn put_slice(&mut self, bytes: &[u8]) -> Written {
        self.0 += bytes.len();
        Some(())
    }

    type Nest = ();

    fn begin_nest(&mut self) -> Option<()> {
        self.0 += NLA_HEADER_SIZE;
        Some(())
    }

    fn end_nest(&mut self, _: u16, (): ()) {}
}

/// Writes into a slice, until it is full.
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

    /// The next bytes, to be written later.
    #[inline(always)]
    pub(crate) fn take<const N: usize>(&mut self) -> Option<&'a mut [u8; N]> {
        let (taken, rest) = std::mem::take(&mut self.rest).split_first_chunk_mut()?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Sink for Slice<'a> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Written {
        *self.take()? = bytes;
        Some(())
    }

    #[inline(always)]
    fn put_slice(&mut self, bytes: &[u8]) -> Written {
        let (to, rest) = std::mem::take(&mut self.rest).split_at_mut_checked(bytes.len())?;
        to.copy_from_slice(bytes);
        self.rest = rest;
        Some(())
    }

    /// The place of the header, and the number of bytes that were left behind it.
    type Nest = (&'a mut [u8; NLA_HEADER_SIZE], usize);

    #[inline(always)]
    fn begin_nest(&mut self) -> Option<Self::Nest> {
        let to = self.take()?;
        Some((to, self.left()))
    }

    #[inline(always)]
    fn end_nest(&mut self, kind: u16, (to, left): Self::Nest) {
        *to = header(kind | NLA_F_NESTED, left - self.left());
    }
}

/// The header of an attribute whose value has this length.
#[inline(always)]
pub(super) fn header(kind: u16, length: usize) -> [u8; NLA_HEADER_SIZE] {
    // The longest message of the family has less than 1 KiB, so this never saturates.
    let length = u16::try_from(NLA_HEADER_SIZE + length).unwrap_or(u16::MAX);
    let ([a, b], [c, d]) = (length.to_ne_bytes(), kind.to_ne_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned_and_nests_know_their_length() {
        let mut buffer = [0xaa; 20];
        let mut slice = Slice::new(&mut buffer);
        let written = slice.nest(1, |slice| {
            slice.attribute(4, 80_u16.to_be_bytes())?;
            slice.string(6, "wrr")
        });
        assert_eq!(written, Some(()));
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

    /// Once: encoding into a slice that was too short was a panic.
    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut whole = [0; 20];
        for length in 0..whole.len() {
            let mut slice = Slice::new(&mut whole[..length]);
            let written = slice.nest(1, |slice| {
                slice.attribute(4, [1, 2])?;
                slice.string(6, "wrr")
            });
            assert_eq!(written, None, "{length}");
        }
    }
}
