//! A socket that counts its sends and receives.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ipvs_netlink::transport::{NetlinkSocket, Received, Transport};

/// How often a socket has sent and received.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    sends: AtomicUsize,
    receives: AtomicUsize,
}

impl Calls {
    /// The numbers of sends and receives since the last call.
    pub(crate) fn take(&self) -> (usize, usize) {
        (self.sends.swap(0, Ordering::Relaxed), self.receives.swap(0, Ordering::Relaxed))
    }
}

/// A netlink socket whose calls are counted.
pub(crate) struct Counting {
    socket: NetlinkSocket,
    calls: Arc<Calls>,
}

impl Counting {
    pub(crate) fn open(calls: Arc<Calls>) -> io::Result<Self> {
        Ok(Self { socket: NetlinkSocket::open()?, calls })
    }
}

impl Transport for Counting {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.calls.sends.fetch_add(1, Ordering::Relaxed);
        self.socket.send(datagram)
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received> {
        self.calls.receives.fetch_add(1, Ordering::Relaxed);
        self.socket.receive(buffer, deadline)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.socket.reopen()
    }

    fn receive_capacity(&self) -> usize {
        self.socket.receive_capacity()
    }

    fn send_capacity(&self) -> usize {
        self.socket.send_capacity()
    }
}
