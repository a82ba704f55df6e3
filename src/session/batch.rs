//! Batches: windows of operations, one after the other.

use std::ops::ControlFlow;
use std::time::Duration;

use super::asking::NOT_THERE;
use super::{Session, trace};
use crate::error::{Cause, Error};
use crate::protocol::{AnswerError, Filling, LONGEST_MESSAGE, Operation, Request};
use crate::results::Results;

/// The most bytes in a window: a longer window gains nothing, and the send buffer limits a send.
const WINDOW_BYTES: usize = 64 * 1024;
/// The bytes that the last operation of a window may take, with the question that follows it.
const LAST_BYTES: usize = 2 * LONGEST_MESSAGE;
/// The bytes of the receive buffer that are reserved for each error. An error takes 768 to 1,536 by
/// the kernel's count, by kernel and architecture. Reserving more than an error takes does no harm:
/// from 32 operations on, a longer window gains nothing.
const ROOM_OF_AN_ERROR: usize = 2048;

/// The settings of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BatchOptions {
    /// Whether to take and send no more operations once one has failed.
    pub stop_at_first_error: bool,
    /// Whether to send without [`Operation::check`], which would refuse to restore some services
    /// that a kernel held.
    pub(crate) unchecked: bool,
}

impl BatchOptions {
    /// Sends operations of a ruleset, which was checked when it was filled.
    pub(crate) fn unchecked() -> Self {
        Self { unchecked: true, ..Self::default() }
    }

    /// Whether to take and send no more operations once one has failed.
    ///
    /// The kernel runs all operations of one send: those that were sent along with the failed one
    /// are done, and their results say this. Operations that were not taken have no result.
    #[must_use]
    pub fn stop_at_first_error(self, stop_at_first_error: bool) -> Self {
        Self { stop_at_first_error, ..self }
    }
}

/// A batch under way.
struct Batch<I> {
    operations: I,
    options: BatchOptions,
    /// The most operations in a window, and the number of bytes from which on it takes no more.
    most: usize,
    most_bytes: usize,
    /// The operations of the window.
    taken: Vec<Operation>,
    /// Whether no more operations are taken.
    stopped: bool,
    /// Why the family is gone, if it is; then nothing more is sent.
    gone: Option<Error>,
}

impl Session {
    pub(crate) async fn batch(
        &mut self,
        operations: impl IntoIterator<Item = Operation, IntoIter: Send> + Send,
    ) -> Result<Results, Error> {
        let mut results = Vec::new();
        let push = |_: &Operation, result| results.push(result);
        self.batch_each(operations, BatchOptions::default(), push).await?;
        Ok(results.into())
    }

    pub(crate) async fn batch_each(
        &mut self,
        operations: impl IntoIterator<Item = Operation, IntoIter: Send> + Send,
        options: BatchOptions,
        mut each: impl FnMut(&Operation, Result<(), Error>) + Send,
    ) -> Result<(), Error> {
        self.batch_while(operations, options, |operation, result| {
            each(operation, result);
            ControlFlow::Continue(())
        })
        .await
    }

    /// Runs operations until their end, or until `each` breaks off. Then nothing more is sent, and
    /// `each` still hears the results of all operations that were sent.
    pub(crate) async fn batch_while(
        &mut self,
        operations: impl IntoIterator<Item = Operation, IntoIter: Send> + Send,
        options: BatchOptions,
        mut each: impl FnMut(&Operation, Result<(), Error>) -> ControlFlow<()> + Send,
    ) -> Result<(), Error> {
        self.prepare(Request::Family).await?;
        let (most, most_bytes) = self.window_limits();
        let operations = operations.into_iter();
        let taken = Vec::with_capacity(most.min(operations.size_hint().0));
        let (stopped, gone) = (false, None);
        let mut batch = Batch { operations, options, most, most_bytes, taken, stopped, gone };
        loop {
            if batch.gone.is_none() && self.encoder.family().is_none() {
                batch.gone = self.resolve_family().await.err();
            }
            let has_to_be_sent = batch.fill(self.window.fill(&mut self.encoder));
            if batch.taken.is_empty() {
                return Ok(());
            }
            if has_to_be_sent {
                trace::in_span(&"batch", self.run_window(&batch.taken)).await;
            } else {
                self.socket.let_others_run().await;
            }
            if batch.hand_out(self.window.failures(), &mut each).is_break() {
                return Ok(());
            }
        }
    }

    /// A window of one operation.
    pub(super) async fn change(&mut self, operation: Operation) -> Result<(), Error> {
        let failed = |cause| Error::new(operation.into(), cause);
        let conversation = async {
            operation.check().map_err(|invalid| failed(invalid.into()))?;
            if !self.is_prepared() {
                self.prepare(operation.into()).await?;
            }
            trace::sent(&operation.into());
            let mut filling = self.window.fill(&mut self.encoder);
            filling.push(&operation);
            filling.finish();
            self.run_window(&[operation]).await;
            self.window.take_failure().map_or(Ok(()), |cause| Err(failed(cause)))
        };
        trace::in_span(&operation, conversation).await.inspect_err(trace::failed)
    }

    /// The most operations in one window, since all their errors must fit the receive buffer; and
    /// the number of bytes from which on a window takes no more.
    fn window_limits(&self) -> (usize, usize) {
        let fit = (self.socket.transport.receive_capacity() / ROOM_OF_AN_ERROR).max(1);
        let most = self.socket.limits.window.map_or(fit, |most| most.min(fit));
        let bytes = self.socket.transport.send_capacity().saturating_sub(LAST_BYTES);
        (most, WINDOW_BYTES.min(bytes).max(1))
    }

    /// Sends a window and gives each of its operations a result.
    async fn run_window(&mut self, taken: &[Operation]) {
        self.send_window().await;
        // If the module was unloaded while a window ran, all operations from then on have failed,
        // the last one among them.
        let Some(from) = self.window.failed_from(NOT_THERE) else { return };
        match self.family_has_changed().await {
            Ok(true) => {
                self.window.repeat(from, taken, &mut self.encoder);
                self.send_window().await;
            }
            Err(error) if error.is_ipvs_not_found() => self.window.fail_from(from, error.cause()),
            // The family is the same: the kernel's answer to each operation stands.
            Ok(false) | Err(_) => {}
        }
    }

    async fn send_window(&mut self) {
        if let Err(cause) = self.socket.send(self.encoder.outgoing()).await {
            self.window.give_up(&cause);
            return;
        }
        self.socket.has_window_out = true;
        self.receive_window().await;
        self.socket.has_window_out = false;
    }

    async fn receive_window(&mut self) {
        let mut patience = self.socket.limits.timeout;
        let mut lost = None;
        loop {
            let hear = |datagram: &[u8]| self.window.hear(datagram);
            match self.socket.receive_until_end(patience, None, hear).await {
                Ok(()) => return,
                // Answers that were not dropped are still in the buffer.
                Err(cause @ Cause::Answer(AnswerError::Lost)) => {
                    patience = Duration::ZERO;
                    lost = Some(cause);
                }
                Err(cause) => {
                    self.window.give_up(lost.as_ref().unwrap_or(&cause));
                    return;
                }
            }
        }
    }
}

impl<I: Iterator<Item = Operation>> Batch<I> {
    /// Takes the operations of the next window; tells whether any operation is to be sent.
    fn fill(&mut self, mut filling: Filling<'_, Cause>) -> bool {
        while !self.stopped && filling.count() < self.most && filling.bytes() < self.most_bytes {
            let Some(operation) = self.operations.next() else { break };
            let checked = match &self.gone {
                Some(error) => Err(error.cause().before_sending()),
                None if self.options.unchecked => Ok(()),
                None => operation.check().map_err(Cause::from),
            };
            match checked {
                Ok(()) => {
                    trace::sent(&operation.into());
                    filling.push(&operation);
                }
                Err(cause) => {
                    filling.refuse(cause);
                    self.stopped |= self.options.stop_at_first_error;
                }
            }
            self.taken.push(operation);
        }
        filling.finish()
    }

    /// Gives `each` the result of every operation of the window. Breaks off if no more windows are
    /// to be sent.
    fn hand_out(
        &mut self,
        mut failures: impl Iterator<Item = (usize, Cause)>,
        each: &mut impl FnMut(&Operation, Result<(), Error>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        let mut failure = failures.next();
        for (place, operation) in self.taken.drain(..).enumerate() {
            let result = match failure.take_if(|(failed, _)| *failed == place) {
                Some((_, cause)) => {
                    failure = failures.next();
                    self.stopped |= self.options.stop_at_first_error;
                    let error = Error::new(operation.into(), cause);
                    trace::failed(&error);
                    Err(error)
                }
                None => Ok(()),
            };
            if each(&operation, result).is_break() {
                flow = ControlFlow::Break(());
            }
        }
        if self.stopped { ControlFlow::Break(()) } else { flow }
    }
}
