//! Control IPVS, the load balancer in the Linux kernel, over generic netlink.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// Tests may fail by a panic.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod blocking;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
pub mod model;
mod operations;
pub mod protocol;
pub mod ruleset;
mod session;
pub mod transport;
pub mod wire;

pub use error::Error;
pub use model::*;
pub use protocol::{Operation, Request};
pub use ruleset::Ruleset;
