//! The kernel's netlink for asynchronous clients, over `netlink-sys`'s sockets for a reactor.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use netlink_sys::AsyncSocket;

use super::blocking::{receive_capacity, receive_now, send_capacity};
use super::{AsyncTransport, Received, Sleep, SocketOrigin};

/// The parts of a reactor, such as tokio's, that a socket needs.
pub(crate) trait Reactor: Sized + Send + 'static {
    type Socket: AsyncSocket + Send;

    /// The reactor of the caller.
    fn current() -> io::Result<Self>;
    /// Opens a socket on this reactor or, once this reactor has ended, on the caller's, and stays
    /// with that one.
    fn socket(&mut self, origin: &SocketOrigin) -> io::Result<Self::Socket>;
    /// Waits until that time, on whichever executor the future is polled.
    fn timer(&self, until: Instant) -> Sleep;
    /// The error of an operation that waited when this reactor ended; says what to do.
    fn explained(error: io::Error) -> io::Error;
}

/// A generic-netlink socket on a reactor.
pub(crate) struct Evented<R: Reactor> {
    reactor: R,
    socket: R::Socket,
    origin: SocketOrigin,
    /// The timer, which runs while a receive waits.
    timer: Option<(Instant, Sleep)>,
}

impl<R: Reactor> Evented<R> {
    pub(crate) fn from_origin(origin: SocketOrigin) -> io::Result<Self> {
        let mut reactor = R::current()?;
        let socket = open(&mut reactor, &origin)?;
        Ok(Self { reactor, socket, origin, timer: None })
    }
}

fn open<R: Reactor>(reactor: &mut R, origin: &SocketOrigin) -> io::Result<R::Socket> {
    let mut socket = reactor.socket(origin)?;
    origin.configure(socket.socket_mut())?;
    Ok(socket)
}

/// Whether an error comes from a reactor that has ended, and not from the system.
pub(super) fn is_of_the_reactor(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
}

impl<R: Reactor> AsyncTransport for Evented<R> {
    fn poll_send(&mut self, context: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>> {
        match ready!(self.socket.poll_send(context, datagram)) {
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) if is_of_the_reactor(&error) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::NotConnected, error)))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        deadline: Instant,
    ) -> Poll<io::Result<Received>> {
        match receive_now(self.socket.socket_ref(), buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => {
                self.timer = None;
                return Poll::Ready(outcome);
            }
        }
        if let Poll::Ready(outcome) = self.socket.poll_recv(context, buffer) {
            self.timer = None;
            // If the buffer is full, the datagram may have been cut: `netlink-sys` does not tell
            // its length.
            let whole = buffer.len() < buffer.capacity();
            let received = if whole { Received::Whole } else { Received::Truncated };
            return Poll::Ready(outcome.map(|()| received).map_err(R::explained));
        }
        if self.timer.as_ref().is_none_or(|(running, _)| *running != deadline) {
            self.timer = Some((deadline, self.reactor.timer(deadline)));
        }
        let Some((_, timer)) = &mut self.timer else { return Poll::Pending };
        let waited = ready!(timer.as_mut().poll(context));
        self.timer = None;
        Poll::Ready(waited.and(Err(io::ErrorKind::TimedOut.into())))
    }

    fn sleep(&mut self, until: Instant) -> Sleep {
        self.reactor.timer(until)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.socket = open(&mut self.reactor, &self.origin)?;
        self.timer = None;
        Ok(())
    }

    fn receive_capacity(&self) -> usize {
        receive_capacity(self.socket.socket_ref())
    }

    fn send_capacity(&self) -> usize {
        send_capacity(self.socket.socket_ref())
    }
}
