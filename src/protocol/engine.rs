//! The engine: encodes requests, numbers them, and tells from datagrams how they ended.

use byteorder::{ByteOrder, NativeEndian};
use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_NOOP, NLMSG_OVERRUN,
};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};

use super::frame::{Content, Frames, HEADER_LENGTH};
use super::{Operation, Request};
use crate::error::Cause;
use crate::wire::uapi::{FAMILY_NAME, FAMILY_VERSION};
use crate::wire::{Command, DecodeError, Payload, Sink, Slice, for_each_attribute};

/// The controller of generic netlink, which knows all families: `GENL_ID_CTRL`.
const CONTROLLER: u16 = 0x10;
/// `CTRL_ATTR_FAMILY_ID`
const FAMILY_ID: u16 = 1;
const GENERIC_HEADER_LENGTH: usize = 4;
/// Where the flags are in a netlink header.
const FLAGS: usize = 6;
/// The number of no family: a message of it is answered with `ENOENT`. A message of type 0 would be
/// acknowledged, and not run.
const NO_FAMILY: u16 = u16::MAX;
/// A service of a long name and a long persistence engine, or a destination with a tunnel under a
/// service, has below 256 bytes with all headers.
pub(crate) const LONGEST_MESSAGE: usize = 256;

/// Encodes requests and numbers them.
///
/// One engine lives as long as its client: its sequence numbers never repeat within reach, so the
/// answers to an abandoned exchange are told from those of the next.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    family: Option<u16>,
    sequence: u32,
    /// Kept from request to request, and as long as the longest datagram so far.
    buffer: Vec<u8>,
    /// How much of the buffer is to be sent.
    length: usize,
    /// Where the last message starts.
    last: usize,
    last_may_stay_unanswered: bool,
}

/// A question under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exchange {
    sequence: u32,
    message_type: u16,
    dump: bool,
}

/// A message that answers an exchange.
pub(crate) struct Answer<'a> {
    pub(crate) command: u8,
    pub(crate) attributes: &'a [u8],
    /// How many more of its length the datagram has at most.
    pub(crate) more: usize,
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The datagram had nothing to do with it.
    None,
    /// More is to come.
    Some,
    /// It has ended.
    Finished,
}

/// What a finished exchange came to: an exchange fails by its content, or by the kernel's word.
pub(crate) type Outcome = Result<Progress, Cause>;

impl Engine {
    /// The number of the IPVS family, once known.
    pub(crate) fn family(&self) -> Option<u16> {
        self.family
    }

    pub(crate) fn set_family(&mut self, family: Option<u16>) {
        self.family = family;
    }

    /// Encodes a question; the datagram is [`Engine::outgoing`]. The family must be known, except
    /// to ask for it.
    pub(crate) fn begin(&mut self, request: &Request) -> Exchange {
        self.length = 0;
        let dump = request.is_dump();
        let flags = NLM_F_REQUEST | NLM_F_ACK | if dump { NLM_F_DUMP } else { 0 };
        let message_type = match request.payload() {
            Some(payload) => self.append(flags, &payload),
            None => self.append_family_query(flags),
        };
        Exchange { sequence: self.sequence, message_type, dump }
    }

    /// Starts encoding a window of operations, whose sequence numbers follow each other from the
    /// one returned.
    pub(crate) fn begin_window(&mut self) -> u32 {
        self.length = 0;
        self.last_may_stay_unanswered = false;
        // Starts over early, so that the numbers of no window reach the end.
        if self.sequence > u32::MAX / 2 {
            self.sequence = 0;
        }
        self.sequence + 1
    }

    /// Encodes one more operation of a window.
    #[inline]
    pub(crate) fn append_operation(&mut self, operation: &Operation) {
        self.append(NLM_F_REQUEST, &operation.payload());
        self.last_may_stay_unanswered = may_stay_unanswered(operation);
    }

    /// Leaves out an operation of a window, and the number it would have had.
    pub(crate) fn leave_out(&mut self) {
        self.sequence += 1;
    }

    /// Has the last operation of a window acknowledged; the kernel reports the others if they fail.
    pub(crate) fn end_window(&mut self) {
        let flags = self.last + FLAGS;
        NativeEndian::write_u16(&mut self.buffer[flags..], NLM_F_REQUEST | NLM_F_ACK);
        if self.last_may_stay_unanswered {
            // A question of one answer, after which all before it is done.
            self.append(NLM_F_REQUEST, &Payload::new(Command::GetInfo));
        }
    }

    /// What is to be sent.
    #[inline]
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// Appends a message of the family; returns the family's number.
    #[inline]
    fn append(&mut self, flags: u16, payload: &Payload<'_>) -> u16 {
        let family = self.family.unwrap_or(NO_FAMILY);
        self.append_message(family, flags, |slice| {
            slice.put([payload.command.number(), FAMILY_VERSION, 0, 0]);
            payload.encode(slice);
        });
        family
    }

    fn append_family_query(&mut self, flags: u16) -> u16 {
        let query = GenlMessage::from_payload(GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY_NAME.to_owned())],
        });
        let mut bytes = vec![0; query.buffer_len()];
        query.emit(&mut bytes);
        self.append_message(CONTROLLER, flags, |slice| slice.put_slice(&bytes));
        CONTROLLER
    }

    #[inline]
    fn append_message(
        &mut self,
        message_type: u16,
        flags: u16,
        encode: impl FnOnce(&mut Slice<'_>),
    ) {
        // 0 is what the kernel's own notifications carry.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.last = self.length;
        if self.buffer.len() - self.length < LONGEST_MESSAGE {
            self.grow();
        }
        let (header, rest) = self.buffer[self.length..].split_at_mut(HEADER_LENGTH);
        let room = rest.len();
        let mut slice = Slice::new(rest);
        encode(&mut slice);
        let length = HEADER_LENGTH + room - slice.left();
        // Every message has whole words, so the next one is aligned.
        NativeEndian::write_u32(&mut header[..4], u32::try_from(length).unwrap_or(u32::MAX));
        NativeEndian::write_u16(&mut header[4..6], message_type);
        NativeEndian::write_u16(&mut header[FLAGS..], flags);
        NativeEndian::write_u32(&mut header[8..12], self.sequence);
        NativeEndian::write_u32(&mut header[12..16], 0);
        self.length += length;
    }

    #[cold]
    fn grow(&mut self) {
        let length = (2 * self.buffer.len()).max(self.length + LONGEST_MESSAGE);
        self.buffer.resize(length, 0);
    }
}

impl Exchange {
    /// Takes a datagram: calls `each` with every message that answers this exchange, and skips those
    /// that answer another.
    ///
    /// # Errors
    /// The exchange has failed: by the kernel's word, by a datagram that cannot be read, or by
    /// `each`.
    pub(crate) fn absorb(
        &self,
        datagram: &[u8],
        mut each: impl FnMut(Answer<'_>) -> Result<(), DecodeError>,
    ) -> Outcome {
        let mut progress = Progress::None;
        let mut frames = Frames::new(datagram);
        while let Some(frame) = frames.next() {
            let frame = frame?;
            if frame.sequence != self.sequence {
                continue;
            }
            progress = Progress::Some;
            if frame.is_interrupted() {
                return Err(Cause::Interrupted);
            }
            match frame.content()? {
                Content::Status { errno: 0, .. } if self.dump => {}
                Content::Status { errno: 0, .. } | Content::Done { errno: 0 } => {
                    return Ok(Progress::Finished);
                }
                Content::Status { errno, message } => return Err(Cause::Kernel { errno, message }),
                Content::Done { errno } => return Err(Cause::Kernel { errno, message: None }),
                Content::Payload(payload) if frame.message_type == self.message_type => {
                    let (&[command, ..], attributes) =
                        payload.split_first_chunk::<GENERIC_HEADER_LENGTH>().ok_or_else(|| {
                            DecodeError::Framing("a message has no header".to_owned())
                        })?;
                    let more = frames.left() / (HEADER_LENGTH + payload.len());
                    each(Answer { command, attributes, more })?;
                }
                Content::Payload(_) => match frame.message_type {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(Cause::Lost),
                    other => {
                        let text = format!("a message of the unknown type {other}");
                        return Err(DecodeError::Framing(text).into());
                    }
                },
            }
        }
        Ok(progress)
    }

    pub(crate) fn is_dump(&self) -> bool {
        self.dump
    }
}

/// Whether the kernel may do what is asked and not answer: it waits for the thread of a sync daemon
/// to end, and where that had not run yet the wait fails with `EINTR`, which netlink does not report.
fn may_stay_unanswered(operation: &Operation) -> bool {
    matches!(operation, Operation::StopDaemon(_))
}

/// The number of the family in the controller's answer.
pub(crate) fn family_id(attributes: &[u8]) -> Result<u16, DecodeError> {
    let mut family = None;
    for_each_attribute(attributes, |kind, value| {
        if let (FAMILY_ID, Some(&bytes)) = (kind, value.first_chunk()) {
            family = Some(u16::from_ne_bytes(bytes));
        }
        Ok(())
    })?;
    family.ok_or(DecodeError::Missing("FAMILY_ID"))
}
