//! Windows: many operations in one send, with a result for each.

use super::Operation;
use super::engine::{Engine, Progress};
use super::frame::{Content, Frames};
use crate::error::Cause;
use crate::wire::DecodeError;

/// How a batch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Batch {
    /// Whether to send nothing more once an operation has failed.
    pub stop_at_first_error: bool,
}

impl Batch {
    /// Sends nothing more once an operation has failed.
    ///
    /// The kernel runs all of one send: what was sent along with the operation that failed is
    /// done, and its results say so. What was not sent has an error that
    /// [`is_not_sent`](crate::Error::is_not_sent).
    #[must_use]
    pub fn stop_at_first_error(self) -> Self {
        Self { stop_at_first_error: true }
    }
}

/// Operations sent together.
///
/// The kernel runs them in order, inside the send. It reports each that fails, and acknowledges
/// the last alone; one of which nothing is heard, but something of a later one, has succeeded.
#[derive(Debug, Default)]
pub(crate) struct Window {
    first: u32,
    results: Vec<Option<Result<(), Cause>>>,
    /// How many of the operations are known to have been answered, or to need no answer.
    settled: usize,
}

impl Window {
    /// Starts encoding a window.
    pub(crate) fn begin(&mut self, engine: &mut Engine) {
        self.first = engine.begin_window();
        self.results.clear();
        self.settled = 0;
    }

    /// Encodes one more operation.
    pub(crate) fn push(&mut self, operation: &Operation, engine: &mut Engine) {
        engine.append_operation(operation);
        self.results.push(None);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.results.len()
    }

    /// Takes a datagram; [`Progress::Finished`] once the last operation has been answered.
    ///
    /// # Errors
    /// The datagram cannot be read.
    pub(crate) fn absorb(&mut self, datagram: &[u8]) -> Result<Progress, DecodeError> {
        let mut progress = Progress::None;
        for frame in Frames::new(datagram) {
            let frame = frame?;
            let index = frame.sequence.wrapping_sub(self.first) as usize;
            if index == self.results.len() {
                // The question behind an operation that may stay unanswered.
                self.settled = index;
                continue;
            }
            let Some(result) = self.results.get_mut(index) else { continue };
            progress = Progress::Some;
            let Content::Status { errno, message } = frame.content()? else { continue };
            *result = Some(match errno {
                0 => Ok(()),
                errno => Err(Cause::Kernel { errno, message }),
            });
            self.settled = self.settled.max(index + 1);
        }
        if self.settled == self.results.len() { Ok(Progress::Finished) } else { Ok(progress) }
    }

    /// Gives all operations of which nothing is known this cause.
    ///
    /// What the kernel drops it drops to the end of the send. So an operation before one that was
    /// answered would have been heard of, had it failed.
    pub(crate) fn give_up(&mut self, cause: &Cause) {
        for result in &mut self.results[self.settled..] {
            *result = Some(Err(cause.repeated()));
        }
        self.settled = self.results.len();
    }

    /// Whether the last operation, and so each that failed like it, failed with this error number.
    pub(crate) fn ended_with(&self, wanted: i32) -> bool {
        matches!(
            self.results.last(),
            Some(Some(Err(Cause::Kernel { errno, .. }))) if *errno == wanted
        )
    }

    /// Takes the operations at the end that all failed with this error number; returns how many are
    /// before them.
    pub(crate) fn take_last_failed(&mut self, wanted: i32) -> usize {
        while self.ended_with(wanted) {
            self.results.pop();
        }
        self.results.len()
    }

    /// Appends the results of another window.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.results.append(&mut other.results);
    }

    /// Appends operations that failed for this cause.
    pub(crate) fn append_failures(&mut self, cause: &Cause, count: usize) {
        self.results.extend((0..count).map(|_| Some(Err(cause.repeated()))));
    }

    /// The results, in the order of the operations.
    pub(crate) fn results(&mut self) -> impl Iterator<Item = Result<(), Cause>> {
        self.results.drain(..).map(|result| result.unwrap_or(Ok(())))
    }
}
