//! One of the two kernels: how it takes steps, and its answers.

use std::fmt;
use std::io;
use std::time::Instant;

use anyhow::{Result, bail};
use ipvs_netlink::transport::{Received, Transport};
use ipvs_netlink::wire::Command;
use ipvs_netlink::wire::netlink_packet_core::{
    NLM_F_MULTIPART, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use ipvs_netlink::wire::netlink_packet_generic::constants::{
    CTRL_ATTR_FAMILY_NAME, CTRL_CMD_GETFAMILY, GENL_ID_CTRL,
};

use crate::request::{Request, Step};
use crate::surroundings::Surroundings;
use crate::tally;

/// The outcome of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Sent,
    Failed(Option<i32>),
    Datagram {
        messages: Vec<Vec<u8>>,
        whole: bool,
    },
    /// There was nothing to receive.
    Silence,
    /// A file's name and text.
    Text(String),
}

impl Answer {
    pub(crate) fn messages(&self) -> &[Vec<u8>] {
        match self {
            Self::Datagram { messages, .. } => messages,
            Self::Failed(_) | Self::Sent | Self::Silence | Self::Text(_) => &[],
        }
    }
}

/// The offsets of these fields in a message's header.
const MESSAGE_TYPE: usize = 4;
const FLAGS: usize = 6;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn errno(message: &[u8]) -> Option<i32> {
    let is_status = u16_at(message, MESSAGE_TYPE) == Some(NLMSG_ERROR);
    let errno = message.get(16..)?.first_chunk()?;
    is_status.then(|| i32::from_ne_bytes(*errno).saturating_neg())
}

/// The error number that ends the answer to a request, in an acknowledgement or at the end of a
/// listing.
pub(crate) fn status(message: &[u8]) -> Option<i32> {
    let is_done = u16_at(message, MESSAGE_TYPE) == Some(NLMSG_DONE);
    errno(message).or_else(|| {
        let errno = message.get(16..)?.first_chunk()?;
        is_done.then(|| i32::from_ne_bytes(*errno).saturating_neg())
    })
}

/// Two connections to a kernel whose IPVS family has this number, and its surroundings.
pub(crate) struct Side<T> {
    transport: T,
    other: T,
    family: u16,
    /// The port of this run; no other run has it.
    port: u16,
    sequence: u32,
    surroundings: Box<dyn Surroundings>,
    /// The sequence numbers of all requests, each with the name under which it is counted.
    pub(crate) asked: Vec<(u32, String)>,
}

impl<T: Transport> Side<T> {
    pub(crate) fn new(
        [transport, other]: [T; 2],
        family: u16,
        port: u16,
        surroundings: impl Surroundings + 'static,
    ) -> Self {
        let surroundings = Box::new(surroundings);
        Self { transport, other, family, port, sequence: 1000, surroundings, asked: Vec::new() }
    }

    pub(crate) fn run(&mut self, step: &Step) -> Result<Vec<Answer>> {
        Ok(match step {
            Step::Privileged(privileged) => {
                self.surroundings.set_privileged(*privileged)?;
                Vec::new()
            }
            Step::Broadcast(broadcast) => {
                self.surroundings.set_broadcast(*broadcast)?;
                Vec::new()
            }
            Step::Other(requests) => {
                let datagram = self.encode(requests, 1);
                std::mem::swap(&mut self.transport, &mut self.other);
                let mut answers = vec![self.send(&datagram)];
                answers.extend(self.receive_all(usize::MAX, 65536));
                std::mem::swap(&mut self.transport, &mut self.other);
                answers
            }
            Step::Send { requests, times, tail } => {
                let mut datagram = self.encode(requests, *times);
                datagram.extend(tail);
                vec![self.send(&datagram)]
            }
            Step::Receive { datagrams, room } => self.receive_all(*datagrams, *room),
        })
    }

    fn encode(&mut self, requests: &[Request], times: usize) -> Vec<u8> {
        let mut datagram = Vec::new();
        for request in (0..times).flat_map(|_| requests) {
            self.sequence += 1;
            self.asked.push((self.sequence, tally::name(request)));
            request.encode(self.family, self.port, self.sequence, &mut datagram);
        }
        datagram
    }

    fn send(&mut self, datagram: &[u8]) -> Answer {
        match self.transport.send(datagram) {
            Ok(()) => Answer::Sent,
            Err(error) => Answer::Failed(error.raw_os_error()),
        }
    }

    fn receive_all(&mut self, datagrams: usize, room: usize) -> Vec<Answer> {
        let mut answers = Vec::new();
        while answers.len() < datagrams {
            let answer = self.receive(room);
            let ends = answer == Answer::Silence;
            answers.push(answer);
            if ends {
                break;
            }
        }
        sort_services(&mut answers);
        answers
    }

    fn receive(&mut self, room: usize) -> Answer {
        let mut buffer = Vec::with_capacity(room);
        let now = self.transport.now();
        match self.transport.receive(&mut buffer, now) {
            Ok(received) => {
                let whole = received == Received::Whole;
                Answer::Datagram { messages: split(&buffer), whole }
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Answer::Silence,
            Err(error) => Answer::Failed(error.raw_os_error()),
        }
    }
}

/// The messages of a datagram, without the port, which is each socket's own.
fn split(datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while let Some(length) = rest.first_chunk() {
        let length =
            (u32::from_ne_bytes(*length) as usize).next_multiple_of(4).clamp(4, rest.len());
        let (message, more) = rest.split_at(length);
        let mut message = message.to_vec();
        if let Some(port) = message.get_mut(12..16) {
            port.fill(0);
        }
        messages.push(message);
        rest = more;
    }
    messages
}

/// Puts all listed services, sorted, into the first part of their listing: the kernel lists them in
/// no particular order, and fills the parts in that order.
fn sort_services(answers: &mut Vec<Answer>) {
    let mut services = Vec::new();
    let mut at = None;
    let mut index = 0;
    answers.retain_mut(|answer| {
        index += 1;
        let Answer::Datagram { messages, whole: true } = answer else { return true };
        if !messages.first().is_some_and(|m| is_listed_service(m)) {
            return true;
        }
        services.append(messages);
        at.get_or_insert(index - 1);
        false
    });
    if let Some(at) = at {
        services.sort();
        answers.insert(at.min(answers.len()), Answer::Datagram { messages: services, whole: true });
    }
}

fn is_listed_service(message: &[u8]) -> bool {
    u16_at(message, MESSAGE_TYPE).is_some_and(|number| number > GENL_ID_CTRL)
        && u16_at(message, FLAGS) == Some(NLM_F_MULTIPART)
        && message.get(16) == Some(&Command::NewService.number())
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent => f.write_str("sent"),
            Self::Silence => f.write_str("silence"),
            Self::Text(text) => f.write_str(text),
            Self::Failed(errno) => write!(f, "failed: {errno:?}"),
            Self::Datagram { messages, whole } => {
                write!(f, "datagram{}", if *whole { "" } else { " (truncated)" })?;
                for message in messages {
                    write!(f, "\n     ")?;
                    if let Some(errno) = errno(message) {
                        write!(f, " errno {errno}")?;
                    }
                    for (index, byte) in message.iter().enumerate() {
                        let space = if index % 4 == 0 { " " } else { "" };
                        write!(f, "{space}{byte:02x}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The number of the IPVS family, as the kernel's controller of generic netlink tells it.
pub(crate) fn family(transport: &mut impl Transport) -> Result<u16> {
    use crate::request::{Attribute, Request, To};

    let request = Request {
        to: To::Controller,
        flags: NLM_F_REQUEST,
        command: CTRL_CMD_GETFAMILY,
        version: 1,
        reserved: 0,
        attributes: vec![Attribute::new(CTRL_ATTR_FAMILY_NAME, *b"IPVS\0")],
        trailing: Vec::new(),
        lie: 0,
        bare: false,
    };
    let mut datagram = Vec::new();
    request.encode(0, 0, 1, &mut datagram);
    transport.send(&datagram)?;
    let mut buffer = Vec::with_capacity(4096);
    transport.receive(&mut buffer, Instant::now())?;
    // The name takes 12 bytes, and the number follows it.
    match [32, 34, 36].map(|at| u16_at(&buffer, at)) {
        [Some(6), Some(1), Some(number)] => Ok(number),
        _ => bail!("the kernel has no IPVS: {buffer:02x?}"),
    }
}
