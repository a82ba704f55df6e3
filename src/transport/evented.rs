//! The kernel's netlink for asynchronous clients, over `netlink-sys`'s sockets for a reactor.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use netlink_sys::AsyncSocket;

use super::netlink::{receive_capacity, receive_now, send_capacity};
use super::{AsyncTransport, Origin, Received};

/// What tells one reactor from another.
pub(crate) trait Reactor: Send + 'static {
    type Socket: AsyncSocket + Send;
    type Timer: Future + Send;

    fn socket(origin: &Origin) -> io::Result<Self::Socket>;
    fn timer(deadline: Instant) -> Self::Timer;
}

/// A generic-netlink socket on a reactor.
pub(crate) struct Evented<R: Reactor> {
    socket: R::Socket,
    origin: Origin,
    /// Runs while a receive waits, or a conversation sleeps.
    timer: Option<(Instant, Pin<Box<R::Timer>>)>,
    /// Whether the executor had its turn since the last send.
    yielded: bool,
}

impl<R: Reactor> Evented<R> {
    pub(crate) fn from_origin(origin: Origin) -> io::Result<Self> {
        let mut socket = R::socket(&origin)?;
        origin.configure(socket.socket_mut())?;
        Ok(Self { socket, origin, timer: None, yielded: true })
    }
}

impl<R: Reactor> AsyncTransport for Evented<R> {
    fn poll_send(&mut self, context: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>> {
        // The kernel works inside the send and its answer is there at once: without this, a batch
        // would hold the executor from its first window to its last.
        if !std::mem::replace(&mut self.yielded, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.socket.poll_send(context, datagram))?;
        self.yielded = false;
        Poll::Ready(Ok(()))
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
            // It does not tell the length of a datagram that was longer.
            let whole = buffer.len() < buffer.capacity();
            let received = if whole { Received::Whole } else { Received::Truncated };
            return Poll::Ready(outcome.map(|()| received));
        }
        ready!(self.poll_sleep(context, deadline));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_sleep(&mut self, context: &mut Context<'_>, until: Instant) -> Poll<()> {
        if self.timer.as_ref().is_none_or(|(running, _)| *running != until) {
            self.timer = Some((until, Box::pin(R::timer(until))));
        }
        if let Some((_, timer)) = &mut self.timer {
            ready!(timer.as_mut().poll(context));
        }
        self.timer = None;
        Poll::Ready(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        *self = Self::from_origin(self.origin.clone())?;
        Ok(())
    }

    fn receive_capacity(&self) -> usize {
        receive_capacity(self.socket.socket_ref())
    }

    fn send_capacity(&self) -> usize {
        send_capacity(self.socket.socket_ref())
    }
}
