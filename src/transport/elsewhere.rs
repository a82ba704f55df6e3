//! Sockets on systems other than Linux: they have the same names, and opening one fails.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::time::Instant;

#[cfg(any(feature = "tokio", feature = "smol"))]
use super::Immediate;
use super::{Received, Transport};

/// A generic-netlink socket, which only Linux has: on this system [`open`](Self::open) fails.
#[derive(Debug)]
pub struct NetlinkSocket(Infallible);

impl NetlinkSocket {
    /// Fails: this system has no such sockets.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`].
    pub fn open() -> io::Result<Self> {
        Self::from_origin(SocketOrigin)
    }

    pub(crate) fn from_origin(_: SocketOrigin) -> io::Result<Self> {
        Err(crate::namespace::unsupported())
    }
}

impl Transport for NetlinkSocket {
    fn send(&mut self, _: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    fn receive(&mut self, _: &mut Vec<u8>, _: Instant) -> io::Result<Received> {
        match self.0 {}
    }

    fn reopen(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}

#[cfg(any(feature = "tokio", feature = "smol"))]
impl Immediate<NetlinkSocket> {
    pub(crate) fn from_origin(origin: SocketOrigin) -> io::Result<Self> {
        NetlinkSocket::from_origin(origin).map(Self)
    }
}

/// The origin of sockets, which this system does not have.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SocketOrigin;

impl SocketOrigin {
    // As on Linux, where the namespace may not exist.
    #[allow(clippy::unnecessary_wraps)]
    pub(crate) fn new(_: Option<&Path>, _: Option<usize>, _: Option<usize>) -> io::Result<Self> {
        Ok(Self)
    }
}
