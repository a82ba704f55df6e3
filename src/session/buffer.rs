//! The buffer that receives datagrams.

/// The usual size, 4 KiB and a byte. The kernel makes the parts of a dump as long as the longest
/// buffer that the socket has received into, up to 32,448 bytes. On kernels that clear the memory
/// that they hand out, as Debian's do, longer parts would take more than half of the time of short
/// dumps. The additional byte tells a whole part of 4 KiB from one that was cut.
const SHORT: usize = 4096 + 1;
/// The size for long dumps, since for each part the kernel walks over all entries before it. It is
/// also the size once a part was cut, which happens on machines with pages of more than 4 KiB.
const LONG: usize = 64 * 1024;

/// A buffer that is short, becomes long for a long dump, and stays long once a datagram was cut.
pub(super) struct ReceiveBuffer {
    pub(super) bytes: Vec<u8>,
    /// The capacity outside of long dumps.
    usual: usize,
}

impl ReceiveBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(SHORT), usual: SHORT }
    }

    /// Whether the buffer is long for a dump, and not for good.
    pub(super) fn is_for_a_long_dump(&self) -> bool {
        self.bytes.capacity() > self.usual
    }

    /// Goes back to the usual size.
    pub(super) fn shorten(&mut self) {
        self.bytes = Vec::with_capacity(self.usual);
    }

    /// Makes the buffer long for the rest of a dump.
    pub(super) fn lengthen(&mut self) {
        self.bytes.clear();
        self.bytes.reserve(LONG);
    }

    /// Makes the buffer long for good, since a datagram was cut.
    pub(super) fn lengthen_for_good(&mut self) {
        self.lengthen();
        self.usual = self.bytes.capacity();
    }
}
