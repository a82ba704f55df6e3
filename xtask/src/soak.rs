//! `cargo xtask soak`: runs that find more the longer they last, and are no part of the tests.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::cargo::{PACKAGE, UNIVERSE, cargo, metadata};
use crate::vm::{self, Choice, Debian, Job, Options, Origin, SOAK_SECONDS};
use crate::{big_endian, fuzz, mutants};

/// How long one guest may take, in seconds.
const TIMEOUT: u64 = 3000;

/// The number of inputs of a fuzz target, unless the user says otherwise.
const INPUTS: u64 = 100_000_000;

/// Run for long what the tests run briefly
#[derive(Args)]
pub(crate) struct Soak {
    /// [default: decode]
    #[command(subcommand)]
    target: Option<Target>,
}

#[derive(Subcommand)]
enum Target {
    /// Fuzz what reads a kernel's answers
    Decode(Fuzzing),
    /// Fuzz what reads the files below /proc
    Proc(Fuzzing),
    /// Fuzz what reads rules files
    Rules(Fuzzing),
    /// Random requests to the fake kernel and the real ones
    Differential {
        /// How many sequences of requests the kernels get
        #[arg(long, default_value_t = 20_000)]
        sequences: u64,
        /// The seed of these sequences
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        kernels: OnKernels,
    },
    /// The integration tests on real kernels, with clients that hammer one table and others at work
    Kernels {
        /// How long each of the cases goes on that can
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// Only the cases whose name contains this
        #[arg(long)]
        filter: Option<String>,
        #[command(flatten)]
        kernels: OnKernels,
    },
    /// The tests that need no real kernel, built for s390x and run under QEMU's user emulation
    BigEndian {
        #[command(flatten)]
        origin: Origin,
    },
    /// The reconciler's universes, of more that happens than in the tests, and more random runs
    Reconciler,
    /// The reconciler and the planner with one fault put in after the other (cargo-mutants): which do the tests not see?
    Mutants {
        /// Only the part K of N, with K from 0
        #[arg(long, value_name = "K/N")]
        shard: Option<String>,
    },
}

#[derive(Args)]
struct Fuzzing {
    /// How many inputs the target gets; what it finds stays in target/fuzz, and a later run goes on from there
    #[arg(long, default_value_t = INPUTS)]
    inputs: u64,
}

#[derive(Args)]
struct OnKernels {
    /// 5.10, 6.1, 6.12, backports or newest (Debian's), all (but the newest), or the path of a bzImage [default: all and newest]
    #[arg(long)]
    kernel: Option<Choice>,
    #[command(flatten)]
    origin: Origin,
}

impl Soak {
    /// Returns whether the run found nothing.
    pub(crate) fn run(self) -> Result<bool> {
        match self.target.unwrap_or(Target::Decode(Fuzzing { inputs: INPUTS })) {
            Target::Decode(Fuzzing { inputs }) => fuzz::soak("decode", inputs),
            Target::Proc(Fuzzing { inputs }) => fuzz::soak("proc", inputs),
            Target::Rules(Fuzzing { inputs }) => fuzz::soak("rules", inputs),
            Target::Differential { sequences, seed, kernels } => {
                let seed = ["--seed".into(), seed.to_string().into()];
                kernels.run(&Job::differential(sequences, seed)?)
            }
            Target::Kernels { seconds, filter, kernels } => {
                let tests = Job::tests(filter.iter().map(OsString::from))?;
                kernels.run(&tests.with_variable(SOAK_SECONDS, seconds.to_string()))
            }
            Target::BigEndian { origin } => big_endian::soak(&Debian::new(&origin)?),
            Target::Reconciler => reconciler(),
            Target::Mutants { shard } => mutants::soak(shard.as_deref()),
        }
    }
}

impl OnKernels {
    fn run(self, job: &Job) -> Result<bool> {
        let Choice(sources) = self.kernel.unwrap_or_else(Choice::all_and_newest);
        let debian = Debian::new(&self.origin)?;
        Ok(vm::run_on(&sources, job, &Options::within(TIMEOUT), &debian)? == 0)
    }
}

/// Runs the reconciler's own tests, with more cases to explore.
fn reconciler() -> Result<bool> {
    let mut test = cargo(&metadata()?);
    test.env("IPVS_NETLINK_SOAK_RECONCILER", "1").env("IPVS_NETLINK_RANDOM_RUNS", "100000");
    test.args(["test", "--release", "--package", PACKAGE, "--all-features", "--lib"]);
    test.args([UNIVERSE, "--", "--nocapture"]);
    Ok(test.status().context("cargo could not be started")?.success())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        soak: Soak,
    }

    #[test]
    fn a_target_takes_its_own_options_and_no_others() {
        let parses = |line: &str| Command::try_parse_from(line.split(' ')).is_ok();
        for line in [
            "soak",
            "soak rules --inputs 5",
            "soak differential --sequences 5 --seed 2 --kernel 6.1",
            "soak kernels --seconds 5 --filter batch --mirror http://m/debian",
            "soak big-endian --mirror http://m/debian --refresh",
        ] {
            assert!(parses(line), "{line}");
        }
        for line in [
            "soak big-endian --kernel 6.1",
            "soak big-endian --filter fake",
            "soak reconciler --inputs 5",
            "soak decode --kernel 6.1",
            "soak kernels --sequences 5",
        ] {
            assert!(!parses(line), "{line}");
        }
    }
}
