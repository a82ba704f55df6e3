//! A duration as a number of whole seconds.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Error, Serialize, Serializer};

use super::text::Text;
use crate::model::Invalid;

/// A duration that is written in whole seconds.
#[derive(Clone, Copy)]
pub(super) struct Seconds(pub(super) Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

pub(crate) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if duration.subsec_nanos() != 0 {
        return Err(S::Error::custom(format!("{duration:?} is no whole number of seconds")));
    }
    serializer.serialize_u64(duration.as_secs())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Text { expected: SECONDS, parse })
}

/// The form of a duration, for messages.
pub(super) const SECONDS: &str = "a number of seconds, as 300, or a time, as 30s, 5m, 2h or 1d";

/// Reads a number of seconds, or a number with a unit, which people tend to write first: `5m`.
pub(super) fn parse(text: &str) -> Result<Duration, Invalid> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86400),
        _ => None,
    };
    let seconds = factor.zip(digits.parse::<u64>().ok()).and_then(|(f, n)| n.checked_mul(f));
    seconds.map(Duration::from_secs).ok_or_else(|| Invalid::expected(SECONDS, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_have_a_unit() {
        for (text, seconds) in [("300", 300), ("0s", 0), ("5m", 300), ("2h", 7200), ("1d", 86400)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "m", "-1", "1.5", "5 m", "5min", "18446744073709551615h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
