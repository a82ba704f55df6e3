//! Values of one word: printed and parsed as text.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::model::{
    HashOptions, Invalid, Name, Netmask, Protocol, Scheduler, ServiceFlags, Version,
};
use crate::proc::ConnectionState;

/// Takes text, and numbers as their text, through a function.
struct Word<T> {
    expected: &'static str,
    parse: fn(&str) -> Result<T, Invalid>,
}

impl<T> Visitor<'_> for Word<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! words {
    ($($type:ty: $expected:literal, $print:ident, $parse:expr;)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $print(self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Word { expected: $expected, parse: $parse })
            }
        }
    )*};
}

words! {
    Scheduler: "a scheduler, as wrr or sh fallback port", scheduler, parse_scheduler;
    Protocol: "tcp, udp, sctp or the number of a protocol", protocol, parse_protocol;
    Netmask: "a netmask, as 255.255.255.0, or the length of a prefix", netmask, parse_netmask;
    ServiceFlags: "flags, as flag-1 flag-3 or 0x40", flags, parse_flags;
    Version: "a version, as 1.2.1", version, parse_version;
    ConnectionState: "a connection's state, as ESTABLISHED", state, ConnectionState::named;
}

impl<const MAX: usize> Serialize for Name<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Name<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Word { expected: "a name", parse: Self::new })
    }
}

fn scheduler<S: Serializer>(scheduler: &Scheduler, serializer: S) -> Result<S::Ok, S::Error> {
    let options = scheduler.hash_options().unwrap_or_default();
    let fallback = if options.fallback { " fallback" } else { "" };
    let port = if options.port { " port" } else { "" };
    serializer.collect_str(&format_args!("{scheduler}{fallback}{port}"))
}

fn parse_scheduler(text: &str) -> Result<Scheduler, Invalid> {
    let mut words = text.split_whitespace();
    let scheduler = Scheduler::named(words.next().unwrap_or_default())?;
    let mut options = HashOptions::default();
    for word in words {
        match word {
            _ if scheduler.hash_options().is_none() => {
                return Err(Invalid::new(format!(
                    "the scheduler {scheduler} has no options, {word:?} is none: sh and mh have \
                     fallback and port"
                )));
            }
            "fallback" => options.fallback = true,
            "port" => options.port = true,
            _ => {
                return Err(Invalid::new(format!(
                    "the scheduler {scheduler} has no option {word:?}: it has fallback and port"
                )));
            }
        }
    }
    Ok(scheduler.with_hash_options(options))
}

fn protocol<S: Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
    match *protocol {
        Protocol::TCP | Protocol::UDP | Protocol::SCTP => serializer.collect_str(protocol),
        Protocol(number) => serializer.serialize_u16(number),
    }
}

fn parse_protocol(text: &str) -> Result<Protocol, Invalid> {
    match text {
        "tcp" => Ok(Protocol::TCP),
        "udp" => Ok(Protocol::UDP),
        "sctp" => Ok(Protocol::SCTP),
        number => number.parse().map(Protocol).map_err(|_| {
            Invalid::new(format!("{text:?} is no protocol: tcp, udp, sctp, or a number"))
        }),
    }
}

fn netmask<S: Serializer>(mask: &Netmask, serializer: S) -> Result<S::Ok, S::Error> {
    match mask {
        Netmask::V4(mask) => serializer.collect_str(mask),
        Netmask::V6(length) => serializer.serialize_u8(*length),
    }
}

fn parse_netmask(text: &str) -> Result<Netmask, Invalid> {
    if let Ok(mask) = text.parse() {
        return Ok(Netmask::V4(mask));
    }
    text.parse().map(Netmask::V6).map_err(|_| {
        Invalid::new(format!("{text:?} is no netmask, as 255.255.255.0, nor a prefix length"))
    })
}

const FLAG_NAMES: [(ServiceFlags, &str); 3] = [
    (ServiceFlags::SCHEDULER_1, "flag-1"),
    (ServiceFlags::SCHEDULER_2, "flag-2"),
    (ServiceFlags::SCHEDULER_3, "flag-3"),
];

fn flags<S: Serializer>(flags: &ServiceFlags, serializer: S) -> Result<S::Ok, S::Error> {
    let mut words = Vec::new();
    let mut rest = *flags;
    for (flag, name) in FLAG_NAMES {
        if flags.contains(flag) {
            words.push(name.to_owned());
            rest -= flag;
        }
    }
    if !rest.is_empty() {
        words.push(format!("{:#x}", rest.bits()));
    }
    serializer.serialize_str(&words.join(" "))
}

fn parse_flags(text: &str) -> Result<ServiceFlags, Invalid> {
    text.split_whitespace()
        .map(|word| {
            if let Some((flag, _)) = FLAG_NAMES.into_iter().find(|(_, name)| *name == word) {
                return Ok(flag);
            }
            let bits = word.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
            bits.and_then(ServiceFlags::from_bits).ok_or_else(|| {
                Invalid::new(format!("{word:?} is no flag: flag-1, flag-2, flag-3, or 0x40"))
            })
        })
        .collect()
}

fn version<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

fn parse_version(text: &str) -> Result<Version, Invalid> {
    let parts: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some(&[major, minor, patch]) => Ok(Version(u32::from_be_bytes([0, major, minor, patch]))),
        _ => Err(Invalid::new(format!("{text:?} is no version, as 1.2.1"))),
    }
}

fn state<S: Serializer>(state: &ConnectionState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.name())
}
