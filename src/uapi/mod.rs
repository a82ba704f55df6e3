//! The kernel's numbers, each of them once: the bottom floor, which knows nothing else of the
//! crate.

mod command;
mod errno;
pub mod ipvs;
// Some of them are of use to a fake kernel alone.
#[cfg_attr(not(feature = "fake"), allow(dead_code))]
pub(crate) mod netlink;

pub use command::Command;
pub use errno::Errno;
