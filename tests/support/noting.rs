//! A link that records the sent commands.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ipvs_netlink::fake::Link;
use ipvs_netlink::transport::{Received, Transport};
use netlink_packet_generic::constants::GENL_ID_CTRL;

/// The commands of each datagram to the IPVS family.
pub(crate) type Sends = Arc<Mutex<Vec<Vec<u8>>>>;

pub(crate) struct Noting {
    link: Link,
    sends: Sends,
}

impl Noting {
    pub(crate) fn new(link: Link) -> (Self, Sends) {
        let sends = Sends::default();
        (Self { link, sends: Arc::clone(&sends) }, sends)
    }
}

impl Transport for Noting {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.sends.lock().unwrap().push(commands(datagram));
        Transport::send(&mut self.link, datagram)
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received> {
        Transport::receive(&mut self.link, buffer, deadline)
    }

    fn reopen(&mut self) -> io::Result<()> {
        Transport::reopen(&mut self.link)
    }

    fn now(&self) -> Instant {
        Transport::now(&self.link)
    }
}

/// The commands of a datagram's messages, except those to the controller of generic netlink.
fn commands(datagram: &[u8]) -> Vec<u8> {
    let mut commands = Vec::new();
    let mut rest = datagram;
    while let Some((header, _)) = rest.split_first_chunk::<20>() {
        let [l0, l1, l2, l3, t0, t1, ..] = *header;
        if u16::from_ne_bytes([t0, t1]) != GENL_ID_CTRL {
            commands.push(header[16]);
        }
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap();
        rest = &rest[length..];
    }
    commands
}
