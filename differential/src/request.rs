//! Requests, in a form that can be generated at random and shrunk.

use std::fmt;
use std::ops::Range;

use ipvs_netlink::wire::netlink_packet_generic::constants::GENL_ID_CTRL;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Nest(Vec<Attribute>),
    /// The port of this run of the sequence; no other run has it.
    Fresh,
}

/// An attribute, whose header may tell a wrong length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) kind: u16,
    pub(crate) value: Value,
    /// The length in the header minus the true length.
    pub(crate) lie: i16,
    pub(crate) padded: bool,
}

impl Attribute {
    pub(crate) fn new(kind: u16, value: impl Into<Vec<u8>>) -> Self {
        Self { kind, value: Value::Bytes(value.into()), lie: 0, padded: true }
    }

    pub(crate) fn nest(kind: u16, attributes: Vec<Self>) -> Self {
        Self { kind, value: Value::Nest(attributes), lie: 0, padded: true }
    }

    pub(crate) fn fresh(kind: u16) -> Self {
        Self { kind, value: Value::Fresh, lie: 0, padded: true }
    }

    fn encode(&self, port: u16, out: &mut Vec<u8>) {
        let value = match &self.value {
            Value::Bytes(bytes) => bytes.clone(),
            Value::Nest(attributes) => encode_all(attributes, port),
            Value::Fresh => port.to_be_bytes().to_vec(),
        };
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        out.extend(length.wrapping_add_signed(self.lie).to_ne_bytes());
        out.extend(self.kind.to_ne_bytes());
        out.extend(value);
        if self.padded {
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
}

fn encode_all(attributes: &[Attribute], port: u16) -> Vec<u8> {
    let mut out = Vec::new();
    for attribute in attributes {
        attribute.encode(port, &mut out);
    }
    out
}

/// The family, or the message type, that a request is addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Ipvs,
    Controller,
    Type(u16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) to: To,
    pub(crate) flags: u16,
    pub(crate) command: u8,
    pub(crate) version: u8,
    pub(crate) reserved: u16,
    pub(crate) attributes: Vec<Attribute>,
    /// The bytes behind the attributes.
    pub(crate) trailing: Vec<u8>,
    /// The length in the header minus the true length.
    pub(crate) lie: i32,
    /// Whether the message ends after its header.
    pub(crate) bare: bool,
}

impl Request {
    pub(crate) fn encode(&self, family: u16, port: u16, sequence: u32, out: &mut Vec<u8>) {
        let start = out.len();
        let message_type = match self.to {
            To::Ipvs => family,
            To::Controller => GENL_ID_CTRL,
            To::Type(number) => number,
        };
        out.extend([0; 4]);
        out.extend(message_type.to_ne_bytes());
        out.extend(self.flags.to_ne_bytes());
        out.extend(sequence.to_ne_bytes());
        out.extend([0; 4]);
        if !self.bare {
            out.extend([self.command, self.version]);
            out.extend(self.reserved.to_ne_bytes());
            out.extend(encode_all(&self.attributes, port));
            out.extend(&self.trailing);
        }
        let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
        let length = length.wrapping_add_signed(self.lie);
        out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        out.resize(out.len().next_multiple_of(4), 0);
    }

    /// The request with one thing less, for each thing that can be left out.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut all: Vec<Self> = smaller(&self.attributes)
            .into_iter()
            .map(|attributes| Self { attributes, ..self.clone() })
            .collect();
        let plain = Self { trailing: Vec::new(), lie: 0, reserved: 0, version: 1, ..self.clone() };
        if plain != *self {
            all.push(plain);
        }
        all
    }
}

fn smaller(attributes: &[Attribute]) -> Vec<Vec<Attribute>> {
    let mut all = Vec::new();
    for (index, attribute) in attributes.iter().enumerate() {
        let mut without = attributes.to_vec();
        without.remove(index);
        all.push(without);
        if let Value::Nest(inner) = &attribute.value {
            for inner in smaller(inner) {
                let mut with = attributes.to_vec();
                with[index].value = Value::Nest(inner);
                all.push(with);
            }
        }
    }
    all
}

/// An act on both kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sends requests, and after them the bytes of `tail`, in one datagram.
    Send { requests: Vec<Request>, times: usize, tail: Vec<u8> },
    /// Receives at most `datagrams` datagrams into a buffer of `room` bytes.
    Receive { datagrams: usize, room: usize },
    /// Sends requests over another socket, and receives all answers there.
    Other(Vec<Request>),
    /// Sends all later requests with privilege, or without.
    Privileged(bool),
    /// Makes a destination's address a broadcast address, or one like any other.
    Broadcast(bool),
}

impl Step {
    pub(crate) fn stops_daemons(&self) -> bool {
        let Self::Send { requests, .. } = self else { return false };
        requests.iter().any(|request| request.command == 10)
    }

    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        if let Self::Send { requests, times, tail } = self {
            let with = |requests: Vec<Request>, times, tail: &[u8]| Self::Send {
                requests,
                times,
                tail: tail.to_vec(),
            };
            if !tail.is_empty() {
                all.push(with(requests.clone(), *times, &[]));
            }
            if *times > 1 {
                all.push(with(requests.clone(), 1, tail));
            }
            for range in ranges(requests.len()) {
                if range.len() < requests.len() {
                    let mut without = requests.clone();
                    without.drain(range);
                    all.push(with(without, *times, tail));
                }
            }
            for (index, request) in requests.iter().enumerate() {
                for smaller in request.smaller() {
                    let mut replaced = requests.clone();
                    replaced[index] = smaller;
                    all.push(with(replaced, *times, tail));
                }
            }
        }
        all
    }
}

/// The parts of a list of this length that are left out in turn when it is shrunk, large parts
/// first.
pub(crate) fn ranges(length: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut size = length.div_ceil(2);
    while size > 0 {
        let starts = (0..length).step_by(size);
        ranges.extend(starts.map(|start| start..length.min(start + size)));
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    ranges
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receive { datagrams, room } => {
                write!(f, "receive {datagrams} datagrams into {room} bytes")
            }
            Self::Privileged(privileged) => write!(f, "privileged: {privileged}"),
            Self::Broadcast(broadcast) => write!(f, "a broadcast address: {broadcast}"),
            Self::Other(requests) => {
                write!(f, "send by another socket:")?;
                requests.iter().try_for_each(|request| write!(f, "{request}"))
            }
            Self::Send { requests, times, tail } => {
                write!(f, "send {times} times:")?;
                requests.iter().try_for_each(|request| write!(f, "{request}"))?;
                if tail.is_empty() { Ok(()) } else { write!(f, "\n    then {tail:02x?}") }
            }
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, flags, command, version, reserved, attributes, trailing, lie, bare } = self;
        write!(f, "\n    {to:?} command {command} flags {flags:#x}")?;
        if (*version, *reserved, *lie, *bare) != (1, 0, 0, false) {
            write!(f, " version {version} reserved {reserved:#x} lie {lie} bare {bare}")?;
        }
        if !trailing.is_empty() {
            write!(f, " trailing {trailing:02x?}")?;
        }
        show(f, attributes, 6)
    }
}

fn show(f: &mut fmt::Formatter<'_>, attributes: &[Attribute], indent: usize) -> fmt::Result {
    for Attribute { kind, value, lie, padded } in attributes {
        write!(f, "\n{:indent$}{kind:#x}", "")?;
        if *lie != 0 || !padded {
            write!(f, " (lie {lie}, padded {padded})")?;
        }
        match value {
            Value::Bytes(bytes) => write!(f, " {bytes:02x?}")?,
            Value::Nest(inner) => show(f, inner, indent + 2)?,
            Value::Fresh => write!(f, " a fresh port")?,
        }
    }
    Ok(())
}
