//! The buffer that datagrams are received into.

/// The usual size, 4 KiB and a byte. The kernel makes the parts of a dump as long as the longest
/// buffer that the socket has received into, up to 32,448 bytes. Where it clears the memory that it
/// hands out, as Debian's does, longer parts take more than half of the time of short dumps. The
/// byte tells a whole part of 4 KiB from one that was cut.
const SHORT: usize = 4096 + 1;
/// The size for long dumps, since for each part the kernel walks over all entries before it; and
/// the size once a part was cut, as happens where a page has more than 4 KiB.
const LONG: usize = 64 * 1024;

/// A buffer that is short, is made long for a long dump, and stays long once a datagram was cut.
pub(super) struct ReceiveBuffer {
    pub(super) bytes: Vec<u8>,
    /// The capacity outside of long dumps.
    usual: usize,
}

impl ReceiveBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(SHORT), usual: SHORT }
    }

    /// Whether it is long for a dump, and not for good.
    pub(super) fn is_for_a_long_dump(&self) -> bool {
        self.bytes.capacity() > self.usual
    }

    /// Goes back to the usual size.
    pub(super) fn shorten(&mut self) {
        self.bytes = Vec::with_capacity(self.usual);
    }

    /// Makes it long for the rest of a dump.
    pub(super) fn lengthen(&mut self) {
        self.bytes.clear();
        self.bytes.reserve(LONG);
    }

    /// Makes it long for good, since a datagram was cut.
    pub(super) fn lengthen_for_good(&mut self) {
        self.lengthen();
        self.usual = self.bytes.capacity();
    }
}
