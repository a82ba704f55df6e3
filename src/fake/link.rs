//! Links: what clients connect with.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use netlink_packet_core::{
    NLM_F_CAPPED, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR,
};
use rustix::io::Errno;

use super::faults::{Fault, Moment};
use super::kernel::{Kernel, State, later};
use super::socket::Socket;
use super::writer::{Header, Writer};
use crate::transport::{AsyncTransport, Received, Sleep, Transport};

/// A connection to a [`Kernel`], with a queue of answers of its own.
///
/// It is never waited for: where no answer is to come, the kernel's clock jumps to the deadline.
#[derive(Debug)]
pub struct Link {
    kernel: Kernel,
    socket: Socket,
    /// Whether faults strike here, and steps count.
    exposed: bool,
    closed: bool,
    /// Nothing arrives before.
    delayed_until: Option<Instant>,
}

const HEADER: usize = 16;
/// Further back than any batch reaches.
const LONG_PAST: u32 = 4096;
/// A message type that neither netlink nor any family has.
const UNKNOWN_TYPE: u16 = 0xf;

impl Link {
    pub(super) fn new(kernel: Kernel, exposed: bool) -> Self {
        let port = kernel.lock().next_port();
        Self { kernel, socket: Socket::new(port), exposed, closed: false, delayed_until: None }
    }

    /// The kernel that it leads to.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What strikes before a system call.
    fn strike(&mut self, at: Moment) -> io::Result<()> {
        if !self.exposed {
            return Ok(());
        }
        self.kernel.lock().plan.steps += 1;
        loop {
            let struck = |fault: &Fault| {
                matches!(
                    fault,
                    Fault::Fail(_)
                        | Fault::Close
                        | Fault::Meanwhile(_)
                        | Fault::NoBuffers
                        | Fault::Delay(_)
                )
            };
            // The kernel is not locked while a fault acts: it may well use it.
            let fault = self.kernel.lock().plan.due_if(at, struck);
            match fault {
                None => break,
                Some(Fault::Fail(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                Some(Fault::Close) => self.closed = true,
                Some(Fault::Meanwhile(act)) => act(&self.kernel),
                Some(Fault::NoBuffers) => return Err(Errno::NOBUFS.into()),
                Some(Fault::Delay(delay)) => {
                    self.delayed_until = Some(later(self.kernel.now(), delay));
                }
                Some(_) => {}
            }
        }
        if self.closed { Err(Errno::BADF.into()) } else { Ok(()) }
    }
}

impl Transport for Link {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.strike(Moment::Send)?;
        let mut state = self.kernel.lock();
        let fault = if self.exposed { state.plan.due(Moment::Send) } else { None };
        let refusal = match fault {
            Some(Fault::Refuse(errno)) => Some(match errno.saturating_abs() {
                number @ 1..=4095 => Errno::from_raw_os_error(number),
                _ => Errno::INVAL,
            }),
            _ => None,
        };
        self.socket.send(&mut state, datagram, refusal)?;
        if matches!(fault, Some(Fault::LoseAnswers)) {
            self.socket.lose_answers();
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received> {
        self.strike(Moment::Receive)?;
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
        let cut =
            if self.exposed { alter(&mut state, &mut self.socket, &mut datagram) } else { None };
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

/// Lets the faults that are due strike at a datagram that has arrived; returns where to cut it.
fn alter(state: &mut State, socket: &mut Socket, datagram: &mut Vec<u8>) -> Option<usize> {
    let ends = messages(datagram).any(|message| message_type(message) == NLMSG_DONE);
    let is_part = !ends && messages(datagram).any(|m| flags(m) & NLM_F_MULTIPART != 0);
    let fits = |fault: &Fault| match fault {
        Fault::FailListing(_) => ends,
        Fault::Interrupted | Fault::Split | Fault::Reorder => is_part,
        _ => true,
    };
    match state.plan.due_if(Moment::Arrival, fits)? {
        Fault::Truncate(length) => return Some(length),
        Fault::Stale => {
            // The answer to a request that the client has given up since.
            let sequence = sequence(datagram).wrapping_sub(LONG_PAST);
            come_first(socket, datagram, success(sequence, socket.port));
        }
        Fault::Foreign => {
            // Another socket has another port, and its sequence numbers lie elsewhere.
            let sequence = sequence(datagram) ^ 0x4000_0000;
            come_first(socket, datagram, success(sequence, socket.port.wrapping_add(1)));
        }
        Fault::UnknownType => {
            let mut out = Writer::default();
            let header = Header {
                message_type: UNKNOWN_TYPE,
                flags: 0,
                sequence: sequence(datagram),
                port: socket.port,
            };
            out.message(header, |_| {});
            out.bytes.append(datagram);
            *datagram = out.bytes;
        }
        Fault::FailListing(errno) => {
            let errno = errno.saturating_neg().to_ne_bytes();
            each_message(datagram, |message| {
                if message_type(message) == NLMSG_DONE {
                    message[HEADER..HEADER + 4].copy_from_slice(&errno);
                }
            });
        }
        Fault::Interrupted => each_message(datagram, |message| {
            let flags = (flags(message) | NLM_F_DUMP_INTR).to_ne_bytes();
            message[6..8].copy_from_slice(&flags);
        }),
        Fault::Split => scatter(socket, datagram, messages(datagram).map(<[u8]>::to_vec).collect()),
        Fault::Reorder => {
            let mut parts: Vec<_> = messages(datagram).map(<[u8]>::to_vec).collect();
            parts.reverse();
            scatter(socket, datagram, parts);
        }
        _ => {}
    }
    None
}

/// Puts a datagram ahead of the one that has arrived.
fn come_first(socket: &mut Socket, datagram: &mut Vec<u8>, first: Vec<u8>) {
    let later = std::mem::replace(datagram, first);
    socket.put_back([later].into_iter());
}

/// Lets several datagrams arrive instead of one.
fn scatter(socket: &mut Socket, datagram: &mut Vec<u8>, parts: Vec<Vec<u8>>) {
    let mut parts = parts.into_iter();
    if let Some(first) = parts.next() {
        *datagram = first;
    }
    socket.put_back(parts);
}

fn success(sequence: u32, port: u32) -> Vec<u8> {
    let mut out = Writer::default();
    let header = Header { message_type: NLMSG_ERROR, flags: NLM_F_CAPPED, sequence, port };
    out.message(header, |out| out.bytes.extend_from_slice(&[0; 4 + HEADER]));
    out.bytes
}

/// The messages of one of the kernel's datagrams.
fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (message, more) = rest.split_at_checked(length(rest)?)?;
        rest = more;
        Some(message)
    })
}

fn each_message(datagram: &mut [u8], mut change: impl FnMut(&mut [u8])) {
    let mut rest = datagram;
    while let Some(length) = length(rest) {
        let Some((message, more)) = rest.split_at_mut_checked(length) else { break };
        change(message);
        rest = more;
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    (length >= HEADER).then(|| length.next_multiple_of(4))
}

fn message_type(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[4], message[5]])
}

fn flags(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[6], message[7]])
}

fn sequence(datagram: &[u8]) -> u32 {
    datagram.get(8..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}
