//! The kernel's numbers, each of them once: the bottom floor, which uses no other module of the
//! crate.

mod command;
mod errno;
pub mod ipvs;
// Some of the numbers are of use only to a fake kernel.
#[cfg_attr(not(feature = "fake"), allow(dead_code))]
pub(crate) mod netlink;

pub use command::Command;
pub use errno::Errno;
