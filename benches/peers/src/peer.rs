//! The interface of everything that is compared: writing and reading rules, and, for libraries,
//! encoding and decoding messages.

use std::time::Duration;

use ipvs_netlink::Ruleset;

use crate::rules::Size;

/// A client of IPVS, used in the fastest way that it offers.
pub trait Peer {
    /// The peer's name in tables and ratios.
    fn name(&self) -> &'static str;

    /// How the peer writes, if its name does not tell.
    fn note(&self) -> &'static str;

    /// Writes rules into an empty table, each service before its destinations. Returns the time
    /// that it took, without anything that can be prepared beforehand.
    ///
    /// # Errors
    /// The rules were not written.
    fn write(&self, rules: &Ruleset) -> anyhow::Result<Duration>;

    /// Reads the whole table. Returns the time that it took, and the table's size.
    ///
    /// # Errors
    /// The table was not read.
    fn read(&self) -> anyhow::Result<(Duration, Size)>;
}

/// A library's encoding and decoding, without a kernel.
pub trait Codec {
    /// The library's name in tables and ratios.
    const NAME: &'static str;

    /// Encodes the request that adds the destination of [`rules::destination`](crate::rules::destination),
    /// with its headers, over the last one. Returns its bytes.
    fn encode(&mut self) -> &[u8];

    /// Decodes a destination of a listing, netlink header included. Returns its weight and its
    /// active connections.
    ///
    /// # Errors
    /// The message was not understood.
    fn decode(&self, message: &[u8]) -> anyhow::Result<(u32, u32)>;
}
