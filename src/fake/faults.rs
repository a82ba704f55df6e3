//! The faults that a test orders, and the moments at which they strike.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Kernel;

/// A fault that strikes at a step.
///
/// A step is a send or a receive on any link of the kernel. A fault strikes at its step or, if it
/// cannot strike then (a send has no datagram to cut), at the first later step where it can.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The system call fails with this error number, and nothing is sent or received. `EINTR`
    /// stands for a signal, `EAGAIN` for a wake-up without a cause.
    Fail(i32),
    /// The kernel carries out no request of the next send, and answers each with this error number.
    /// The number may be positive or negative; one outside of 1 to 4,095 becomes `EINVAL`.
    Refuse(i32),
    /// The kernel drops the answers to the next send, as it does when the receive buffer is full:
    /// it carries out all requests, and the next receive fails with `ENOBUFS`, once.
    LoseAnswers,
    /// The next receive fails with `ENOBUFS`, once; the queued answers can still be read.
    NoBuffers,
    /// The next datagram arrives this much later, by the kernel's clock.
    Delay(Duration),
    /// The next datagram ends after this many bytes.
    Truncate(usize),
    /// An answer to a much earlier request comes before the next datagram.
    Stale,
    /// A datagram that answers another socket's request with success comes before the next
    /// datagram.
    Foreign,
    /// The next datagram begins with a message of an unknown type in the same exchange.
    UnknownType,
    /// The end of the next listing says that the listing has failed with this error number.
    FailListing(i32),
    /// The messages of the next part of a listing say that a change has interrupted the listing.
    Interrupted,
    /// Each message of the next part of a listing comes in a datagram of its own.
    Split,
    /// Each message of the next part of a listing comes in a datagram of its own, the last one
    /// first.
    Reorder,
    /// The socket is closed: all sends and receives on it fail with `EBADF` until it is reopened.
    Close,
    /// Somebody else acts before the step, and changes the table, for example; made by
    /// [`meanwhile`](Self::meanwhile).
    Meanwhile(Act),
}

/// An act of somebody else.
pub struct Act(Box<dyn FnOnce(&Kernel) + Send>);

impl Act {
    pub(super) fn run(self, kernel: &Kernel) {
        (self.0)(kernel);
    }
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Act").finish_non_exhaustive()
    }
}

impl Fault {
    /// Somebody else acts before the step, and changes the table, for example.
    pub fn meanwhile(act: impl FnOnce(&Kernel) + Send + 'static) -> Self {
        Self::Meanwhile(Act(Box::new(act)))
    }
}

/// A fault that strikes before a system call.
#[derive(Debug)]
pub(super) enum CallFault {
    Fail(i32),
    Close,
    Meanwhile(Act),
    NoBuffers,
    Delay(Duration),
}

/// A system call of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Send,
    Receive,
}

impl CallFault {
    fn strikes(&self, call: Call) -> bool {
        match self {
            Self::Fail(_) | Self::Close | Self::Meanwhile(_) => true,
            Self::NoBuffers | Self::Delay(_) => call == Call::Receive,
        }
    }
}

/// A fault that strikes at the requests of a send.
#[derive(Debug, Clone, Copy)]
pub(super) enum SendFault {
    Refuse(i32),
    LoseAnswers,
}

/// A fault that strikes at a datagram which has arrived and is not handed over yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum DatagramFault {
    Truncate(usize),
    Stale,
    Foreign,
    UnknownType,
    FailListing(i32),
    Interrupted,
    Split,
    Reorder,
}

/// The kind of datagram that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    /// The end of a listing.
    End,
    /// A part of a listing.
    Part,
    Answer,
}

impl DatagramFault {
    fn strikes(self, arrived: Arrived) -> bool {
        match self {
            Self::Truncate(_) | Self::Stale | Self::Foreign | Self::UnknownType => true,
            Self::FailListing(_) => arrived == Arrived::End,
            Self::Interrupted | Self::Split | Self::Reorder => arrived == Arrived::Part,
        }
    }
}

/// The faults to come, by the moment at which they strike. The faults of each moment have a type of
/// their own, so that the compiler asks for a new fault wherever it matters.
#[derive(Debug, Default)]
pub(super) struct PendingFaults {
    pub(super) steps: u64,
    ordered: u64,
    calls: FaultQueue<CallFault>,
    sends: FaultQueue<SendFault>,
    datagrams: FaultQueue<DatagramFault>,
}

impl PendingFaults {
    pub(super) fn add(&mut self, step: u64, fault: Fault) {
        self.ordered += 1;
        let at = (self.steps.saturating_add(step.max(1)), self.ordered);
        match fault {
            Fault::Fail(errno) => self.calls.add(at, CallFault::Fail(errno)),
            Fault::Close => self.calls.add(at, CallFault::Close),
            Fault::Meanwhile(act) => self.calls.add(at, CallFault::Meanwhile(act)),
            Fault::NoBuffers => self.calls.add(at, CallFault::NoBuffers),
            Fault::Delay(delay) => self.calls.add(at, CallFault::Delay(delay)),
            Fault::Refuse(errno) => self.sends.add(at, SendFault::Refuse(errno)),
            Fault::LoseAnswers => self.sends.add(at, SendFault::LoseAnswers),
            Fault::Truncate(length) => self.datagrams.add(at, DatagramFault::Truncate(length)),
            Fault::Stale => self.datagrams.add(at, DatagramFault::Stale),
            Fault::Foreign => self.datagrams.add(at, DatagramFault::Foreign),
            Fault::UnknownType => self.datagrams.add(at, DatagramFault::UnknownType),
            Fault::FailListing(errno) => self.datagrams.add(at, DatagramFault::FailListing(errno)),
            Fault::Interrupted => self.datagrams.add(at, DatagramFault::Interrupted),
            Fault::Split => self.datagrams.add(at, DatagramFault::Split),
            Fault::Reorder => self.datagrams.add(at, DatagramFault::Reorder),
        }
    }

    pub(super) fn clear(&mut self) {
        let Self { steps: _, ordered: _, calls, sends, datagrams } = self;
        calls.0.clear();
        sends.0.clear();
        datagrams.0.clear();
    }

    /// The first fault that is due and strikes before this call.
    pub(super) fn before(&mut self, call: Call) -> Option<CallFault> {
        self.calls.due(self.steps, |fault| fault.strikes(call))
    }

    /// The first fault that is due and strikes at a send.
    pub(super) fn at_send(&mut self) -> Option<SendFault> {
        self.sends.due(self.steps, |_| true)
    }

    /// The first fault that is due and strikes at the datagram that has arrived.
    pub(super) fn at(&mut self, arrived: Arrived) -> Option<DatagramFault> {
        self.datagrams.due(self.steps, |fault| fault.strikes(arrived))
    }
}

/// Faults by their steps; those of one step in the order in which the test ordered them.
#[derive(Debug)]
struct FaultQueue<T>(BTreeMap<(u64, u64), T>);

impl<T> Default for FaultQueue<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> FaultQueue<T> {
    fn add(&mut self, at: (u64, u64), fault: T) {
        self.0.insert(at, fault);
    }

    /// The first fault whose step has come and that can strike now.
    fn due(&mut self, step: u64, strikes: impl Fn(&T) -> bool) -> Option<T> {
        let mut due = self.0.range(..=(step, u64::MAX));
        let at = *due.find(|(_, fault)| strikes(fault))?.0;
        self.0.remove(&at)
    }
}
