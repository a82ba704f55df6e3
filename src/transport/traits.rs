//! A client's connection to the kernel: a trait for each kind of client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::uapi::netlink::{DEFAULT_BUFFER, SEND_OVERHEAD};

/// A blocking client's connection to the kernel.
///
/// Datagrams are whole: a send takes a whole one, a receive returns a whole one.
///
/// Later versions may add methods, each with a default.
pub trait Transport: Send {
    /// Sends a datagram.
    ///
    /// # Errors
    /// The system's error.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// Waits for a datagram until the deadline, and puts it into the buffer's spare capacity.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] past the deadline; the system's error otherwise. After the
    /// kernel has dropped datagrams the error is, once, `ENOBUFS`:
    /// [`Errno::NOBUFS`](crate::Errno::NOBUFS) as an [`io::Error`], which is the same on every
    /// system.
    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received>;

    /// Sleeps until that time.
    fn sleep(&mut self, until: Instant) {
        std::thread::sleep(until.saturating_duration_since(self.now()));
    }

    /// Starts anew on a fresh connection, without any data of the old one.
    ///
    /// # Errors
    /// The system's error.
    fn reopen(&mut self) -> io::Result<()>;

    /// The present time, by the clock of the deadlines.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// How many bytes of answers the kernel keeps until they are received, by its own count: an
    /// error takes 768 to 1,536, by kernel and architecture.
    fn receive_capacity(&self) -> usize {
        DEFAULT_BUFFER
    }

    /// The longest datagram that can be sent, in bytes.
    fn send_capacity(&self) -> usize {
        DEFAULT_BUFFER - SEND_OVERHEAD
    }
}

/// How a datagram was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// Whole.
    Whole,
    /// The datagram was longer than the buffer, and its end is lost.
    Truncated,
}

/// A wait of an [`AsyncTransport`]. It fails if the timers have ended with their runtime.
pub type Sleep = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// An asynchronous client's connection to the kernel: [`Transport`], polled.
///
/// Later versions may add methods, each with a default.
pub trait AsyncTransport: Send {
    /// Sends a datagram, as [`Transport::send`] does.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] if the connection has ended and nothing was sent: the client
    /// opens the connection anew and sends again at once. The system's error otherwise.
    fn poll_send(&mut self, context: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>>;

    /// Receives a datagram, as [`Transport::receive`] does.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        deadline: Instant,
    ) -> Poll<io::Result<Received>>;

    /// A future that is ready at that time. It does not borrow the transport, which others can use
    /// meanwhile.
    fn sleep(&mut self, until: Instant) -> Sleep;

    /// Starts anew, as [`Transport::reopen`] does.
    ///
    /// # Errors
    /// The system's error.
    fn reopen(&mut self) -> io::Result<()>;

    /// The present time, by the clock of the deadlines.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// How many bytes of answers the kernel keeps until they are received, by its own count: an
    /// error takes 768 to 1,536, by kernel and architecture.
    fn receive_capacity(&self) -> usize {
        DEFAULT_BUFFER
    }

    /// The longest datagram that can be sent, in bytes.
    fn send_capacity(&self) -> usize {
        DEFAULT_BUFFER - SEND_OVERHEAD
    }
}
