//! An IPVS kernel in the process, for tests that need neither root nor Linux modules.
//!
//! It speaks the kernel's bytes behind the crate's own [transport](crate::transport), answer for
//! answer like the real one; it is held against real kernels with random requests, well-formed and
//! not. Below the bytes is a table that several clients share, a clock that moves when told to,
//! and [faults](Fault) to order.
#![doc = include_str!("../../docs/testing.md")]

mod acknowledgement;
mod commands;
mod controller;
mod counters;
mod daemons;
mod dump;
mod encode;
mod faults;
mod host;
mod kernel;
mod life;
mod link;
mod policy;
mod procfs;
mod release;
mod schedule;
mod socket;
mod sysctls;
mod table;
mod trash;
mod writer;

pub use faults::Fault;
pub use host::{Host, Interface};
pub use kernel::Kernel;
pub use life::{Connection, NotScheduled};
pub use link::Link;
pub use release::{Release, UnknownRelease, Version};

use crate::blocking;
use crate::diagnose::Diagnosis;
use crate::error::Error;
use crate::proc::Proc;
use crate::ruleset::Ruleset;

impl Proc {
    /// The files of a fake kernel: connections, counters and sysctls.
    pub fn of(kernel: &Kernel) -> Self {
        Self::of_files(kernel.clone())
    }
}

impl Diagnosis {
    /// Tells whether a fake kernel's host can do what a ruleset needs: see
    /// [`Options::diagnose`](crate::Options::diagnose).
    pub fn of(kernel: &Kernel, rules: &Ruleset) -> Self {
        Self::new(&Proc::of(kernel), blocking::Client::connect_to(kernel), rules)
    }
}

impl blocking::Client {
    /// Connects to a fake kernel.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where its host has no IPVS.
    pub fn connect_to(kernel: &Kernel) -> Result<Self, Error> {
        Self::connect_with(kernel.link())
    }
}

#[cfg(any(feature = "tokio", feature = "smol"))]
impl crate::Client {
    /// Connects to a fake kernel, on any executor.
    ///
    /// # Errors
    /// [`Error::is_ipvs_not_found`] where its host has no IPVS.
    pub async fn connect_to(kernel: &Kernel) -> Result<Self, Error> {
        Self::connect_with(kernel.link()).await
    }
}
