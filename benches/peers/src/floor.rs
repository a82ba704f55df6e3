//! The floor, which is the cost of the kernel itself: requests are encoded beforehand, and nothing
//! of the answers is parsed but their ends. Operations go in windows with one acknowledgement each.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipvs_netlink::transport::{NetlinkSocket, Transport};
use ipvs_netlink::wire::{Command, Message};
use ipvs_netlink::{Operation, Ruleset};
use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::constants::GENL_ID_CTRL;

const HEADER: usize = 16;
/// The kernel makes parts of dumps as long as the receive buffer. Long parts are best for the dump
/// of all services, short ones for the dump of a few destinations (docs/performance.md).
const LONG_PARTS: usize = 64 * 1024;
const SHORT_PARTS: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(30);

/// A socket with requests that are ready to be sent.
pub struct Floor {
    socket: NetlinkSocket,
    family: u16,
    answer: Vec<u8>,
}

/// Operations as bytes, cut into windows.
pub struct Encoded {
    windows: Vec<(Vec<u8>, u32)>,
}

impl Floor {
    /// Opens a socket and asks for the number of the family.
    ///
    /// # Errors
    /// The kernel has no IPVS.
    pub fn open() -> anyhow::Result<Self> {
        Self::with_parts(SHORT_PARTS)
    }

    fn with_parts(receive_buffer: usize) -> anyhow::Result<Self> {
        let socket = NetlinkSocket::open()?;
        let mut floor =
            Self { socket, family: GENL_ID_CTRL, answer: Vec::with_capacity(receive_buffer) };
        let name = [&11u16.to_ne_bytes()[..], &2u16.to_ne_bytes(), b"IPVS\0\0\0\0"].concat();
        let name = [&9u16.to_ne_bytes()[..], &name[2..]].concat();
        let query = [&[3, 1, 0, 0], &name[..]].concat();
        let mut request = vec![0; HEADER + query.len()];
        request[HEADER..].copy_from_slice(&query);
        header(&mut request, GENL_ID_CTRL, NLM_F_REQUEST, 1);
        floor.socket.send(&request)?;
        floor.receive()?;
        // The family's number is in an attribute of kind 1.
        let attributes = floor.answer.get(HEADER + 4..).context("no answer")?;
        let mark = [&6u16.to_ne_bytes()[..], &1u16.to_ne_bytes()].concat();
        let at = attributes.windows(4).position(|window| window == mark);
        let at = at.context("this kernel has no IPVS; in QEMU: cargo xtask bench")?;
        floor.family = u16::from_ne_bytes([attributes[at + 4], attributes[at + 5]]);
        Ok(floor)
    }

    /// Encodes operations, `window` of them for each send.
    pub fn encode(&self, operations: &[Operation], window: usize) -> Encoded {
        let mut sequence = 100;
        let windows = operations.chunks(window).map(|operations| {
            let mut bytes = Vec::new();
            for (index, operation) in operations.iter().enumerate() {
                sequence += 1;
                let last = index + 1 == operations.len();
                let flags = if last { NLM_F_REQUEST | NLM_F_ACK } else { NLM_F_REQUEST };
                append(&mut bytes, &operation.message(), self.family, flags, sequence);
            }
            (bytes, sequence)
        });
        Encoded { windows: windows.collect() }
    }

    /// Sends what was encoded; everything must succeed.
    ///
    /// # Errors
    /// An operation failed.
    pub fn run(&mut self, encoded: &Encoded) -> anyhow::Result<()> {
        for (bytes, last) in &encoded.windows {
            self.socket.send(bytes)?;
            self.receive()?;
            let answer = NetlinkBuffer::new_checked(&self.answer[..])?;
            ensure!(answer.sequence_number() == *last, "an operation failed");
            ensure!(self.answer[HEADER..HEADER + 4] == [0; 4], "an operation failed");
        }
        Ok(())
    }

    /// Encodes the dumps that read a whole table with these rules: of the services, and of the
    /// destinations of each.
    pub fn encode_dumps(&self, rules: &Ruleset) -> Vec<Vec<u8>> {
        let destinations = |key| Message::new(Command::GetDest).service(key);
        let keys = rules.services().map(|rules| &rules.service().key);
        let messages =
            std::iter::once(Message::new(Command::GetService)).chain(keys.map(destinations));
        let encode = |(sequence, message)| {
            let mut bytes = Vec::new();
            append(&mut bytes, &message, self.family, NLM_F_REQUEST | NLM_F_DUMP, sequence);
            bytes
        };
        (100..).zip(messages).map(encode).collect()
    }

    /// Runs the dumps of [`encode_dumps`](Self::encode_dumps). Returns how many messages came.
    ///
    /// # Errors
    /// A dump failed.
    pub fn read(&mut self, dumps: &[Vec<u8>]) -> anyhow::Result<usize> {
        let (services, destinations) = dumps.split_at(1);
        Ok(Self::with_parts(LONG_PARTS)?.dump(services)? + self.dump(destinations)?)
    }

    fn dump(&mut self, dumps: &[Vec<u8>]) -> anyhow::Result<usize> {
        let mut messages = 0;
        for request in dumps {
            self.socket.send(request)?;
            let mut done = false;
            while !done {
                self.receive()?;
                let mut rest = &self.answer[..];
                while !rest.is_empty() {
                    let message = NetlinkBuffer::new_checked(rest)?;
                    ensure!(message.message_type() != NLMSG_ERROR, "a dump failed");
                    done = message.message_type() == NLMSG_DONE;
                    messages += usize::from(!done);
                    let length = usize::try_from(message.length())?.next_multiple_of(4);
                    rest = rest.get(length..).unwrap_or_default();
                }
            }
        }
        Ok(messages)
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        self.answer.clear();
        self.socket.receive(&mut self.answer, Instant::now() + PATIENCE)?;
        Ok(())
    }
}

fn append(bytes: &mut Vec<u8>, message: &Message, family: u16, flags: u16, sequence: u32) {
    let message = GenlMessage::from_payload(*message);
    let start = bytes.len();
    bytes.resize(start + HEADER + message.buffer_len(), 0);
    message.emit(&mut bytes[start + HEADER..]);
    header(&mut bytes[start..], family, flags, sequence);
}

fn header(message: &mut [u8], message_type: u16, flags: u16, sequence: u32) {
    let length = u32::try_from(message.len()).expect("a short message");
    let mut buffer = NetlinkBuffer::new(message);
    buffer.set_length(length);
    buffer.set_message_type(message_type);
    buffer.set_flags(flags);
    buffer.set_sequence_number(sequence);
    buffer.set_port_number(0);
}
