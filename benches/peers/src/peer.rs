//! What is asked of everything that is compared: to write rules, to read them, and, of libraries,
//! to encode and decode.

use std::time::Duration;

use ipvs_netlink::Ruleset;

use crate::rules::Size;

/// A client of IPVS. Each does what is asked in the best way that it offers.
pub trait Peer {
    /// What it is called in tables and ratios.
    fn name(&self) -> &'static str;

    /// How it writes, where that needs a word.
    fn note(&self) -> &'static str;

    /// Writes rules into an empty table, each service before its destinations. Returns how long
    /// that took, without what can be prepared beforehand.
    ///
    /// # Errors
    /// The rules were not written.
    fn write(&self, rules: &Ruleset) -> anyhow::Result<Duration>;

    /// Reads the whole table. Returns how long that took, and what there was.
    ///
    /// # Errors
    /// The table was not read.
    fn read(&self) -> anyhow::Result<(Duration, Size)>;
}

/// A library's encoding and decoding, without a kernel.
pub trait Codec {
    /// What it is called in tables and ratios.
    const NAME: &'static str;

    /// Encodes the request that adds the destination of [`rules::destination`](crate::rules::destination),
    /// with its headers, where the one before was. Returns its bytes.
    fn encode(&mut self) -> &[u8];

    /// Decodes a destination of a listing, netlink header included. Returns its weight and its
    /// active connections.
    ///
    /// # Errors
    /// The message was not understood.
    fn decode(&self, message: &[u8]) -> anyhow::Result<(u32, u32)>;
}
