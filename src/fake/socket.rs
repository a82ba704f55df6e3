//! A netlink socket: its requests, its queue of answers, and its running listing.

use std::collections::VecDeque;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_ECHO, NLM_F_MULTIPART, NLM_F_REQUEST, NLMSG_DONE,
};
use rustix::io::Errno;

use super::acknowledgement;
use super::commands::{self, Context, TOP, Top};
use super::controller;
use super::dump::{Dump, What};
use super::host::Host;
use super::kernel::State;
use super::policy::{Bytes, Report};
use super::writer::{Header, Writer};
use crate::wire::Command;

/// The default receive buffer and send buffer, in bytes as the kernel accounts them.
const BUFFER: usize = 212_992;
/// What of the send buffer a message cannot have.
const SEND_OVERHEAD: usize = 32;
/// The first part of a listing on a fresh socket.
const SMALL_PART: usize = 3_776;
/// The largest part, whatever the receive buffers.
const LARGEST_PART: usize = 32_448;
/// What the kernel keeps beside the bytes of a datagram.
const SHARED: usize = 320;
const OVERHEAD: usize = 256;

const HEADER: usize = 16;
const GENERIC_HEADER: usize = 20;
/// Message types below are netlink's own.
const FIRST_FAMILY: u16 = 0x10;

/// A datagram in the queue, and what it is accounted for.
#[derive(Debug)]
struct Queued {
    bytes: Vec<u8>,
    charge: usize,
}

/// The kernel's end of a link.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) port: u32,
    queue: VecDeque<Queued>,
    used: usize,
    /// Answers were dropped, and more will be until the queue is empty.
    congested: bool,
    /// What the next receive fails with, before it looks at the queue.
    error: Option<Errno>,
    largest_receive: usize,
    dump: Option<Dump>,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
}

/// A message's header.
#[derive(Clone, Copy)]
struct Request<'a> {
    message: &'a [u8],
    header: &'a [u8; HEADER],
    message_type: u16,
    flags: u16,
    sequence: u32,
}

impl<'a> Request<'a> {
    /// The next message of a datagram.
    fn split(rest: &mut &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER] = rest.first_chunk()?;
        let &[l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, ..] = header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
        *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Self {
            message,
            header,
            message_type: u16::from_ne_bytes([t0, t1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        })
    }
}

/// What came of a request.
enum Done {
    /// It succeeded.
    Yes,
    /// A listing has begun, whose end mark stands for an acknowledgement.
    Later,
}

impl Socket {
    pub(super) fn new(port: u32) -> Self {
        Self {
            port,
            queue: VecDeque::new(),
            used: 0,
            congested: false,
            error: None,
            largest_receive: 0,
            dump: None,
            spare: Vec::new(),
        }
    }

    /// Takes a datagram of requests. `refusal` is an error to answer them with instead of doing
    /// them.
    pub(super) fn send(
        &mut self,
        state: &mut State,
        datagram: &[u8],
        refusal: Option<Errno>,
    ) -> Result<(), Errno> {
        if datagram.is_empty() {
            return Err(Errno::NODATA);
        }
        if datagram.len() > BUFFER - SEND_OVERHEAD {
            return Err(Errno::MSGSIZE);
        }
        let mut rest = datagram;
        while let Some(request) = Request::split(&mut rest) {
            let mut report = Report::default();
            let is_request =
                request.flags & NLM_F_REQUEST != 0 && request.message_type >= FIRST_FAMILY;
            let outcome = match refusal {
                Some(errno) => Err(errno),
                None if is_request => self.generic(state, request, &mut report),
                None => Ok(Done::Yes),
            };
            let errno = match outcome {
                Ok(Done::Later) => continue,
                Ok(Done::Yes) => 0,
                Err(errno) => errno.raw_os_error(),
            };
            if request.flags & NLM_F_ACK != 0 || errno != 0 {
                let mut out = self.writer();
                acknowledgement::write(&mut out, self.port, request.header, errno, &report);
                self.answer(&state.host, out);
            }
        }
        Ok(())
    }

    /// A request of generic netlink, checked in its order.
    fn generic(
        &mut self,
        state: &mut State,
        request: Request<'_>,
        report: &mut Report,
    ) -> Result<Done, Errno> {
        let is_controller = request.message_type == controller::FAMILY;
        if !is_controller && state.host.family != Some(request.message_type) {
            return Err(Errno::NOENT);
        }
        let &[.., command, _, r0, r1] =
            request.message.first_chunk::<GENERIC_HEADER>().ok_or(Errno::INVAL)?;
        let first_strict = if is_controller {
            controller::FIRST_STRICT_COMMAND
        } else {
            Command::Flush.number() + 1
        };
        let dump = request.flags & NLM_F_DUMP == NLM_F_DUMP;
        if state.host.checks_headers && command >= first_strict {
            let flags = if dump { request.flags & !NLM_F_DUMP } else { request.flags };
            if r0 | r1 != 0 {
                report.message = Some("genlmsghdr.reserved field is not 0");
                return Err(Errno::INVAL);
            }
            if flags & !(NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO) != 0 {
                report.message = Some("ambiguous or reserved bits set in nlmsg_flags");
                return Err(Errno::INVAL);
            }
        }
        let attributes = Bytes {
            bytes: request.message.get(GENERIC_HEADER..).unwrap_or_default(),
            offset: GENERIC_HEADER,
        };
        let mut header = Header {
            message_type: request.message_type,
            flags: 0,
            sequence: request.sequence,
            port: self.port,
        };
        if is_controller {
            if command != controller::GET_FAMILY {
                return Err(Errno::OPNOTSUPP);
            }
            if dump {
                header.flags = NLM_F_MULTIPART;
                return self.begin_dump(state, Dump { header, what: What::Families, listed: 0 });
            }
            let mut out = self.writer();
            let host = &state.host;
            let done = controller::get_family(host, attributes, header, report, &mut out);
            self.answer(&state.host, out);
            return done.map(|()| Done::Yes);
        }
        let (command, kinds) = commands::kinds(command).ok_or(Errno::OPNOTSUPP)?;
        let Host { privileged, checks_permission_first, .. } = state.host;
        if !privileged && checks_permission_first {
            return Err(Errno::PERM);
        }
        if !(if dump { kinds.dump } else { kinds.once }) {
            return Err(Errno::OPNOTSUPP);
        }
        if !privileged {
            return Err(Errno::PERM);
        }
        if dump {
            header.flags = NLM_F_MULTIPART;
            let what = What::of(command, attributes.bytes);
            return self.begin_dump(state, Dump { header, what, listed: 0 });
        }
        let attributes = Top::read(attributes, &TOP, report)?;
        let mut out = self.writer();
        let State { host, table, now, .. } = &mut *state;
        let mut context = Context { host, table, now: *now };
        let done = context.run(command, &attributes, header, report, &mut out);
        self.answer(&state.host, out);
        done.map(|()| Done::Yes)
    }

    fn begin_dump(&mut self, state: &mut State, dump: Dump) -> Result<Done, Errno> {
        if self.dump.is_some() {
            return Err(Errno::BUSY);
        }
        self.dump = Some(dump);
        let charge = charge(&state.host, self.part_limit());
        if self.used > 0 && self.used + charge >= BUFFER {
            // The error is for this request; the listing goes on as soon as something is read.
            return Err(Errno::NOBUFS);
        }
        self.continue_dump(state);
        Ok(Done::Later)
    }

    fn part_limit(&self) -> usize {
        self.largest_receive.max(SMALL_PART)
    }

    /// Makes the next part of the running listing, or its end mark.
    fn continue_dump(&mut self, state: &mut State) {
        let limit = self.part_limit();
        let mut out = self.writer();
        let mut report = Report::default();
        let Some(dump) = &mut self.dump else { return };
        dump.part(state, limit, &mut report, &mut out);
        if out.bytes.is_empty() {
            let extended = if report.message.is_some() { NLM_F_ACK_TLVS } else { 0 };
            let flags = NLM_F_MULTIPART | extended;
            let header = Header { message_type: NLMSG_DONE, flags, ..dump.header };
            out.message(header, |out| {
                out.bytes.extend_from_slice(&0i32.to_ne_bytes());
                acknowledgement::message(out, &report);
            });
            self.dump = None;
        }
        let charge = charge(&state.host, limit);
        self.used += charge;
        self.queue.push_back(Queued { bytes: out.bytes, charge });
    }

    /// Takes the next datagram from the queue; `room` is how much the caller has for it.
    pub(super) fn receive(&mut self, state: &mut State, room: usize) -> Result<Vec<u8>, Errno> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let Queued { bytes, charge } = self.queue.pop_front().ok_or(Errno::AGAIN)?;
        self.largest_receive = self.largest_receive.max(room).min(LARGEST_PART);
        self.used -= charge;
        if self.dump.is_some() && self.used <= BUFFER / 2 {
            self.continue_dump(state);
        }
        if self.queue.is_empty() {
            self.congested = false;
        }
        Ok(bytes)
    }

    /// Puts datagrams back, the first to be read first, ahead of what is queued.
    pub(super) fn put_back(&mut self, datagrams: impl DoubleEndedIterator<Item = Vec<u8>>) {
        for bytes in datagrams.rev() {
            self.queue.push_front(Queued { bytes, charge: 0 });
        }
    }

    /// Takes a buffer back to use it again.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < 4 {
            self.spare.push(buffer);
        }
    }

    /// Drops the answers in the queue, as if there had been no room for them.
    pub(super) fn lose_answers(&mut self) {
        self.queue.clear();
        self.used = 0;
        self.error = Some(Errno::NOBUFS);
    }

    fn writer(&mut self) -> Writer {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        Writer { bytes }
    }

    /// Queues an answer, unless there is no room for it.
    fn answer(&mut self, host: &Host, out: Writer) {
        if out.bytes.is_empty() {
            return self.recycle(out.bytes);
        }
        let charge = charge(host, out.bytes.len());
        let has_room = self.used == 0 || self.used.saturating_add(charge) <= BUFFER;
        if has_room && !self.congested {
            self.used = self.used.saturating_add(charge);
            self.queue.push_back(Queued { bytes: out.bytes, charge });
        } else if !self.congested {
            self.congested = true;
            self.error = Some(Errno::NOBUFS);
        }
    }
}

/// What a datagram of this size is accounted for: the piece of memory that it fits in. Those are
/// powers of two, but for the smallest.
fn charge(host: &Host, length: usize) -> usize {
    let least = length.next_multiple_of(64) + SHARED;
    if least + OVERHEAD <= host.acknowledgement_size {
        host.acknowledgement_size
    } else {
        least.next_power_of_two() + OVERHEAD
    }
}
