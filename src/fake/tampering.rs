//! Tampering with datagrams that have arrived from the kernel, as some [faults](super::Fault) do.

use netlink_packet_core::{
    NLM_F_CAPPED, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR,
};

use super::faults::{Arrived, DatagramFault, PendingFaults};
use super::socket::Socket;
use super::writer::{Header, Writer};
use crate::uapi::netlink::HEADER_LENGTH;

/// How far back the sequence number of an old answer lies: further than any batch reaches.
const LONG_PAST: u32 = 4096;
/// A message type that neither netlink nor any family has.
const UNKNOWN_TYPE: u16 = 0xf;

/// Lets a due fault strike at a datagram that has arrived; returns the length to cut it to.
pub(super) fn tamper(
    faults: &mut PendingFaults,
    socket: &mut Socket,
    datagram: &mut Vec<u8>,
) -> Option<usize> {
    match faults.at(arrived(datagram))? {
        DatagramFault::Truncate(length) => return Some(length),
        DatagramFault::Stale => {
            // The answer to an earlier request, which the client has given up since.
            let sequence = sequence(datagram).wrapping_sub(LONG_PAST);
            come_first(socket, datagram, success(sequence, socket.port));
        }
        DatagramFault::Foreign => {
            // Another socket has another port and other sequence numbers.
            let sequence = sequence(datagram) ^ 0x4000_0000;
            come_first(socket, datagram, success(sequence, socket.port.wrapping_add(1)));
        }
        DatagramFault::UnknownType => {
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
        DatagramFault::FailListing(errno) => {
            let errno = errno.saturating_neg().to_ne_bytes();
            each_message(datagram, |message| {
                if message_type(message) == NLMSG_DONE {
                    message[HEADER_LENGTH..HEADER_LENGTH + 4].copy_from_slice(&errno);
                }
            });
        }
        DatagramFault::Interrupted => each_message(datagram, |message| {
            let flags = (flags(message) | NLM_F_DUMP_INTR).to_ne_bytes();
            message[6..8].copy_from_slice(&flags);
        }),
        DatagramFault::Split => {
            scatter(socket, datagram, messages(datagram).map(<[u8]>::to_vec).collect());
        }
        DatagramFault::Reorder => {
            let mut parts: Vec<_> = messages(datagram).map(<[u8]>::to_vec).collect();
            parts.reverse();
            scatter(socket, datagram, parts);
        }
    }
    None
}

fn arrived(datagram: &[u8]) -> Arrived {
    if messages(datagram).any(|message| message_type(message) == NLMSG_DONE) {
        Arrived::End
    } else if messages(datagram).any(|message| flags(message) & NLM_F_MULTIPART != 0) {
        Arrived::Part
    } else {
        Arrived::Answer
    }
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
    out.message(header, |out| out.bytes.extend_from_slice(&[0; 4 + HEADER_LENGTH]));
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
    (length >= HEADER_LENGTH).then(|| length.next_multiple_of(4))
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
