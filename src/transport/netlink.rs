//! The kernel's netlink, over `netlink-sys`.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;

use super::{Received, Transport};

/// A generic-netlink socket that speaks with the kernel alone.
#[derive(Debug)]
pub struct NetlinkSocket {
    // `Socket` is `Clone`, and both copies close the descriptor: it never leaves this field.
    socket: Socket,
}

impl NetlinkSocket {
    /// Opens a socket in the caller's network namespace.
    ///
    /// # Errors
    /// The system's error.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        // Connected, the socket takes datagrams from no other process.
        socket.connect(&SocketAddr::new(0, 0))?;
        // Kernels before 4.12 and 4.3 know neither, and do without.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket })
    }
}

/// `MSG_DONTWAIT` lets a receive that has something to bring take one system call; `MSG_TRUNC`
/// makes it tell the datagram's length where the buffer is too small.
const RECEIVE_FLAGS: RecvFlags = RecvFlags::DONTWAIT.union(RecvFlags::TRUNC);

impl Transport for NetlinkSocket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram, 0).map(drop)
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received> {
        let before = buffer.len();
        loop {
            match self.socket.recv(buffer, RECEIVE_FLAGS.bits().cast_signed()) {
                Ok(length) if length > buffer.len() - before => return Ok(Received::Truncated),
                Ok(_) => return Ok(Received::Whole),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let left = deadline
                .checked_duration_since(Instant::now())
                .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
            let left = Timespec::try_from(left).ok();
            let mut ready = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
            poll(&mut ready, left.as_ref())?;
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open()?;
        Ok(())
    }
}
