//! What the kernel says of its IPVS.

use std::fmt;

/// What the kernel says of its IPVS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Info {
    /// The version of IPVS, 1.2.1 since 2.6.
    pub version: Version,
    /// The number of buckets of the connection table. Before Linux 7.1 it is the same as long as the
    /// module is loaded, 4096 unless its parameter `conn_tab_bits` says otherwise. Since then it is
    /// the size at the moment: 0 while the network namespace has had no service, 256 with the first,
    /// more with more connections, and fewer again once they have ended.
    pub connection_table_size: u32,
}

impl Info {
    pub(crate) fn new(version: Version, connection_table_size: u32) -> Self {
        Self { version, connection_table_size }
    }
}

/// A version of IPVS, as the kernel packs it: a byte each for major, minor and patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, major, minor, patch] = self.0.to_be_bytes();
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_print_in_three_parts() {
        assert_eq!(Version(0x0001_0201).to_string(), "1.2.1");
    }
}
