//! Any bytes as a kernel's answer: they are decoded or refused, and a decoded value can be encoded
//! again.
#![no_main]

use std::io;
use std::time::Instant;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::transport::{Received, Transport};
use ipvs_netlink::wire::netlink_packet_generic::constants::GENL_ID_CTRL;
use ipvs_netlink::wire::{Command, Message};
use ipvs_netlink::{
    DestinationEntry, Family, Info, Operation, ServiceEntry, ServiceKey, SyncDaemon, Timeouts,
};
use libfuzzer_sys::fuzz_target;
use netlink_packet_core::Emitable as _;

fuzz_target!(|input: &[u8]| {
    let Some((&selector, bytes)) = input.split_first() else { return };
    if selector & 0x80 == 0 {
        let command = Command::ALL[usize::from(selector) % Command::ALL.len()];
        message(command, bytes);
    } else {
        answer(selector, bytes);
    }
});

/// The attributes of one message.
fn message(command: Command, bytes: &[u8]) {
    let Ok(message) = Message::decode(command, bytes) else { return };
    let mut again = vec![0; message.buffer_len()];
    message.emit(&mut again);
    assert_eq!(Message::decode(command, &again).as_ref(), Ok(&message));
    let _ = Info::try_from(&message);
    let _ = Timeouts::try_from(&message);
    if let Some(service) = &message.service
        && let Ok(entry) = ServiceEntry::try_from(service)
    {
        // A service that was read can be written back unchanged.
        let message = Operation::UpdateService(entry.service).message();
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let read = Message::decode(Command::SetService, &bytes).ok().and_then(|m| m.service);
        let read = read.and_then(|service| ServiceEntry::try_from(&service).ok());
        assert_eq!(read.map(|entry| entry.service), Some(entry.service));
    }
    if let Some(destination) = &message.destination {
        for family in [Family::V4, Family::V6] {
            let _: Result<DestinationEntry, _> = destination.entry(family);
        }
    }
    if let Some(daemon) = &message.daemon {
        let _ = SyncDaemon::try_from(daemon);
    }
}

/// A datagram in answer to a request.
fn answer(selector: u8, bytes: &[u8]) {
    let kernel = Kernel { answer: bytes.to_vec(), sent: 0, given: true };
    let Ok(mut client) = Client::connect_with(kernel) else { return };
    let key = ServiceKey::tcp([10, 0, 0, 1], 80);
    match selector & 7 {
        0 => drop(client.services()),
        1 => drop(client.service(key)),
        2 => drop(client.destinations(key)),
        3 => drop(client.daemons()),
        4 => drop(client.timeouts()),
        5 => drop(client.info()),
        6 => drop(client.flush()),
        _ => drop(client.batch([Operation::Flush, Operation::Zero, Operation::Flush])),
    }
}

/// A kernel that tells the family's number, and answers each later request with the same bytes,
/// once.
struct Kernel {
    answer: Vec<u8>,
    sent: u32,
    given: bool,
}

/// The answer of generic netlink's controller to the first request: `CTRL_ATTR_FAMILY_ID` 0x20, and
/// an acknowledgement.
const FAMILY: [[u8; 4]; 12] = [
    28_u32.to_ne_bytes(),
    halves(GENL_ID_CTRL, 0),
    1_u32.to_ne_bytes(),
    [0; 4],
    [1, 2, 0, 0],
    halves(6, 1),
    halves(0x20, 0),
    20_u32.to_ne_bytes(),
    halves(2, 0),
    1_u32.to_ne_bytes(),
    [0; 4],
    [0; 4],
];

const fn halves(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d]
}

impl Transport for Kernel {
    fn send(&mut self, _: &[u8]) -> io::Result<()> {
        self.sent += 1;
        self.given = false;
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, _: Instant) -> io::Result<Received> {
        if self.given {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.given = true;
        if self.sent == 1 {
            buffer.extend_from_slice(FAMILY.as_flattened());
        } else {
            buffer.extend_from_slice(&self.answer);
        }
        Ok(Received::Whole)
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}
