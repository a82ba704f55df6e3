//! One exchange: a request, and all that the kernel answers.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{Session, trace};
use crate::error::{Cause, Error};
use crate::protocol::{Answer, Exchange, Progress, Request, family_id};
use crate::transport::Received;
use crate::wire::{Command, DecodeError};

/// The size of the receive buffer, and so of the parts of a dump: the kernel makes them as long as
/// the longest buffer that a socket has received into, up to 32,448 bytes. Where it clears the
/// memory that it hands out, as Debian's does, longer parts cost more than half of the time of
/// short dumps. The byte more tells a whole part of 4 KiB from one that was cut.
pub(super) const RECEIVE_BUFFER: usize = 4096 + 1;
/// Its size for long dumps, since for each part the kernel walks over all that came before; and
/// once a part was cut, as it is where a page has more than 4 KiB.
const LARGE_RECEIVE_BUFFER: usize = 64 * 1024;
/// From so many parts on a dump is long.
const LONG_DUMP: usize = 64;

/// The kernel's number both for what a request is about and for a family that is not there.
pub(super) const NOT_THERE: i32 = Errno::NOENT.raw_os_error();

impl Session {
    /// Asks the kernel for the number of the family, so that a missing one shows at once.
    pub(crate) async fn resolve_family(&mut self) -> Result<(), Error> {
        let mut family = None;
        let mut each = |answer: Answer<'_>| {
            family = Some(family_id(answer.attributes)?);
            Ok(())
        };
        let outcome = self.exchange_once(Request::Family, &mut each).await;
        if outcome.is_ok() && family.is_none() {
            return Err(Error::new(Request::Family, Cause::NoAnswer));
        }
        self.engine.set_family(family);
        self.module = family.or(self.module);
        outcome.map_err(|cause| {
            let missing = matches!(&cause, Cause::Kernel { errno, .. } if *errno == NOT_THERE);
            Error::new(Request::Family, if missing { Cause::NoIpvs } else { cause })
        })
    }

    /// An exchange whose answer is one message.
    pub(super) async fn ask<T: Send>(
        &mut self,
        request: Request,
        decode: impl FnMut(Command, &[u8]) -> Result<T, DecodeError> + Send,
    ) -> Result<T, Error> {
        let answers = self.list(request, decode).await?;
        answers.into_iter().next_back().ok_or_else(|| Error::new(request, Cause::NoAnswer))
    }

    /// An exchange whose answer is any number of messages.
    pub(super) async fn list<T: Send>(
        &mut self,
        request: Request,
        mut decode: impl FnMut(Command, &[u8]) -> Result<T, DecodeError> + Send,
    ) -> Result<Vec<T>, Error> {
        let mut answers = Vec::new();
        loop {
            let before = self.receive_buffer;
            let outcome = self.exchange(request, |Answer { command, attributes, more }| {
                let command = command.try_into()?;
                trace::received(command, attributes);
                if answers.len() == answers.capacity() {
                    answers.reserve(1 + more);
                }
                answers.push(decode(command, attributes)?);
                Ok(())
            });
            match outcome.await {
                // What was cut is asked for again, into a larger buffer.
                Err(_) if self.receive_buffer > before => answers.clear(),
                outcome => return outcome.map(|()| answers),
            }
        }
    }

    /// Sends a request and takes its answers, until the kernel says that this was all.
    pub(super) async fn exchange(
        &mut self,
        request: Request,
        mut each: impl FnMut(Answer<'_>) -> Result<(), DecodeError> + Send,
    ) -> Result<(), Error> {
        let conversation = self.converse(request, &mut each);
        trace::in_span(&request, conversation).await.inspect_err(trace::failed)
    }

    async fn converse(
        &mut self,
        request: Request,
        each: &mut (impl FnMut(Answer<'_>) -> Result<(), DecodeError> + Send),
    ) -> Result<(), Error> {
        if !self.is_prepared() {
            self.prepare(request).await?;
        }
        let mut outcome = self.exchange_once(request, each).await;
        if let Err(Cause::Kernel { errno, .. }) = outcome
            && errno == NOT_THERE
            && self.family_has_changed().await?
        {
            outcome = self.exchange_once(request, each).await;
        }
        outcome.map_err(|cause| Error::new(request, cause))
    }

    /// Whether the socket works and the family's number is known, as they mostly do.
    pub(super) fn is_prepared(&self) -> bool {
        !self.broken && self.engine.family().is_some()
    }

    /// Makes sure of a socket that works and of the family's number.
    pub(super) async fn prepare(&mut self, request: Request) -> Result<(), Error> {
        self.replace_broken().map_err(|cause| Error::new(request, cause))?;
        if self.engine.family().is_none() {
            self.resolve_family().await?;
        }
        Ok(())
    }

    /// Opens a socket that has failed anew, and leaves behind what it still held.
    fn replace_broken(&mut self) -> Result<(), Cause> {
        if self.broken {
            self.transport.reopen().map_err(Cause::NotSent)?;
            self.broken = false;
            self.unfinished_dump = None;
        }
        Ok(())
    }

    /// Asks for the family's number anew, and tells whether it is another: the module was unloaded
    /// and loaded in between.
    pub(super) async fn family_has_changed(&mut self) -> Result<bool, Error> {
        let before = self.engine.family();
        self.engine.set_family(None);
        self.resolve_family().await?;
        Ok(self.engine.family() != before)
    }

    async fn exchange_once(
        &mut self,
        request: Request,
        each: &mut (impl FnMut(Answer<'_>) -> Result<(), DecodeError> + Send),
    ) -> Result<(), Cause> {
        if request.is_dump() {
            self.leave_unfinished_dump().await?;
            self.return_to_short_parts();
        }
        let exchange = self.engine.begin(&request);
        trace::sent(&request);
        self.send().await?;
        // Not before: one that is dropped before its send has no end to be read.
        if exchange.is_dump() {
            self.unfinished_dump = Some(exchange);
        }
        self.receive_all(exchange, each).await
    }

    /// Goes back to short parts after a long dump: on a fresh socket, which has received none.
    fn return_to_short_parts(&mut self) {
        if self.incoming.capacity() > self.receive_buffer && self.transport.reopen().is_ok() {
            self.incoming = Vec::with_capacity(self.receive_buffer);
        }
    }

    /// Reads a dump that an earlier exchange did not wait for to its end.
    async fn leave_unfinished_dump(&mut self) -> Result<(), Cause> {
        let Some(dump) = self.unfinished_dump else { return Ok(()) };
        match self.receive_all(dump, &mut |_| Ok(())).await {
            Ok(()) | Err(Cause::Kernel { .. }) => {}
            Err(_) => {
                self.broken = true;
                self.replace_broken()?;
            }
        }
        self.unfinished_dump = None;
        Ok(())
    }

    pub(super) async fn send(&mut self) -> Result<(), Cause> {
        // The kernel works inside the send and its answer is there at once: without this, a long
        // conversation would hold the executor from its first send to its last.
        if self.has_sent {
            self.let_others_run().await;
        }
        // A window of a batch before this one may have broken it.
        self.replace_broken()?;
        let mut is_reopened = false;
        loop {
            let Self { transport, engine, .. } = self;
            match poll_fn(|context| transport.poll_send(context, engine.outgoing())).await {
                Ok(()) => {
                    self.has_sent = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.broken = true;
                    if is_reopened || error.kind() != io::ErrorKind::NotConnected {
                        return Err(Cause::NotSent(error));
                    }
                    self.replace_broken()?;
                    is_reopened = true;
                }
            }
        }
    }

    /// Gives the executor's other tasks their turn, where there is an executor.
    pub(super) async fn let_others_run(&mut self) {
        let mut is_over = !self.conversation.yields;
        self.has_sent = false;
        poll_fn(|context| {
            if std::mem::replace(&mut is_over, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// When the kernel will have been silent for too long.
    pub(super) fn deadline(&self) -> Instant {
        // So long that nobody waits for it, where the clock cannot tell the end.
        const FOREVER: Duration = Duration::from_secs(1 << 30);
        let now = self.transport.now();
        now.checked_add(self.conversation.deadline).unwrap_or_else(|| now + FOREVER)
    }

    /// Receives until the exchange has ended, for as long as the kernel keeps answering it.
    async fn receive_all(
        &mut self,
        exchange: Exchange,
        each: &mut (impl FnMut(Answer<'_>) -> Result<(), DecodeError> + Send),
    ) -> Result<(), Cause> {
        let mut deadline = self.deadline();
        let mut parts = 0;
        loop {
            self.receive(deadline).await?;
            let progress = exchange.absorb(&self.incoming, &mut *each);
            match progress {
                Ok(Progress::None) => {}
                Ok(Progress::Some) => {
                    deadline = self.deadline();
                    parts += 1;
                    if parts == LONG_DUMP {
                        self.incoming.clear();
                        self.incoming.reserve(LARGE_RECEIVE_BUFFER);
                    }
                }
                // After its word on a dump the kernel says no more.
                Ok(Progress::Finished) | Err(Cause::Kernel { .. }) => {
                    self.unfinished_dump.take_if(|dump| *dump == exchange);
                    return progress.map(drop);
                }
                Err(cause) => return Err(cause),
            }
        }
    }

    /// Receives a datagram into `incoming`.
    pub(super) async fn receive(&mut self, deadline: Instant) -> Result<(), Cause> {
        loop {
            self.incoming.clear();
            let Self { transport, incoming, .. } = self;
            let received =
                poll_fn(|context| transport.poll_receive(context, incoming, deadline)).await;
            return match received {
                Ok(Received::Whole) => Ok(()),
                Ok(Received::Truncated) => {
                    let text = format!("a datagram of more than {} bytes", incoming.capacity());
                    incoming.clear();
                    incoming.reserve(LARGE_RECEIVE_BUFFER);
                    self.receive_buffer = incoming.capacity();
                    Err(DecodeError::Framing(text).into())
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    Err(Cause::TimedOut(self.conversation.deadline))
                }
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    Err(Cause::Lost)
                }
                Err(error) => {
                    self.broken = true;
                    Err(Cause::Socket(error))
                }
            };
        }
    }
}
