//! The encoder: writes requests into datagrams, and numbers them.

use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};

use super::{Exchange, Operation, Request};
use crate::uapi::Command;
use crate::uapi::ipvs::{FAMILY_NAME, FAMILY_VERSION};
use crate::uapi::netlink::{FLAGS_OFFSET, GENERIC_HEADER_LENGTH, GENL_ID_CTRL, HEADER_LENGTH};
use crate::wire::{Payload, Sink, Slice, Written};

/// A number that no family has: the kernel answers a message of it with `ENOENT`. It would
/// acknowledge a message of type 0 without running it.
const NO_FAMILY: u16 = u16::MAX;
/// The length of the longest message, in bytes.
pub(crate) const LONGEST_MESSAGE: usize = HEADER_LENGTH + GENERIC_HEADER_LENGTH + Payload::LONGEST;
/// The question for the family has no payload of IPVS, and is shorter: one attribute, with the
/// family's name.
const _: () = assert!(2 * FAMILY_NAME.len() + 8 < Payload::LONGEST);

/// Encodes requests and numbers them.
///
/// One encoder lives as long as its client. Its sequence numbers repeat only after some four
/// thousand million requests: late answers to an abandoned exchange can be told from those to the
/// next.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    family: Option<u16>,
    sequence: u32,
    /// Kept from request to request, and as long as the longest datagram so far.
    buffer: Vec<u8>,
    /// How many bytes of the buffer are to be sent.
    length: usize,
    /// Where the last message starts.
    last: usize,
}

impl Encoder {
    /// The number of the IPVS family, once it is known.
    pub(crate) fn family(&self) -> Option<u16> {
        self.family
    }

    pub(crate) fn set_family(&mut self, family: Option<u16>) {
        self.family = family;
    }

    /// Encodes a question; the datagram is [`Encoder::outgoing`]. The family must be known, except
    /// to ask for it.
    pub(crate) fn question(&mut self, request: &Request) -> Exchange {
        self.length = 0;
        let dump = request.is_dump();
        let flags = NLM_F_REQUEST | NLM_F_ACK | if dump { NLM_F_DUMP } else { 0 };
        let message_type = match request.payload() {
            Some(payload) => self.append(flags, &payload),
            None => self.append_family_query(flags),
        };
        Exchange { sequence: self.sequence, message_type, dump }
    }

    /// Starts a datagram of operations, whose sequence numbers follow each other from the one
    /// returned.
    pub(super) fn begin_operations(&mut self) -> u32 {
        self.length = 0;
        // The numbers start over before the end of their range, so that no window runs across it.
        if self.sequence > u32::MAX / 2 {
            self.sequence = 0;
        }
        self.sequence + 1
    }

    /// Encodes one more operation. The kernel answers it only if it fails.
    #[inline]
    pub(super) fn append_operation(&mut self, operation: &Operation) {
        self.append(NLM_F_REQUEST, &operation.payload());
    }

    /// Leaves out an operation, and its sequence number with it.
    pub(super) fn leave_out(&mut self) {
        self.sequence += 1;
    }

    /// Asks for an acknowledgement of the last operation.
    pub(super) fn acknowledge_last(&mut self) {
        let last = self.buffer.get_mut(self.last + FLAGS_OFFSET..).unwrap_or_default();
        if let Some(flags) = last.first_chunk_mut() {
            *flags = (NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes();
        }
    }

    /// Appends a question with one answer. Once the answer has arrived, all operations before it
    /// are done.
    pub(super) fn append_short_question(&mut self) {
        self.append(NLM_F_REQUEST, &Payload::new(Command::GetInfo));
    }

    /// The number of bytes to send.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The bytes to send.
    #[inline]
    pub(crate) fn outgoing(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }

    /// Appends a message of the family; returns the family's number.
    #[inline]
    fn append(&mut self, flags: u16, payload: &Payload<'_>) -> u16 {
        let family = self.family.unwrap_or(NO_FAMILY);
        self.append_message(family, flags, |slice| {
            slice.put([payload.command.number(), FAMILY_VERSION, 0, 0])?;
            payload.encode(slice)
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
        self.append_message(GENL_ID_CTRL, flags, |slice| slice.put_slice(&bytes));
        GENL_ID_CTRL
    }

    #[inline]
    fn append_message(
        &mut self,
        message_type: u16,
        flags: u16,
        encode: impl FnOnce(&mut Slice<'_>) -> Written,
    ) {
        // The kernel's own notifications have the number 0.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.last = self.length;
        if self.buffer.len() - self.length < LONGEST_MESSAGE {
            self.grow();
        }
        // The buffer has room for the longest message, and none of these bytes is missing.
        let rest = self.buffer.get_mut(self.length..).unwrap_or_default();
        let room = rest.len();
        let mut slice = Slice::new(rest);
        let Some(header) = slice.take::<HEADER_LENGTH>() else { return };
        if encode(&mut slice).is_none() {
            return;
        }
        let length = room - slice.left();
        // Every message has whole words, which aligns the next one.
        let [l0, l1, l2, l3] = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes();
        let ([t0, t1], [f0, f1]) = (message_type.to_ne_bytes(), flags.to_ne_bytes());
        let [s0, s1, s2, s3] = self.sequence.to_ne_bytes();
        *header = [l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, 0, 0, 0, 0];
        self.length += length;
    }

    #[cold]
    fn grow(&mut self) {
        let length = (2 * self.buffer.len()).max(self.length + LONGEST_MESSAGE);
        self.buffer.resize(length, 0);
    }
}
