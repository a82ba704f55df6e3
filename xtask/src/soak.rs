//! `cargo xtask soak`: what finds more the longer it runs, and is no part of the tests.

use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::fuzz;

/// Run for long what the tests run briefly
#[derive(Args)]
pub(crate) struct Soak {
    #[arg(value_enum, default_value_t = Target::Decode)]
    target: Target,
    /// How many inputs a fuzz target gets; what it finds stays in target/fuzz, and a later run goes on from there
    #[arg(long, default_value_t = 100_000_000)]
    inputs: u64,
    /// How many sequences of requests the kernels get
    #[arg(long, default_value_t = 20_000)]
    sequences: u64,
    /// The seed of these sequences
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long each of the cases on real kernels goes on that can
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Of the cases on real kernels only those whose name contains this
    #[arg(long)]
    filter: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Fuzz what reads a kernel's answers
    Decode,
    /// Fuzz what reads rules files
    Rules,
    /// Random requests to the fake kernel and the real ones
    Differential,
    /// The integration tests on real kernels, with clients that hammer one table and others at work
    Kernels,
}

impl Soak {
    /// Returns whether nothing was found.
    pub(crate) fn run(self) -> Result<bool> {
        match self.target {
            Target::Decode => fuzz::soak("decode", self.inputs),
            Target::Rules => fuzz::soak("rules", self.inputs),
            Target::Differential => {
                let (sequences, seed) = (self.sequences.to_string(), self.seed.to_string());
                again(&["differential", "--sequences", &sequences, "--seed", &seed], None)
            }
            Target::Kernels => {
                let cases: Vec<_> = ["test"].into_iter().chain(self.filter.as_deref()).collect();
                again(&cases, Some(self.seconds))
            }
        }
    }
}

/// Runs `cargo xtask vm` with more time than it has otherwise.
fn again(arguments: &[&str], seconds: Option<u64>) -> Result<bool> {
    let mut vm = Command::new(std::env::current_exe()?);
    vm.args(["vm", "--timeout", "3000"]).args(arguments);
    if let Some(seconds) = seconds {
        vm.env("IPVS_NETLINK_SOAK_SECONDS", seconds.to_string());
    }
    Ok(vm.status().context("this program could not be started again")?.success())
}
