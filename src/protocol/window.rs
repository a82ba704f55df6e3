//! Windows: many operations in one send, with a result for each.

use super::exchange::Heard;
use super::frame::{Content, Frames};
use super::{AnswerError, Encoder, Operation};
use crate::uapi::Errno;
use crate::wire::DecodeError;

/// Operations sent together. `C` is the cause of a failure without an answer of the kernel.
///
/// The kernel runs the operations in order, inside the send. It answers each that fails, and
/// acknowledges only the last one: an operation without an answer has succeeded once a later one
/// was answered.
#[derive(Debug)]
pub(crate) struct Window<C> {
    /// The sequence number of the operation at place 0; the others count on from it.
    first: u32,
    count: usize,
    /// The number of operations up to the last that is sent.
    sent: usize,
    /// How many operations, from the first on, were answered or need no answer any more.
    settled: usize,
    failures: Vec<FailedOperation<C>>,
}

/// An operation that failed or was not sent.
#[derive(Debug)]
struct FailedOperation<C> {
    place: usize,
    why: Why<C>,
}

#[derive(Debug)]
enum Why<C> {
    NotSent(C),
    Answered(AnswerError),
    /// Sent, and given up by the caller.
    GivenUp(C),
}

/// A window that is being filled.
pub(crate) struct Filling<'a, C> {
    window: &'a mut Window<C>,
    encoder: &'a mut Encoder,
    last_may_stay_unanswered: bool,
}

impl<C> Default for Window<C> {
    fn default() -> Self {
        Self { first: 0, count: 0, sent: 0, settled: 0, failures: Vec::new() }
    }
}

impl<C> Filling<'_, C> {
    /// Encodes one more operation.
    #[inline]
    pub(crate) fn push(&mut self, operation: &Operation) {
        self.encoder.append_operation(operation);
        self.last_may_stay_unanswered = may_stay_unanswered(operation);
        self.window.count += 1;
        self.window.sent = self.window.count;
    }

    /// Adds an operation that is not to be sent.
    pub(crate) fn refuse(&mut self, cause: C) {
        self.encoder.leave_out();
        self.window
            .failures
            .push(FailedOperation { place: self.window.count, why: Why::NotSent(cause) });
        self.window.count += 1;
    }

    pub(crate) fn count(&self) -> usize {
        self.window.count
    }

    /// How many bytes the datagram has so far.
    pub(crate) fn bytes(&self) -> usize {
        self.encoder.length()
    }

    /// Completes the datagram; tells whether it has any operation.
    pub(crate) fn finish(self) -> bool {
        if self.window.sent == 0 {
            return false;
        }
        self.encoder.acknowledge_last();
        if self.last_may_stay_unanswered {
            self.encoder.append_short_question();
        }
        true
    }
}

impl<C: Clone + From<AnswerError>> Window<C> {
    /// Starts a window, whose operations the encoder encodes.
    pub(crate) fn fill<'a>(&'a mut self, encoder: &'a mut Encoder) -> Filling<'a, C> {
        self.failures.clear();
        (self.count, self.sent, self.settled) = (0, 0, 0);
        self.first = encoder.begin_operations();
        Filling { window: self, encoder, last_may_stay_unanswered: false }
    }

    /// Encodes the operations from this place on again, since the family that they were sent to is
    /// gone.
    pub(crate) fn repeat(&mut self, from: usize, operations: &[Operation], encoder: &mut Encoder) {
        let at = self.failures.partition_point(|failed| failed.place < from);
        let mut failures = self.failures.split_off(at).into_iter().peekable();
        // Place 0 is counted back from the first operation that is sent again.
        let first = encoder.begin_operations();
        self.first = first.wrapping_sub(u32::try_from(from).unwrap_or_default());
        (self.count, self.sent, self.settled) = (from, from, from);
        let mut filling = Filling { window: self, encoder, last_may_stay_unanswered: false };
        for (place, operation) in operations.iter().enumerate().skip(from) {
            match failures.next_if(|failed| failed.place == place) {
                Some(FailedOperation { why: Why::NotSent(cause), .. }) => filling.refuse(cause),
                _ => filling.push(operation),
            }
        }
        filling.finish();
    }

    /// Takes a datagram; [`Heard::End`] once the last operation has been answered.
    ///
    /// # Errors
    /// The datagram cannot be read.
    pub(crate) fn hear(&mut self, datagram: &[u8]) -> Result<Heard, DecodeError> {
        let mut heard = Heard::Nothing;
        for frame in Frames::new(datagram) {
            let frame = frame?;
            let place = frame.sequence.wrapping_sub(self.first) as usize;
            if place == self.count {
                // The question that follows an operation which may stay unanswered.
                self.settled = self.sent;
            }
            if place >= self.sent {
                continue;
            }
            heard = Heard::More;
            let Content::Status { errno, message } = frame.content()? else { continue };
            if let Some(errno) = errno {
                let why = Why::Answered(AnswerError::Kernel { errno, message });
                self.failures.push(FailedOperation { place, why });
            }
            self.settled = self.settled.max(place + 1);
        }
        if self.settled < self.sent {
            return Ok(heard);
        }
        self.sort();
        Ok(Heard::End)
    }

    /// Gives this cause to all operations whose outcome is not known.
    ///
    /// Once the kernel drops an answer, it drops all that follow in the send. An operation before
    /// an answered one has therefore succeeded, unless its error was heard.
    pub(crate) fn give_up(&mut self, cause: &C) {
        for place in self.settled..self.sent {
            self.failures.push(FailedOperation { place, why: Why::GivenUp(cause.clone()) });
        }
        self.settled = self.sent;
        self.sort();
    }

    /// Puts the failures in the order of the operations, and keeps the first of each operation.
    fn sort(&mut self) {
        if !self.failures.is_empty() {
            self.failures.sort_by_key(|failed| failed.place);
            self.failures.dedup_by_key(|failed| failed.place);
        }
    }

    /// The place from which on every operation that was sent failed with this error number; `None`
    /// if the last one did not fail with it.
    pub(crate) fn failed_from(&self, wanted: Errno) -> Option<usize> {
        let mut from = None;
        let mut next = self.count;
        for FailedOperation { place, why } in self.failures.iter().rev() {
            if place + 1 != next {
                break;
            }
            match why {
                Why::Answered(AnswerError::Kernel { errno, .. }) if *errno == wanted => {
                    from = Some(*place);
                }
                Why::NotSent(_) => {}
                Why::Answered(_) | Why::GivenUp(_) => break,
            }
            next = *place;
        }
        from
    }

    /// Gives another cause to the operations that were sent, from this place on.
    pub(crate) fn fail_from(&mut self, from: usize, cause: &C) {
        for failed in self.failures.iter_mut().filter(|failed| failed.place >= from) {
            if !matches!(failed.why, Why::NotSent(_)) {
                failed.why = Why::GivenUp(cause.clone());
            }
        }
    }

    /// Why the only operation of a window failed, if it did.
    pub(crate) fn take_failure(&mut self) -> Option<C> {
        self.failures.pop().map(|failed| failed.why.into_cause())
    }

    /// The operations that failed or were not sent, in their order, each with its place.
    pub(crate) fn failures(&mut self) -> impl Iterator<Item = (usize, C)> {
        self.failures.drain(..).map(|failed| (failed.place, failed.why.into_cause()))
    }
}

impl<C: From<AnswerError>> Why<C> {
    fn into_cause(self) -> C {
        match self {
            Self::NotSent(cause) | Self::GivenUp(cause) => cause,
            Self::Answered(answer) => answer.into(),
        }
    }
}

/// Whether the kernel may run the operation without an answer: to stop a sync daemon, the kernel
/// waits for the end of a thread. If that thread has not run yet, the wait fails with `EINTR`,
/// which netlink does not report.
fn may_stay_unanswered(operation: &Operation) -> bool {
    matches!(operation, Operation::StopDaemon(_))
}
