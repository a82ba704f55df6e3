//! What the benchmarks share that measure on a real kernel or against others: how rows are timed,
//! the rules they write, the floor, and the peers.

pub mod floor;
pub mod measure;
pub mod namespace;
mod peer;
pub mod peers;
pub mod recorded;
pub mod rules;
pub mod writing;

pub use peer::{Codec, Peer};
