//! The kernel's version of IPVS, and the size of its connection table.

use std::fmt;
use std::str::FromStr;

use super::Invalid;

/// The kernel's version of IPVS, and the size of its connection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Info {
    /// The version of IPVS, 1.2.1 since 2.6.
    pub version: Version,
    /// The number of buckets of the connection table. Before Linux 7.1 the number is fixed when the
    /// module is loaded: 4096, unless the parameter `conn_tab_bits` says otherwise. Linux 7.1 and
    /// later report the current number: 0 until the network namespace has its first service, then
    /// 256 and more, growing and shrinking with the number of connections.
    pub connection_table_size: u32,
}

impl Info {
    /// This version, and a connection table with this many buckets.
    pub fn new(version: Version, connection_table_size: u32) -> Self {
        Self { version, connection_table_size }
    }
}

/// A version of IPVS. As text `1.2.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u32);

impl Version {
    /// The version with these three parts.
    pub const fn new(major: u8, minor: u8, patch: u8) -> Self {
        Self(u32::from_be_bytes([0, major, minor, patch]))
    }

    /// The version from the kernel's number: one byte for patch, one for minor, and the rest for
    /// major.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The kernel's number for it: 0x010201 for 1.2.1.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, [_, _, minor, patch]) = (self.0 >> 16, self.0.to_be_bytes());
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl FromStr for Version {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let version = |text: &str| {
            let (major, rest) = text.split_once('.')?;
            let (minor, patch) = rest.split_once('.')?;
            let [high, low] = major.parse::<u16>().ok()?.to_be_bytes();
            Some(Self(u32::from_be_bytes([high, low, minor.parse().ok()?, patch.parse().ok()?])))
        };
        version(text).ok_or_else(|| Invalid::expected("a version, as 1.2.1", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_three_parts() {
        assert_eq!(Version::from_number(0x0001_0201).to_string(), "1.2.1");
        assert_eq!("1.2.1".parse(), Ok(Version::new(1, 2, 1)));
        for text in ["", "1", "1.2", "1.2.256", "1.256.1", "65536.0.0", "1.2.1.0", "1..1"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    /// Once: the text of a number above 24 bits was that of another version.
    #[test]
    fn versions_are_read_as_they_are_printed() {
        for number in [0, 0x0001_0201, 0x00ff_ffff, 0x0100_0000, 0x0101_0201, u32::MAX] {
            let version = Version::from_number(number);
            assert_eq!(version.to_string().parse(), Ok(version), "{version}");
        }
    }
}
