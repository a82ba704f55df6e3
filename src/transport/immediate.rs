//! A blocking transport in the place of an asynchronous one: it waits inside the poll.

use std::future::ready;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use super::{AsyncTransport, Received, Sleep, Transport};

/// Waits inside the poll, so that futures over it are ready when polled once.
pub(crate) struct Immediate<T>(pub(crate) T);

impl<T: Transport> AsyncTransport for Immediate<T> {
    fn poll_send(&mut self, _: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.send(datagram))
    }

    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        deadline: Instant,
    ) -> Poll<io::Result<Received>> {
        Poll::Ready(self.0.receive(buffer, deadline))
    }

    fn sleep(&mut self, until: Instant) -> Sleep {
        self.0.sleep(until);
        Box::pin(ready(Ok(())))
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.0.reopen()
    }

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn receive_capacity(&self) -> usize {
        self.0.receive_capacity()
    }

    fn send_capacity(&self) -> usize {
        self.0.send_capacity()
    }
}
