//! Values that are written as text, as `Display` prints them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::model::{
    DaemonRole, DestinationKey, Family, Invalid, Name, Netmask, Protocol, Scheduler, ServiceFlags,
    ServiceKey, TunnelChecksum, Version,
};

/// Reads text with a function; a number is read as its text.
pub(super) struct Text<T> {
    pub(super) expected: &'static str,
    pub(super) parse: fn(&str) -> Result<T, Invalid>,
}

impl<T> Visitor<'_> for Text<T> {
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

/// Reads text, or the map `M` of the value's parts.
pub(super) struct TextOrMap<T, M> {
    text: Text<T>,
    map: PhantomData<M>,
}

impl<T, M> TextOrMap<T, M> {
    pub(super) fn new(expected: &'static str, parse: fn(&str) -> Result<T, Invalid>) -> Self {
        Self { text: Text { expected, parse }, map: PhantomData }
    }
}

impl<'de, T, M> Visitor<'de> for TextOrMap<T, M>
where
    T: TryFrom<M, Error: fmt::Display>,
    M: Deserialize<'de>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.expecting(f)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        self.text.visit_str(text)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.text.visit_u64(number)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.text.visit_i64(number)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        M::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(de::Error::custom)
    }
}

/// Reads a map of parts, and refuses a list: its meaning would depend on the order of the parts.
pub(crate) struct OnlyMap<T> {
    expected: &'static str,
    map: PhantomData<T>,
}

impl<T> OnlyMap<T> {
    pub(crate) fn new(expected: &'static str) -> Self {
        Self { expected, map: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMap<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Writes a value as text, or as a number if its text is one.
pub(crate) fn serialize<S: Serializer>(
    value: &impl fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = value.to_string();
    match text.parse::<u64>() {
        Ok(number) if number.to_string() == text => serializer.serialize_u64(number),
        _ => serializer.serialize_str(&text),
    }
}

/// Reads a value from its text.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: std::str::FromStr<Err = Invalid>>(
    expected: &'static str,
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Text { expected, parse: T::from_str })
}

/// Has serde write and read types as their text.
macro_rules! as_text {
    ($($type:ty: $expected:literal;)*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $crate::forms::text::serialize(self, to)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::forms::text::deserialize($expected, from)
            }
        }
    )*};
}
pub(crate) use as_text;

as_text! {
    DaemonRole: "master or backup";
    DestinationKey: "a destination's address and port, as 10.0.1.1:80";
    Family: "IPv4 or IPv6";
    Netmask: "a netmask, as 255.255.255.0, or the length of a prefix";
    Protocol: "tcp, udp, sctp or the number of a protocol";
    Scheduler: "a scheduler, as wrr or sh fallback port";
    ServiceFlags: "flags, as flag-1,flag-3 or 0x40";
    ServiceKey: "a service, as tcp 10.0.0.1:80 or IPv4 firewall mark 7";
    TunnelChecksum: "none, full or remote";
    Version: "a version, as 1.2.1";
}

impl<const MAX: usize> Serialize for Name<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Name<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize("a name", deserializer)
    }
}
