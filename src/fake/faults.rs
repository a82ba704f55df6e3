//! Faults to order: what goes wrong, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Kernel;

/// Something that goes wrong at a step.
///
/// A step is a send or a receive on any link of the kernel. A fault strikes at its step or, where
/// that has nothing to strike at (a send has no datagram to cut, say), at the first step after it
/// that has.
#[non_exhaustive]
pub enum Fault {
    /// The system call fails with this error number, and nothing is sent or received. `EINTR` is
    /// a signal, `EAGAIN` a wake-up for nothing.
    Fail(i32),
    /// The kernel answers each request of the next send with this error number, with or without its
    /// sign, and does none of them. What is no error number, from 1 to 4,095, is `EINVAL`.
    Refuse(i32),
    /// The kernel drops the answers to the next send, as it does when the receive buffer is full:
    /// all requests are done, and the next receive fails with `ENOBUFS`, once.
    LoseAnswers,
    /// The next receive fails with `ENOBUFS`, once; what is queued stays to be read.
    NoBuffers,
    /// The next datagram arrives this much later, by the kernel's clock.
    Delay(Duration),
    /// The next datagram ends after this many bytes.
    Truncate(usize),
    /// The next datagram is the answer to a request long past: its sequence numbers are those of
    /// before, and it never comes in its right form.
    Stale,
    /// Before the next datagram comes one that answers another socket's request with success.
    Foreign,
    /// The next datagram begins with a message of an unknown type in the same exchange.
    UnknownType,
    /// The end of the next listing says that it has failed with this error number.
    FailListing(i32),
    /// The messages of the next part of a listing say that it was interrupted by a change.
    Interrupted,
    /// The messages of the next part of a listing come in a datagram each.
    Split,
    /// The messages of the next part of a listing come in a datagram each, the last one first.
    Reorder,
    /// The socket is closed: all sends and receives on it fail with `EBADF` until it is reopened.
    Close,
    /// Someone else does something before the step, such as changing the table.
    Meanwhile(Box<dyn FnOnce(&Kernel) + Send>),
}

impl Fault {
    /// Someone else does something before the step, such as changing the table.
    pub fn meanwhile(act: impl FnOnce(&Kernel) + Send + 'static) -> Self {
        Self::Meanwhile(Box::new(act))
    }

    /// At which kind of step it can strike.
    fn strikes(&self, at: Moment) -> bool {
        match self {
            Self::Fail(_) | Self::Close | Self::Meanwhile(_) => at != Moment::Arrival,
            Self::Refuse(_) | Self::LoseAnswers => at == Moment::Send,
            Self::NoBuffers | Self::Delay(_) => at == Moment::Receive,
            _ => at == Moment::Arrival,
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(errno) => f.debug_tuple("Fail").field(errno).finish(),
            Self::Refuse(errno) => f.debug_tuple("Refuse").field(errno).finish(),
            Self::LoseAnswers => f.write_str("LoseAnswers"),
            Self::NoBuffers => f.write_str("NoBuffers"),
            Self::Delay(delay) => f.debug_tuple("Delay").field(delay).finish(),
            Self::Truncate(length) => f.debug_tuple("Truncate").field(length).finish(),
            Self::Stale => f.write_str("Stale"),
            Self::Foreign => f.write_str("Foreign"),
            Self::UnknownType => f.write_str("UnknownType"),
            Self::FailListing(errno) => f.debug_tuple("FailListing").field(errno).finish(),
            Self::Interrupted => f.write_str("Interrupted"),
            Self::Split => f.write_str("Split"),
            Self::Reorder => f.write_str("Reorder"),
            Self::Close => f.write_str("Close"),
            Self::Meanwhile(_) => f.write_str("Meanwhile(..)"),
        }
    }
}

/// When a fault is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Send,
    Receive,
    /// A datagram has been received, but not handed over yet.
    Arrival,
}

/// The faults to come, by their steps.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: u64,
    faults: BTreeMap<(u64, u64), Fault>,
    ordered: u64,
}

impl Plan {
    pub(super) fn add(&mut self, step: u64, fault: Fault) {
        self.ordered += 1;
        let at = self.steps.saturating_add(step.max(1));
        self.faults.insert((at, self.ordered), fault);
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// The faults whose step has come and which can strike now.
    pub(super) fn due(&mut self, at: Moment) -> Option<Fault> {
        let mut due = self.faults.range(..=(self.steps, u64::MAX));
        let key = *due.find(|(_, fault)| fault.strikes(at))?.0;
        self.faults.remove(&key)
    }

    /// The first fault that can strike now and that `wanted` takes.
    pub(super) fn due_if(&mut self, at: Moment, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut due = self.faults.range(..=(self.steps, u64::MAX));
        let key = *due.find(|(_, fault)| fault.strikes(at) && wanted(fault))?.0;
        self.faults.remove(&key)
    }
}
