//! The reconciler and the planner with faults put in by cargo-mutants, which the tests should notice.

use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};
use cargo_metadata::Metadata;

use crate::cargo::{PACKAGE, UNIVERSE, cargo, metadata};
use crate::command::show;

/// The files that get faults.
const FILES: [&str; 3] = ["src/reconcile/*.rs", "src/ruleset/planner.rs", "src/ruleset/past.rs"];
/// Rule sync's tests and some random runs notice most faults within seconds. For the rest the universes are explored, by a
/// library that takes longer to build.
const ROUNDS: [Round; 2] = [
    Round {
        optimized: 0,
        runs: 500,
        tests: &["--lib", "--test", "sync", "--", "--skip", EXPLORED],
    },
    Round { optimized: 3, runs: 10_000, tests: &["--lib", "--", UNIVERSE] },
];
/// The universes, without the random runs.
const EXPLORED: &str = "whatever_happens_the_rules_are_kept";

/// The exit status of cargo-mutants if the tests did not notice a fault.
const MISSED: i32 = 2;
/// Its exit status if the tests did not end.
const TIMED_OUT: i32 = 3;

struct Round {
    optimized: u8,
    /// The number of random runs.
    runs: u32,
    tests: &'static [&'static str],
}

/// Returns whether the tests notice all faults. The others are listed, and stay in target/mutants/mutants.out/missed.txt.
pub(crate) fn soak(shard: Option<&str>) -> Result<bool> {
    let metadata = metadata()?;
    let mut sees_all = true;
    for (number, round) in ROUNDS.iter().enumerate() {
        let mut mutants = tool(&metadata)?;
        mutants.args(["mutants", "--package", PACKAGE, "--all-features", "--no-shuffle"]);
        mutants.args(FILES.iter().flat_map(|file| ["--file", file]));
        mutants.arg("--output").arg(metadata.target_directory.join("mutants"));
        mutants.args(shard.iter().flat_map(|shard| ["--shard", shard]));
        mutants.arg(format!(
            "--cargo-arg=--config=profile.dev.package.{PACKAGE}.opt-level={}",
            round.optimized,
        ));
        mutants.env("IPVS_NETLINK_RANDOM_RUNS", round.runs.to_string());
        mutants.env("IPVS_NETLINK_FIRST_FAULT", "1");
        if number > 0 {
            mutants.arg("--iterate");
        }
        mutants.arg("--").args(round.tests);
        let status = mutants.status().with_context(|| format!("`{}`", show(&mutants)))?;
        sees_all = saw_all(status, &mutants)?;
    }
    Ok(sees_all)
}

fn saw_all(status: ExitStatus, mutants: &Command) -> Result<bool> {
    match status.code() {
        Some(0) => Ok(true),
        Some(MISSED | TIMED_OUT) => Ok(false),
        _ => bail!("`{}` failed ({status})", show(mutants)),
    }
}

/// cargo-mutants, which is installed below target/ unless it is already.
fn tool(metadata: &Metadata) -> Result<Command> {
    let root = metadata.target_directory.join("tools");
    let program = root.join("bin/cargo-mutants");
    if !program.exists() {
        let mut install = cargo(metadata);
        install.args(["install", "cargo-mutants", "--locked", "--root"]).arg(&root);
        let status = install.status().with_context(|| format!("`{}`", show(&install)))?;
        if !status.success() {
            bail!("`{}` failed ({status})", show(&install));
        }
    }
    let mut mutants = Command::new(program);
    mutants.current_dir(&metadata.workspace_root);
    Ok(mutants)
}
