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
    /// Whether to take and send nothing more once an operation has failed.
    pub stop_at_first_error: bool,
}

impl Batch {
    /// Takes no more operations, and sends none, once one has failed.
    ///
    /// The kernel runs all of one send: what was sent along with the operation that failed is
    /// done, and its results say so. Operations that were not taken have no result.
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
    /// The sequence number of the first; the others follow.
    first: u32,
    count: usize,
    /// How many there are up to the last that is sent.
    sent: usize,
    /// How many of the operations are known to have been answered, or to need no answer.
    settled: usize,
    /// Those that failed or are not sent, by their place.
    failures: Vec<(usize, Cause)>,
}

impl Window {
    /// Starts encoding a window.
    pub(crate) fn begin(&mut self, engine: &mut Engine) {
        self.failures.clear();
        (self.count, self.sent, self.settled) = (0, 0, 0);
        self.first = engine.begin_window();
    }

    /// Encodes one more operation.
    #[inline]
    pub(crate) fn push(&mut self, operation: &Operation, engine: &mut Engine) {
        engine.append_operation(operation);
        self.count += 1;
        self.sent = self.count;
    }

    /// Takes one more operation that is not to be sent.
    pub(crate) fn refuse(&mut self, cause: Cause, engine: &mut Engine) {
        engine.leave_out();
        self.failures.push((self.count, cause));
        self.count += 1;
    }

    /// Encodes anew the operations from this place on, which were sent in vain.
    pub(crate) fn repeat(&mut self, from: usize, operations: &[Operation], engine: &mut Engine) {
        let at = self.failures.partition_point(|(index, _)| *index < from);
        let mut failures = self.failures.split_off(at).into_iter().peekable();
        let first = engine.begin_window();
        (self.count, self.sent, self.settled) = (from, from, from);
        for (index, operation) in operations.iter().enumerate().skip(from) {
            match failures.next_if(|(failed, _)| *failed == index) {
                Some((_, cause)) if cause.is_not_sent() => self.refuse(cause, engine),
                _ => self.push(operation, engine),
            }
        }
        self.first = first.wrapping_sub(u32::try_from(from).unwrap_or_default());
    }

    /// Whether nothing of it is to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == 0
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
            if index == self.count {
                // The question behind an operation that may stay unanswered.
                self.settled = self.sent;
            }
            if index >= self.sent {
                continue;
            }
            progress = Progress::Some;
            let Content::Status { errno, message } = frame.content()? else { continue };
            if errno != 0 {
                self.failures.push((index, Cause::Kernel { errno, message }));
            }
            self.settled = self.settled.max(index + 1);
        }
        if self.settled < self.sent {
            return Ok(progress);
        }
        self.sort();
        Ok(Progress::Finished)
    }

    /// Gives all operations of which nothing is known this cause.
    ///
    /// What the kernel drops it drops to the end of the send. So an operation before one that was
    /// answered would have been heard of, had it failed.
    pub(crate) fn give_up(&mut self, cause: &Cause) {
        for index in self.settled..self.sent {
            self.failures.push((index, cause.repeated()));
        }
        self.settled = self.sent;
        self.sort();
    }

    /// Puts the failures in the order of the operations. The first word on one counts: one that is
    /// not sent has nothing to be told by the kernel.
    fn sort(&mut self) {
        if !self.failures.is_empty() {
            self.failures.sort_by_key(|(index, _)| *index);
            self.failures.dedup_by_key(|(index, _)| *index);
        }
    }

    /// From which place on all that were sent failed with this error number, if the last did.
    pub(crate) fn failed_from(&self, wanted: i32) -> Option<usize> {
        let mut from = None;
        let mut next = self.count;
        for (index, cause) in self.failures.iter().rev() {
            if index + 1 != next {
                break;
            }
            match cause {
                Cause::Kernel { errno, .. } if *errno == wanted => from = Some(*index),
                cause if cause.is_not_sent() => {}
                _ => break,
            }
            next = *index;
        }
        from
    }

    /// Gives another cause to the operations from this place on that were sent.
    pub(crate) fn fail_from(&mut self, from: usize, cause: &Cause) {
        let sent = self.failures.iter_mut().filter(|(_, cause)| !cause.is_not_sent());
        for (_, failure) in sent.filter(|(index, _)| *index >= from) {
            *failure = cause.repeated();
        }
    }

    /// Why the operation of a window of one failed, if it did.
    pub(crate) fn take_failure(&mut self) -> Option<Cause> {
        self.failures.pop().map(|(_, cause)| cause)
    }

    /// The operations that failed or were not sent, in their order, by their place.
    pub(crate) fn failures(&mut self) -> impl Iterator<Item = (usize, Cause)> {
        self.failures.drain(..)
    }
}
