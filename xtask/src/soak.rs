//! `cargo xtask soak`: what finds more the longer it runs, and is no part of the tests.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::cargo::{PACKAGE, cargo, metadata};
use crate::vm::{self, Choice, Debian, Job, Options, Origin, SOAK_SECONDS};
use crate::{big_endian, fuzz};

/// How long one guest may take, in seconds.
const TIMEOUT: u64 = 3000;

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
    /// 5.10, 6.1, 6.12, backports or newest (Debian's), all (but the newest), or the path of a bzImage [default: all and newest]
    #[arg(long)]
    kernel: Option<Choice>,
    #[command(flatten)]
    origin: Origin,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Fuzz what reads a kernel's answers
    Decode,
    /// Fuzz what reads the files below /proc
    Proc,
    /// Fuzz what reads rules files
    Rules,
    /// Random requests to the fake kernel and the real ones
    Differential,
    /// The integration tests on real kernels, with clients that hammer one table and others at work
    Kernels,
    /// The tests that need no real kernel, built for s390x and run under QEMU's user emulation
    BigEndian,
    /// The reconciler's universes, of more that happens than in the tests, and more random runs
    Reconciler,
}

impl Soak {
    /// Returns whether nothing was found.
    pub(crate) fn run(self) -> Result<bool> {
        match self.target {
            Target::Decode => fuzz::soak("decode", self.inputs),
            Target::Proc => fuzz::soak("proc", self.inputs),
            Target::Rules => fuzz::soak("rules", self.inputs),
            Target::Differential => {
                let seed = ["--seed".into(), self.seed.to_string().into()];
                self.on_kernels(&Job::differential(self.sequences, seed)?)
            }
            Target::Kernels => {
                let tests = Job::tests(self.filter.iter().map(OsString::from))?;
                self.on_kernels(&tests.with_variable(SOAK_SECONDS, self.seconds.to_string()))
            }
            Target::BigEndian => big_endian::soak(&Debian::new(&self.origin)?),
            Target::Reconciler => reconciler(),
        }
    }

    fn on_kernels(&self, job: &Job) -> Result<bool> {
        let Choice(sources) = self.kernel.clone().unwrap_or_else(Choice::all_and_newest);
        let debian = Debian::new(&self.origin)?;
        Ok(vm::run_on(&sources, job, &Options::within(TIMEOUT), &debian)? == 0)
    }
}

/// Runs the reconciler's own tests, with more to go through.
fn reconciler() -> Result<bool> {
    let mut test = cargo(&metadata()?);
    test.env("IPVS_NETLINK_SOAK_RECONCILER", "1");
    test.args(["test", "--release", "--package", PACKAGE, "--all-features", "--lib"]);
    test.args(["reconcile::universe", "--", "--nocapture"]);
    Ok(test.status().context("cargo could not be started")?.success())
}
