//! The common part of the benchmarks on a real kernel or against other libraries: the timing of
//! rows, the rules that they write, the floor, and the peers.

pub mod floor;
pub mod measure;
pub mod namespace;
mod peer;
pub mod peers;
pub mod recorded;
pub mod rules;
pub mod writing;

pub use peer::{Codec, Peer};
