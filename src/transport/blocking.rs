//! The kernel's netlink, over `netlink-sys`, for the blocking client.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_GENERIC;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, sockopt};

use super::{Received, SocketOrigin, Transport};
use crate::uapi::netlink::{DEFAULT_BUFFER, SEND_OVERHEAD};

/// A generic-netlink socket that speaks with the kernel alone.
#[derive(Debug)]
pub struct NetlinkSocket {
    // `Socket` is `Clone`, and both copies close the descriptor: it never leaves this field.
    socket: Socket,
    origin: SocketOrigin,
}

impl NetlinkSocket {
    /// Opens a socket in the caller's network namespace.
    ///
    /// # Errors
    /// The system's error.
    pub fn open() -> io::Result<Self> {
        Self::from_origin(SocketOrigin::default())
    }

    pub(crate) fn from_origin(origin: SocketOrigin) -> io::Result<Self> {
        let mut socket = origin.make(|| Socket::new(NETLINK_GENERIC))?;
        origin.configure(&mut socket)?;
        Ok(Self { socket, origin })
    }
}

/// Receives a datagram that has arrived; [`io::ErrorKind::WouldBlock`] if none has.
///
/// The kernel answers inside the send: nearly always an answer has arrived, and receiving takes one
/// system call.
pub(super) fn receive_now(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<Received> {
    // With `TRUNC` the call returns the datagram's length even if the buffer is too small.
    const FLAGS: RecvFlags = RecvFlags::DONTWAIT.union(RecvFlags::TRUNC);
    let before = buffer.len();
    let length = socket.recv(buffer, FLAGS.bits().cast_signed())?;
    let whole = length <= buffer.len() - before;
    Ok(if whole { Received::Whole } else { Received::Truncated })
}

/// The size of a socket's receive buffer, as the kernel counts it.
pub(super) fn receive_capacity(socket: &Socket) -> usize {
    sockopt::socket_recv_buffer_size(socket).unwrap_or(DEFAULT_BUFFER)
}

/// The longest datagram that a socket sends.
pub(super) fn send_capacity(socket: &Socket) -> usize {
    sockopt::socket_send_buffer_size(socket).unwrap_or(DEFAULT_BUFFER).saturating_sub(SEND_OVERHEAD)
}

impl Transport for NetlinkSocket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram, 0).map(drop)
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received> {
        loop {
            match receive_now(&self.socket, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
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
        *self = Self::from_origin(self.origin.clone())?;
        Ok(())
    }

    fn receive_capacity(&self) -> usize {
        receive_capacity(&self.socket)
    }

    fn send_capacity(&self) -> usize {
        send_capacity(&self.socket)
    }
}
