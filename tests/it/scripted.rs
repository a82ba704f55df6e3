//! A scripted kernel: answers made by hand, for behaviour that no real kernel shows at will.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::transport::{Received, Transport};
use netlink_packet_core::{NLM_F_CAPPED, NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR};
use netlink_packet_generic::constants::GENL_ID_CTRL;

use crate::tampered::attribute;

/// The answers to a request: datagrams, or errors of the socket.
pub(crate) type Answers = Vec<io::Result<Vec<u8>>>;

/// A kernel that answers each request by a function. The request for the family does not reach it.
pub(crate) struct Scripted {
    script: Box<dyn FnMut(&Request<'_>) -> Answers + Send>,
    queue: VecDeque<io::Result<Vec<u8>>>,
    now: Instant,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A request, as the script sees it.
pub(crate) struct Request<'a>(pub(crate) &'a [u8]);

/// The number of the IPVS family.
const FAMILY: u16 = 0x25;

impl Scripted {
    pub(crate) fn new(
        script: impl FnMut(&Request<'_>) -> Answers + Send + 'static,
    ) -> (Self, Arc<Mutex<Vec<Vec<u8>>>>) {
        let sent = Arc::default();
        let script = Box::new(script);
        let queue = VecDeque::new();
        (Self { script, queue, now: Instant::now(), sent: Arc::clone(&sent) }, sent)
    }

    /// A client of a kernel that answers by this function.
    pub(crate) fn client(
        mut script: impl FnMut(&Request<'_>) -> Answers + Send + 'static,
    ) -> Client {
        let (scripted, _) =
            Self::new(
                move |request| {
                    if request.is_family() { request.family() } else { script(request) }
                },
            );
        Client::connect_with(scripted).unwrap()
    }
}

impl Transport for Scripted {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.sent.lock().unwrap().push(datagram.to_vec());
        self.queue.extend((self.script)(&Request(datagram)));
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received> {
        let Some(answer) = self.queue.pop_front() else {
            // The clock jumps to the deadline, so that nobody waits in real time.
            self.now = deadline;
            return Err(io::ErrorKind::TimedOut.into());
        };
        let answer = answer?;
        let room = buffer.spare_capacity_mut().len();
        buffer.extend_from_slice(&answer[..answer.len().min(room)]);
        Ok(if answer.len() > room { Received::Truncated } else { Received::Whole })
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.queue.clear();
        Ok(())
    }

    fn now(&self) -> Instant {
        self.now
    }
}

// An answer is the result of a receive, which may be an error.
#[allow(clippy::unnecessary_wraps)]
impl Request<'_> {
    pub(crate) fn is_family(&self) -> bool {
        self.0[4..6] == GENL_ID_CTRL.to_ne_bytes()
    }

    pub(crate) fn sequence(&self) -> u32 {
        u32::from_ne_bytes(self.0[8..12].try_into().unwrap())
    }

    /// The answer to the request for the family.
    pub(crate) fn family(&self) -> Answers {
        let id = attribute(1, &FAMILY.to_ne_bytes());
        let sequence = self.sequence();
        let found = message(GENL_ID_CTRL, 0, sequence, &[&[1, 2, 0, 0][..], &id].concat());
        vec![Ok(found), self.error(0)]
    }

    /// A message of the family; in a dump it is one of several.
    pub(crate) fn reply(&self, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
        let payload = [&[command, 1, 0, 0][..], attributes].concat();
        Ok(message(FAMILY, NLM_F_MULTIPART, self.sequence(), &payload))
    }

    /// An acknowledgement, or an error.
    pub(crate) fn error(&self, errno: i32) -> io::Result<Vec<u8>> {
        self.error_of(self.sequence(), errno)
    }

    /// An acknowledgement, or an error, of another request.
    pub(crate) fn error_of(&self, sequence: u32, errno: i32) -> io::Result<Vec<u8>> {
        let payload = [&(-errno).to_ne_bytes()[..], &self.0[..16]].concat();
        Ok(message(NLMSG_ERROR, NLM_F_CAPPED, sequence, &payload))
    }

    /// The end of a dump.
    pub(crate) fn done(&self, errno: i32) -> io::Result<Vec<u8>> {
        Ok(message(NLMSG_DONE, NLM_F_MULTIPART, self.sequence(), &(-errno).to_ne_bytes()))
    }
}

/// A netlink message.
fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes of a service as the kernel writes them, without statistics. `change` is added
/// behind them, and of duplicates the last one counts.
pub(crate) fn service(change: &[u8]) -> Vec<u8> {
    let mut nest = Vec::new();
    nest.extend(attribute(1, &2u16.to_ne_bytes()));
    nest.extend(attribute(2, &6u16.to_ne_bytes()));
    nest.extend(attribute(3, &[10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    nest.extend(attribute(4, &80u16.to_be_bytes()));
    nest.extend(attribute(6, b"rr\0"));
    nest.extend(attribute(7, &[2u32.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat()));
    nest.extend(attribute(8, &0u32.to_ne_bytes()));
    nest.extend(attribute(9, &[255; 4]));
    nest.extend(change);
    attribute(1, &nest)
}

/// The attributes of a destination, like [`service`].
pub(crate) fn destination(change: &[u8]) -> Vec<u8> {
    let mut nest = Vec::new();
    nest.extend(attribute(1, &[10, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    nest.extend(attribute(2, &8080u16.to_be_bytes()));
    nest.extend(attribute(3, &0u32.to_ne_bytes()));
    for (kind, value) in [(4, 1u32), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0)] {
        nest.extend(attribute(kind, &value.to_ne_bytes()));
    }
    nest.extend(attribute(11, &2u16.to_ne_bytes()));
    nest.extend(change);
    attribute(2, &nest)
}
