//! A session's socket: it sends, receives until an end, and is replaced once it has failed.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Limits;
use super::buffer::ReceiveBuffer;
use crate::error::Cause;
use crate::protocol::{Answer, AnswerError, Exchange, Heard};
use crate::transport::{AsyncTransport, Received};
use crate::uapi::Errno;

/// The number of parts from which on a dump counts as long.
const LONG_DUMP: usize = 64;

pub(super) struct SessionSocket {
    pub(super) transport: Box<dyn AsyncTransport>,
    pub(super) limits: Limits,
    incoming: ReceiveBuffer,
    /// A dump whose end was not read yet. The kernel runs one dump at a time on a socket: before
    /// the next, this dump is read to its end, or left behind with its socket.
    pub(super) unfinished_dump: Option<Exchange>,
    /// The socket has failed, and the next request starts on a fresh one.
    pub(super) broken: bool,
    /// A window was sent and its answers were not yet read to their end. If the window's future was
    /// dropped, the next request starts on a fresh socket, since the answers would take the room of
    /// the next window's answers.
    pub(super) has_window_out: bool,
    /// Whether something was sent since other tasks of the executor had a turn.
    has_sent: bool,
}

impl SessionSocket {
    pub(super) fn new(transport: Box<dyn AsyncTransport>, limits: Limits) -> Self {
        Self {
            transport,
            limits,
            incoming: ReceiveBuffer::new(),
            unfinished_dump: None,
            broken: false,
            has_window_out: false,
            has_sent: false,
        }
    }

    /// Whether the next request has to start on a fresh socket.
    pub(super) fn is_spent(&self) -> bool {
        self.broken || self.has_window_out
    }

    /// Opens a spent socket anew, and leaves behind all data of the old one.
    pub(super) fn replace_spent(&mut self) -> Result<(), Cause> {
        if self.is_spent() {
            self.transport.reopen().map_err(Cause::not_sent)?;
            (self.broken, self.has_window_out) = (false, false);
            self.unfinished_dump = None;
        }
        Ok(())
    }

    /// Goes back to short parts after a long dump, on a fresh socket that has received no long
    /// part.
    pub(super) fn return_to_short_parts(&mut self) {
        if self.incoming.is_for_a_long_dump() && self.transport.reopen().is_ok() {
            self.incoming.shorten();
        }
    }

    pub(super) async fn send(&mut self, datagram: &[u8]) -> Result<(), Cause> {
        // The kernel works inside the send, and its answer is ready at once: without this, a long
        // conversation would block the executor from its first send to its last.
        if self.has_sent {
            self.let_others_run().await;
        }
        // An earlier window of the batch may have spent the socket.
        self.replace_spent()?;
        let mut is_reopened = false;
        loop {
            match poll_fn(|context| self.transport.poll_send(context, datagram)).await {
                Ok(()) => {
                    self.has_sent = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.broken = true;
                    if is_reopened || error.kind() != io::ErrorKind::NotConnected {
                        return Err(Cause::not_sent(error));
                    }
                    self.replace_spent()?;
                    is_reopened = true;
                }
            }
        }
    }

    /// Gives the executor's other tasks a turn, if there is an executor.
    pub(super) async fn let_others_run(&mut self) {
        let mut is_over = !self.limits.yields;
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

    /// Receives until `hear` has heard the end, or until the kernel was silent for `patience`. A
    /// datagram that means nothing to `hear` does not prolong the wait.
    pub(super) async fn receive_until_end<E: Into<Cause>>(
        &mut self,
        patience: Duration,
        heard: Option<Exchange>,
        mut hear: impl FnMut(&[u8]) -> Result<Heard, E>,
    ) -> Result<(), Cause> {
        let mut deadline = self.deadline(patience);
        let mut parts = 0;
        loop {
            self.receive(deadline).await?;
            if heard != self.unfinished_dump {
                self.look_for_end_of_dump();
            }
            match hear(&self.incoming.bytes).map_err(Into::into)? {
                Heard::End => return Ok(()),
                Heard::Nothing => {}
                Heard::More => {
                    deadline = self.deadline(patience);
                    parts += 1;
                    if parts == LONG_DUMP && self.unfinished_dump.is_some() {
                        self.incoming.lengthen();
                    }
                }
            }
        }
    }

    /// Forgets the unfinished dump, if this datagram has its end.
    fn look_for_end_of_dump(&mut self) {
        let Some(dump) = self.unfinished_dump else { return };
        let heard = dump.hear(&self.incoming.bytes, &mut |_: Answer<'_>| Ok(()));
        if let Ok(Heard::End) | Err(AnswerError::Kernel { .. }) = heard {
            self.unfinished_dump = None;
        }
    }

    /// The time at which the kernel will have been silent for too long.
    fn deadline(&self, patience: Duration) -> Instant {
        // If the clock cannot represent the end of such a long wait, use some decades.
        const FOREVER: Duration = Duration::from_secs(1 << 30);
        let now = self.transport.now();
        now.checked_add(patience).unwrap_or_else(|| now + FOREVER)
    }

    /// Receives a datagram into `incoming`.
    async fn receive(&mut self, deadline: Instant) -> Result<(), Cause> {
        loop {
            let Self { transport, incoming: ReceiveBuffer { bytes, .. }, .. } = self;
            bytes.clear();
            let received =
                poll_fn(|context| transport.poll_receive(context, bytes, deadline)).await;
            return match received {
                Ok(Received::Whole) => Ok(()),
                Ok(Received::Truncated) => {
                    let cause = Cause::Truncated(bytes.capacity());
                    self.incoming.lengthen_for_good();
                    Err(cause)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    Err(Cause::TimedOut(self.limits.timeout))
                }
                Err(error) if Errno::of(&error) == Some(Errno::NOBUFS) => {
                    Err(AnswerError::Lost.into())
                }
                Err(error) => {
                    self.broken = true;
                    Err(Cause::socket(error))
                }
            };
        }
    }
}
