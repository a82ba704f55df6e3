//! One of the two kernels, and what it answers.

use std::fmt;
use std::io;
use std::time::Instant;

use anyhow::{Result, bail};
use ipvs_netlink::transport::{Received, Transport};

use crate::request::{CONTROLLER, Step};

/// What came of a step.
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
}

impl Answer {
    /// The error numbers of the acknowledgements.
    pub(crate) fn errnos(&self) -> Vec<i32> {
        match self {
            Self::Datagram { messages, .. } => messages.iter().filter_map(|m| errno(m)).collect(),
            Self::Failed(errno) => errno.iter().copied().collect(),
            Self::Sent | Self::Silence => Vec::new(),
        }
    }
}

/// Where these are in a message's header.
const MESSAGE_TYPE: usize = 4;
const FLAGS: usize = 6;

const NLMSG_ERROR: u16 = 2;
const NLM_F_MULTIPART: u16 = 2;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn errno(message: &[u8]) -> Option<i32> {
    let is_status = u16_at(message, MESSAGE_TYPE) == Some(NLMSG_ERROR);
    let errno = message.get(16..)?.first_chunk()?;
    is_status.then(|| i32::from_ne_bytes(*errno).saturating_neg())
}

/// A connection to a kernel whose IPVS family has this number.
pub(crate) struct Side<T> {
    transport: T,
    family: u16,
    sequence: u32,
}

impl<T: Transport> Side<T> {
    pub(crate) fn new(transport: T, family: u16) -> Self {
        Self { transport, family, sequence: 1000 }
    }

    pub(crate) fn run(&mut self, step: &Step) -> Vec<Answer> {
        match step {
            Step::Send { requests, times, tail } => {
                let mut datagram = Vec::new();
                for _ in 0..*times {
                    for request in requests {
                        self.sequence += 1;
                        request.encode(self.family, self.sequence, &mut datagram);
                    }
                }
                datagram.extend(tail);
                let sent = self.transport.send(&datagram);
                vec![
                    sent.map_or_else(
                        |error| Answer::Failed(error.raw_os_error()),
                        |()| Answer::Sent,
                    ),
                ]
            }
            Step::Receive { datagrams, room } => {
                let mut answers = Vec::new();
                while answers.len() < *datagrams {
                    let answer = self.receive(*room);
                    let ends = answer == Answer::Silence;
                    answers.push(answer);
                    if ends {
                        break;
                    }
                }
                sort_services(&mut answers);
                answers
            }
        }
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

/// Listed services have no order, and so their parts have none either: they are put into one, with
/// all in its first part.
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
    u16_at(message, MESSAGE_TYPE).is_some_and(|number| number > CONTROLLER)
        && u16_at(message, FLAGS) == Some(NLM_F_MULTIPART)
        && message.get(16) == Some(&1)
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent => f.write_str("sent"),
            Self::Silence => f.write_str("silence"),
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

/// The number that the kernel's controller gives for the IPVS family.
pub(crate) fn family(transport: &mut impl Transport) -> Result<u16> {
    use crate::request::{Attribute, Request, To};

    let request = Request {
        to: To::Controller,
        flags: 1,
        command: 3,
        version: 1,
        reserved: 0,
        attributes: vec![Attribute::new(2, *b"IPVS\0")],
        trailing: Vec::new(),
        lie: 0,
        bare: false,
    };
    let mut datagram = Vec::new();
    request.encode(0, 1, &mut datagram);
    transport.send(&datagram)?;
    let mut buffer = Vec::with_capacity(4096);
    transport.receive(&mut buffer, Instant::now())?;
    // The name takes 12 bytes, and the number follows it.
    match [32, 34, 36].map(|at| u16_at(&buffer, at)) {
        [Some(6), Some(1), Some(number)] => Ok(number),
        _ => bail!("the kernel has no IPVS: {buffer:02x?}"),
    }
}
