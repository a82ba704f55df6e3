//! Batches: windows of operations, one after the other.

use std::ops::ControlFlow;

use super::exchange::NOT_THERE;
use super::{Session, trace};
use crate::error::{Cause, Error};
use crate::protocol::{Batch, LONGEST_MESSAGE, Operation, Progress, Request};
use crate::results::Results;

/// More in one send gained nothing, and a send is at most the send buffer.
const WINDOW_BYTES: usize = 64 * 1024;
/// What the last operation of a window may take, and the question behind it.
const LAST_BYTES: usize = 2 * LONGEST_MESSAGE;
/// An error takes 768 to 1,536 bytes of the receive buffer, by the kernel's count: that depends on the
/// kernel and the architecture. From 32 operations in a send on, more gain nothing, so this is more
/// than any takes.
const ROOM_OF_AN_ERROR: usize = 2048;

impl Session {
    pub(crate) async fn batch(
        &mut self,
        operations: impl IntoIterator<Item = Operation, IntoIter: Send> + Send,
    ) -> Result<Results, Error> {
        let mut results = Vec::new();
        self.batch_each(operations, Batch::default(), |_, result| results.push(result)).await?;
        Ok(results.into())
    }

    pub(crate) async fn batch_each(
        &mut self,
        operations: impl IntoIterator<Item = Operation, IntoIter: Send> + Send,
        batch: Batch,
        mut each: impl FnMut(&Operation, Result<(), Error>) + Send,
    ) -> Result<(), Error> {
        self.batch_while(operations, batch, |operation, result| {
            each(operation, result);
            ControlFlow::Continue(())
        })
        .await
    }

    /// Runs operations until there are no more, or until `each` has broken off: the results of what
    /// was sent by then are told, and nothing more is sent.
    pub(crate) async fn batch_while(
        &mut self,
        operations: impl IntoIterator<Item = Operation, IntoIter: Send> + Send,
        batch: Batch,
        mut each: impl FnMut(&Operation, Result<(), Error>) -> ControlFlow<()> + Send,
    ) -> Result<(), Error> {
        self.prepare(Request::Family).await?;
        let (most, most_bytes) = self.window_limits();
        let mut operations = operations.into_iter();
        let mut taken = Vec::with_capacity(most.min(operations.size_hint().0));
        let mut stopped = false;
        // Why the family is not there any more; then nothing more is sent.
        let mut gone = None;
        loop {
            if gone.is_none() && self.engine.family().is_none() {
                gone = self.resolve_family().await.err();
            }
            self.window.begin(&mut self.engine);
            while !stopped && taken.len() < most && self.engine.outgoing().len() < most_bytes {
                let Some(operation) = operations.next() else { break };
                let checked = match &gone {
                    Some(error) => Err(error.cause().before_sending()),
                    None => self.push(&operation),
                };
                if let Err(cause) = checked {
                    self.window.refuse(cause, &mut self.engine);
                    stopped |= batch.stop_at_first_error;
                }
                taken.push(operation);
            }
            if taken.is_empty() {
                return Ok(());
            }
            if self.window.is_empty() {
                self.let_others_run().await;
            } else {
                trace::in_span(&"batch", self.run_window(&taken)).await;
            }
            let mut flow = ControlFlow::Continue(());
            let mut failures = self.window.failures().peekable();
            for (index, operation) in taken.drain(..).enumerate() {
                let result = match failures.next_if(|(failed, _)| *failed == index) {
                    Some((_, cause)) => {
                        stopped |= batch.stop_at_first_error;
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
            if flow.is_break() || stopped {
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
            self.window.begin(&mut self.engine);
            self.window.push(&operation, &mut self.engine);
            self.run_window(&[operation]).await;
            self.window.take_failure().map_or(Ok(()), |cause| Err(failed(cause)))
        };
        trace::in_span(&operation, conversation).await.inspect_err(trace::failed)
    }

    /// Encodes one more operation of the window, where it is valid.
    fn push(&mut self, operation: &Operation) -> Result<(), Cause> {
        operation.check()?;
        trace::sent(&(*operation).into());
        self.window.push(operation, &mut self.engine);
        Ok(())
    }

    /// The most operations in one window: as many as the answers fit the receive buffer, should
    /// all of them fail. And the bytes from which on it takes no more.
    fn window_limits(&self) -> (usize, usize) {
        let fit = (self.transport.receive_capacity() / ROOM_OF_AN_ERROR).max(1);
        let most = self.conversation.window.map_or(fit, |most| most.min(fit));
        let bytes = self.transport.send_capacity().saturating_sub(LAST_BYTES);
        (most, WINDOW_BYTES.min(bytes).max(1))
    }

    /// Sends a window and gives each of its operations a result.
    async fn run_window(&mut self, taken: &[Operation]) {
        self.send_window().await;
        // The last of a window that met another family, or none, failed as all since then did.
        let Some(from) = self.window.failed_from(NOT_THERE) else { return };
        match self.family_has_changed().await {
            Ok(true) => {
                self.window.repeat(from, taken, &mut self.engine);
                self.send_window().await;
            }
            Err(error) if error.is_ipvs_not_found() => self.window.fail_from(from, error.cause()),
            // The kernel's word on each stays.
            Ok(false) | Err(_) => {}
        }
    }

    async fn send_window(&mut self) {
        self.engine.end_window();
        if let Err(cause) = self.send().await {
            self.window.give_up(&cause);
            return;
        }
        let mut deadline = self.deadline();
        let mut lost = None;
        loop {
            let progress = match self.receive(deadline).await {
                Ok(()) => self.window.absorb(&self.incoming).map_err(Cause::from),
                Err(cause) => Err(cause),
            };
            match progress {
                Ok(Progress::Finished) => return,
                Ok(Progress::Some) if lost.is_none() => {
                    deadline = self.deadline();
                }
                Ok(_) => {}
                // What was not dropped is still to be had, at once.
                Err(Cause::Lost) => {
                    deadline = self.transport.now();
                    lost = Some(Cause::Lost);
                }
                Err(cause) => {
                    self.window.give_up(lost.as_ref().unwrap_or(&cause));
                    return;
                }
            }
        }
    }
}
