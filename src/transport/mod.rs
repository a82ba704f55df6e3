//! Sockets: two small traits of our own, and what implements them over the kernel's netlink.

mod blocking;
#[cfg(any(feature = "tokio", feature = "smol"))]
mod evented;
mod netlink;
mod origin;
#[cfg(feature = "smol")]
mod smol;
#[cfg(feature = "tokio")]
mod tokio;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

pub(crate) use blocking::Immediate;
pub use netlink::NetlinkSocket;
pub(crate) use origin::Origin;

#[cfg(feature = "smol")]
pub(crate) type SmolTransport = evented::Evented<smol::Smol>;
#[cfg(feature = "tokio")]
pub(crate) type TokioTransport = evented::Evented<tokio::Tokio>;

/// The size of a socket's buffers unless the system was told otherwise.
const DEFAULT_CAPACITY: usize = 212_992;
/// What of the send buffer a datagram cannot have.
const SEND_OVERHEAD: usize = 32;

/// What a blocking client needs of a connection to the kernel.
///
/// Datagrams are whole: a send takes all of one, a receive gives all of one.
pub trait Transport: Send {
    /// Sends a datagram.
    ///
    /// # Errors
    /// The system's error.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// Waits for a datagram until the deadline, and puts it into the buffer's spare capacity.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] past the deadline; the system's error otherwise, among them
    /// `ENOBUFS` once where the kernel has dropped datagrams.
    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received>;

    /// Sleeps until then.
    fn sleep(&mut self, until: Instant) {
        std::thread::sleep(until.saturating_duration_since(self.now()));
    }

    /// Starts anew on a fresh connection, without what the old one still held.
    ///
    /// # Errors
    /// The system's error.
    fn reopen(&mut self) -> io::Result<()>;

    /// The time, by the clock that deadlines go by.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// How many bytes of answers the kernel keeps until they are received, by its own count: an
    /// error takes 768 to 1,536, by kernel and architecture.
    fn receive_capacity(&self) -> usize {
        DEFAULT_CAPACITY
    }

    /// The longest datagram that can be sent, in bytes.
    fn send_capacity(&self) -> usize {
        DEFAULT_CAPACITY - SEND_OVERHEAD
    }
}

/// How a datagram was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Whole.
    Whole,
    /// The datagram was longer than the buffer, and its end is lost.
    Truncated,
}

/// A wait of an [`AsyncTransport`]. It fails where nothing is left that keeps time.
pub type Sleep = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// What an asynchronous client needs of a connection to the kernel: [`Transport`], polled.
pub trait AsyncTransport: Send {
    /// Sends a datagram, as [`Transport::send`] does.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] where the connection has ended and nothing was sent: the
    /// client opens it anew and sends again at once. The system's error otherwise.
    fn poll_send(&mut self, context: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>>;

    /// Receives a datagram, as [`Transport::receive`] does.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        deadline: Instant,
    ) -> Poll<io::Result<Received>>;

    /// A future that is ready then. It does not borrow the transport, so that others use it meanwhile.
    fn sleep(&mut self, until: Instant) -> Sleep;

    /// Starts anew, as [`Transport::reopen`] does.
    ///
    /// # Errors
    /// The system's error.
    fn reopen(&mut self) -> io::Result<()>;

    /// The time, by the clock that deadlines go by.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// How many bytes of answers the kernel keeps until they are received, by its own count: an
    /// error takes 768 to 1,536, by kernel and architecture.
    fn receive_capacity(&self) -> usize {
        DEFAULT_CAPACITY
    }

    /// The longest datagram that can be sent, in bytes.
    fn send_capacity(&self) -> usize {
        DEFAULT_CAPACITY - SEND_OVERHEAD
    }
}
