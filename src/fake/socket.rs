//! A netlink socket in the kernel: its requests, its queue of answers, and its running listing.

use std::collections::VecDeque;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_ECHO, NLM_F_MULTIPART, NLM_F_REQUEST, NLMSG_DONE,
};

use super::context::Context;
use super::dump::{Dump, Listed};
use super::host::Host;
use super::kernel::State;
use super::policy::{ExtendedAck, Parsed, Span};
use super::request::{self, REQUEST};
use super::writer::{Header, Writer};
use super::{acknowledgement, nlctrl};
use crate::uapi::Command;
use crate::uapi::Errno;
use crate::uapi::netlink::nlctrl::GET_FAMILY;
use crate::uapi::netlink::{
    DEFAULT_BUFFER, GENERIC_HEADER_LENGTH, GENL_ID_CTRL, HEADER_LENGTH, LONGEST_PART, SEND_OVERHEAD,
};

/// The length of the first part of a listing on a fresh socket.
const SMALL_PART: usize = 3_776;
/// The bytes that the kernel keeps in addition to those of a datagram.
const SHARED: usize = 320;
const OVERHEAD: usize = 256;

/// The length of both headers of a request.
const HEADERS: usize = HEADER_LENGTH + GENERIC_HEADER_LENGTH;
/// The lowest message type of a family; lower ones are netlink's own.
const FIRST_FAMILY: u16 = GENL_ID_CTRL;
/// The first command for which the kernel checks the reserved bits of the header. It checks
/// commands that are newer than the check itself, as none of today's commands of IPVS is.
const FIRST_STRICT_COMMAND: u8 = Command::Flush.number() + 1;
const FIRST_STRICT_COMMAND_OF_NLCTRL: u8 = 11;

/// A datagram in the queue, and the bytes that it takes of the receive buffer.
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
    /// Whether an answer was dropped: then all later answers are dropped, too, until the queue is
    /// empty.
    congested: bool,
    /// The error that the next receive returns, ahead of the queue.
    error: Option<Errno>,
    largest_receive: usize,
    dump: Option<Dump>,
    /// Buffers that can be used again.
    spare: Vec<Vec<u8>>,
}

/// A message, with the values of its header.
#[derive(Clone, Copy)]
struct RawRequest<'a> {
    message: &'a [u8],
    header: &'a [u8; HEADER_LENGTH],
    message_type: u16,
    flags: u16,
    sequence: u32,
}

impl<'a> RawRequest<'a> {
    /// The next message of a datagram.
    fn split(rest: &mut &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER_LENGTH] = rest.first_chunk()?;
        let &[l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, ..] = header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER_LENGTH)?;
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

/// The answer to a request that succeeded.
enum Reply {
    Acknowledge,
    /// A listing, whose end mark stands for the acknowledgement.
    List,
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

    /// Takes a datagram of requests. With a `refusal` none of them is carried out, and each is
    /// answered with that error.
    pub(super) fn send(
        &mut self,
        state: &mut State,
        datagram: &[u8],
        refusal: Option<Errno>,
    ) -> Result<(), Errno> {
        if datagram.is_empty() {
            return Err(Errno::NODATA);
        }
        if datagram.len() > DEFAULT_BUFFER - SEND_OVERHEAD {
            return Err(Errno::MSGSIZE);
        }
        let mut rest = datagram;
        while let Some(request) = RawRequest::split(&mut rest) {
            let mut ack = ExtendedAck::default();
            let is_request =
                request.flags & NLM_F_REQUEST != 0 && request.message_type >= FIRST_FAMILY;
            let outcome = match refusal {
                Some(errno) => Err(errno),
                None if is_request => self.generic(state, request, &mut ack),
                None => Ok(Reply::Acknowledge),
            };
            let errno = match outcome {
                Ok(Reply::List) => continue,
                Ok(Reply::Acknowledge) => 0,
                Err(errno) => errno.number(),
            };
            if request.flags & NLM_F_ACK != 0 || errno != 0 {
                let mut out = self.writer();
                acknowledgement::write(&mut out, self.port, request.header, errno, &ack);
                self.answer(&state.host, out);
            }
        }
        Ok(())
    }

    /// Handles a request of generic netlink, with the checks in the kernel's order.
    fn generic(
        &mut self,
        state: &mut State,
        request: RawRequest<'_>,
        ack: &mut ExtendedAck,
    ) -> Result<Reply, Errno> {
        let is_nlctrl = request.message_type == GENL_ID_CTRL;
        if !is_nlctrl && state.host.family != Some(request.message_type) {
            return Err(Errno::NOENT);
        }
        let &[.., command, _, r0, r1] =
            request.message.first_chunk::<HEADERS>().ok_or(Errno::INVAL)?;
        let first_strict =
            if is_nlctrl { FIRST_STRICT_COMMAND_OF_NLCTRL } else { FIRST_STRICT_COMMAND };
        let dump = request.flags & NLM_F_DUMP == NLM_F_DUMP;
        if state.host.checks_headers && command >= first_strict {
            let flags = if dump { request.flags & !NLM_F_DUMP } else { request.flags };
            if r0 | r1 != 0 {
                ack.message = Some("genlmsghdr.reserved field is not 0");
                return Err(Errno::INVAL);
            }
            if flags & !(NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO) != 0 {
                ack.message = Some("ambiguous or reserved bits set in nlmsg_flags");
                return Err(Errno::INVAL);
            }
        }
        let attributes =
            Span { bytes: request.message.get(HEADERS..).unwrap_or_default(), offset: HEADERS };
        let mut header = Header {
            message_type: request.message_type,
            flags: 0,
            sequence: request.sequence,
            port: self.port,
        };
        if is_nlctrl {
            if command != GET_FAMILY {
                return Err(Errno::OPNOTSUPP);
            }
            if dump {
                header.flags = NLM_F_MULTIPART;
                return self.begin_dump(state, Dump { header, what: Listed::Families, listed: 0 });
            }
            let mut out = self.writer();
            let host = &state.host;
            let done = nlctrl::get_family(host, attributes, header, ack, &mut out);
            self.answer(&state.host, out);
            return done.map(|()| Reply::Acknowledge);
        }
        let (command, kinds) = request::command(command).ok_or(Errno::OPNOTSUPP)?;
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
            let what = Listed::by(command, attributes.bytes)?;
            return self.begin_dump(state, Dump { header, what, listed: 0 });
        }
        let attributes = Parsed::read(attributes, &REQUEST, ack)?;
        let mut out = self.writer();
        let State { host, table, now, .. } = &mut *state;
        let mut context = Context { host, table, now: *now, ack, header, out: &mut out };
        let done = context.run(command, &attributes);
        self.answer(&state.host, out);
        done.map(|()| Reply::Acknowledge)
    }

    fn begin_dump(&mut self, state: &mut State, dump: Dump) -> Result<Reply, Errno> {
        if self.dump.is_some() {
            return Err(Errno::BUSY);
        }
        self.dump = Some(dump);
        let charge = charge(&state.host, self.part_limit());
        if self.used > 0 && self.used + charge >= DEFAULT_BUFFER {
            // Only this request fails: the listing goes on as soon as an answer is read.
            return Err(Errno::NOBUFS);
        }
        self.continue_dump(state);
        Ok(Reply::List)
    }

    fn part_limit(&self) -> usize {
        self.largest_receive.max(SMALL_PART)
    }

    /// Makes the next part of the running listing, or its end mark.
    fn continue_dump(&mut self, state: &mut State) {
        let limit = self.part_limit();
        let mut out = self.writer();
        let mut ack = ExtendedAck::default();
        let Some(dump) = &mut self.dump else { return };
        dump.part(&state.host, &state.table, limit, &mut ack, &mut out);
        if out.bytes.is_empty() {
            let extended = if ack.message.is_some() { NLM_F_ACK_TLVS } else { 0 };
            let flags = NLM_F_MULTIPART | extended;
            let header = Header { message_type: NLMSG_DONE, flags, ..dump.header };
            out.message(header, |out| {
                out.bytes.extend_from_slice(&0i32.to_ne_bytes());
                acknowledgement::message(out, &ack);
            });
            self.dump = None;
        }
        let charge = charge(&state.host, limit);
        self.used += charge;
        self.queue.push_back(Queued { bytes: out.bytes, charge });
    }

    /// Takes the next datagram from the queue; `room` is the size of the caller's buffer.
    pub(super) fn receive(&mut self, state: &mut State, room: usize) -> Result<Vec<u8>, Errno> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let Queued { bytes, charge } = self.queue.pop_front().ok_or(Errno::AGAIN)?;
        self.largest_receive = self.largest_receive.max(room).min(LONGEST_PART);
        self.used -= charge;
        if self.dump.is_some() && self.used <= DEFAULT_BUFFER / 2 {
            self.continue_dump(state);
        }
        if self.queue.is_empty() {
            self.congested = false;
        }
        Ok(bytes)
    }

    /// Puts datagrams back at the front of the queue, in the order in which they are to be read.
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

    /// Drops the answers in the queue, as if the receive buffer had lacked room for them.
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

    /// Queues an answer if the receive buffer has room for it.
    fn answer(&mut self, host: &Host, out: Writer) {
        if out.bytes.is_empty() {
            return self.recycle(out.bytes);
        }
        let charge = charge(host, out.bytes.len());
        let has_room = self.used == 0 || self.used.saturating_add(charge) <= DEFAULT_BUFFER;
        if has_room && !self.congested {
            self.used = self.used.saturating_add(charge);
            self.queue.push_back(Queued { bytes: out.bytes, charge });
        } else if !self.congested {
            self.congested = true;
            self.error = Some(Errno::NOBUFS);
        }
    }
}

/// The bytes that a datagram of this size takes of the receive buffer: those of the piece of memory
/// that holds it. The sizes of pieces are powers of two, except for the smallest.
fn charge(host: &Host, length: usize) -> usize {
    let least = length.next_multiple_of(64) + SHARED;
    if least + OVERHEAD <= host.acknowledgement_size {
        host.acknowledgement_size
    } else {
        least.next_power_of_two() + OVERHEAD
    }
}
