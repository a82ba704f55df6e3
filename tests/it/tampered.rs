//! A transport that edits datagrams before they are sent, for requests that the crate itself never
//! makes.

use std::io;
use std::time::Instant;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::transport::{Received, Transport};

use crate::subject::Subject;

/// Changes a datagram before it is sent.
type Edit = Box<dyn FnMut(&mut Vec<u8>) + Send>;

/// A connection to a kernel that edits each datagram before it is sent.
pub(crate) struct Tampered {
    transport: Box<dyn Transport>,
    edit: Edit,
}

impl Tampered {
    /// A client whose requests are edited. Its first request asks for the family.
    pub(crate) fn client(
        subject: &Subject,
        edit: impl FnMut(&mut Vec<u8>) + Send + 'static,
    ) -> anyhow::Result<Client> {
        let transport = subject.transport()?;
        Ok(Client::connect_with(Self { transport, edit: Box::new(edit) })?)
    }
}

impl Transport for Tampered {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let mut datagram = datagram.to_vec();
        (self.edit)(&mut datagram);
        self.transport.send(&datagram)
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received> {
        self.transport.receive(buffer, deadline)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.transport.reopen()
    }
}

/// The offset of a message's generic-netlink header, which begins with the command.
const COMMAND: usize = 16;
/// The offset of a message's attributes.
const ATTRIBUTES: usize = 20;

/// Whether the message is a request to the IPVS family with this command.
pub(crate) fn is_command(message: &[u8], command: u8) -> bool {
    let controller = message[4..6] == 0x10u16.to_ne_bytes();
    !controller && message[COMMAND] == command
}

/// Gives the message another command.
pub(crate) fn set_command(message: &mut [u8], command: u8) {
    message[COMMAND] = command;
}

/// Gives the message other attributes.
pub(crate) fn set_attributes(message: &mut Vec<u8>, attributes: &[u8]) {
    message.truncate(ATTRIBUTES);
    message.extend_from_slice(attributes);
    set_length(message);
}

/// Cuts the message off.
pub(crate) fn truncate(message: &mut Vec<u8>, length: usize) {
    message.truncate(length);
    set_length(message);
}

fn set_length(message: &mut [u8]) {
    let length = u32::try_from(message.len()).unwrap();
    message[..4].copy_from_slice(&length.to_ne_bytes());
}

/// Gives the last attribute of this kind and length another value.
pub(crate) fn set_value(message: &mut [u8], kind: u16, value: &[u8]) {
    let header = header(kind, value);
    let last = message.chunks(4).rposition(|word| word == header);
    let at = 4 * last.expect("the message has the attribute") + 4;
    message[at..at + value.len()].copy_from_slice(value);
}

/// An attribute's header, in the byte order of this machine, as all headers of netlink.
fn header(kind: u16, value: &[u8]) -> [u8; 4] {
    let length = u16::try_from(4 + value.len()).unwrap();
    let ([l0, l1], [k0, k1]) = (length.to_ne_bytes(), kind.to_ne_bytes());
    [l0, l1, k0, k1]
}

/// An attribute of any length.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [&header(kind, value)[..], value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
