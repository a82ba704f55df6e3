//! Links: the transport between a client and the kernel.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use super::clock::later;
use super::faults::{Call, CallFault, SendFault};
use super::kernel::Kernel;
use super::socket::Socket;
use super::tampering::tamper;
use crate::transport::{AsyncTransport, Received, Sleep, Transport};
use crate::uapi::Errno;

/// A connection to a [`Kernel`], with a queue of answers of its own.
///
/// A client never waits for a link in real time: if no answer is to come, the kernel's clock jumps
/// to the deadline.
#[derive(Debug)]
pub struct Link {
    kernel: Kernel,
    socket: Socket,
    /// Whether faults strike at this link, and its steps count.
    exposed: bool,
    closed: bool,
    /// The time before which no datagram arrives.
    delayed_until: Option<Instant>,
}

impl Kernel {
    /// A connection to the kernel in the place of a netlink socket, for
    /// [`connect_with`](crate::blocking::Client::connect_with).
    pub fn link(&self) -> Link {
        Link::new(self.clone(), true)
    }

    /// A connection without faults, whose steps are not counted. A test reads the table through it,
    /// whatever happens to the client under test.
    pub fn observer(&self) -> Link {
        Link::new(self.clone(), false)
    }
}

impl Link {
    fn new(kernel: Kernel, exposed: bool) -> Self {
        let port = kernel.lock().next_port();
        Self { kernel, socket: Socket::new(port), exposed, closed: false, delayed_until: None }
    }

    /// The kernel to which the link leads.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Lets those faults strike that are due before a system call.
    fn strike(&mut self, call: Call) -> io::Result<()> {
        if !self.exposed {
            return Ok(());
        }
        self.kernel.lock().faults.steps += 1;
        loop {
            // The kernel is not locked while a fault acts, since the act may use the kernel.
            let fault = self.kernel.lock().faults.before(call);
            match fault {
                None => break,
                Some(CallFault::Fail(errno)) => return Err(Errno::from_number(errno).into()),
                Some(CallFault::Close) => self.closed = true,
                Some(CallFault::Meanwhile(act)) => act.run(&self.kernel),
                Some(CallFault::NoBuffers) => return Err(Errno::NOBUFS.into()),
                Some(CallFault::Delay(delay)) => {
                    self.delayed_until = Some(later(self.kernel.now(), delay));
                }
            }
        }
        if self.closed { Err(Errno::BADF.into()) } else { Ok(()) }
    }
}

impl Transport for Link {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.strike(Call::Send)?;
        let mut state = self.kernel.lock();
        let fault = if self.exposed { state.faults.at_send() } else { None };
        let (refusal, loses_answers) = match fault {
            None => (None, false),
            Some(SendFault::Refuse(errno)) => (Some(refusal(errno)), false),
            Some(SendFault::LoseAnswers) => (None, true),
        };
        self.socket.send(&mut state, datagram, refusal)?;
        if loses_answers {
            self.socket.lose_answers();
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received> {
        self.strike(Call::Receive)?;
        if let Some(until) = self.delayed_until {
            self.kernel.advance_to(until.min(deadline));
            if until > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.delayed_until = None;
        }
        let mut state = self.kernel.lock();
        let room = buffer.capacity() - buffer.len();
        let mut datagram = match self.socket.receive(&mut state, room) {
            Ok(datagram) => datagram,
            Err(Errno::AGAIN) => {
                drop(state);
                self.kernel.advance_to(deadline);
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(errno) => return Err(errno.into()),
        };
        let cut = if self.exposed {
            tamper(&mut state.faults, &mut self.socket, &mut datagram)
        } else {
            None
        };
        drop(state);
        let length = cut.unwrap_or(datagram.len()).min(datagram.len()).min(room);
        buffer.extend_from_slice(&datagram[..length]);
        let whole = length == datagram.len();
        self.socket.recycle(datagram);
        Ok(if whole { Received::Whole } else { Received::Truncated })
    }

    fn sleep(&mut self, until: Instant) {
        self.kernel.advance_to(until);
    }

    fn reopen(&mut self) -> io::Result<()> {
        *self = Self::new(self.kernel.clone(), self.exposed);
        Ok(())
    }

    fn now(&self) -> Instant {
        self.kernel.now()
    }
}

/// Ready at once, as the kernel is.
impl AsyncTransport for Link {
    fn poll_send(&mut self, _: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>> {
        Poll::Ready(self.send(datagram))
    }

    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        deadline: Instant,
    ) -> Poll<io::Result<Received>> {
        Poll::Ready(self.receive(buffer, deadline))
    }

    fn sleep(&mut self, until: Instant) -> Sleep {
        let kernel = self.kernel.clone();
        Box::pin(async move {
            kernel.advance_to(until);
            Ok(())
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        Transport::reopen(self)
    }

    fn now(&self) -> Instant {
        Transport::now(self)
    }
}

/// The error number that an answer has for this number; `EINVAL` if it is no error number.
fn refusal(errno: i32) -> Errno {
    match errno.saturating_abs() {
        number @ 1..=4095 => Errno::from_number(number),
        _ => Errno::INVAL,
    }
}
