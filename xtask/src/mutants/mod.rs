//! The reconciler and the planner with faults put in by cargo-mutants, which the tests should notice.

mod survivors;

use std::fs::read_to_string;
use std::process::Command;

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
/// Its exit status if the tests did not end, which nobody would overlook.
const TIMED_OUT: i32 = 3;

struct Round {
    optimized: u8,
    /// The number of random runs.
    runs: u32,
    tests: &'static [&'static str],
}

/// Returns whether the tests notice all faults but those that need not be noticed. All that they do not notice are listed.
pub(crate) fn soak(shard: Option<&str>) -> Result<bool> {
    let metadata = metadata()?;
    let output = metadata.target_directory.join("mutants");
    for (number, round) in ROUNDS.iter().enumerate() {
        let mut mutants = tool(&metadata)?;
        mutants.args(["mutants", "--package", PACKAGE, "--all-features", "--no-shuffle"]);
        mutants.args(FILES.iter().flat_map(|file| ["--file", file]));
        mutants.arg("--output").arg(&output);
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
        if !matches!(status.code(), Some(0 | MISSED | TIMED_OUT)) {
            bail!("`{}` failed ({status})", show(&mutants));
        }
    }
    let missed = output.join("mutants.out/missed.txt");
    let missed = read_to_string(&missed).with_context(|| format!("{missed}"))?;
    survivors::explain(&missed, metadata.workspace_root.as_std_path())
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
