//! The fuzz targets under libFuzzer, which need only stable Rust: short for the tests, long for `cargo xtask soak`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use cargo_metadata::Metadata;

use crate::cargo::{build, cargo, metadata};
use crate::command::show;

/// The names of the targets of `fuzz/Cargo.toml`.
pub(crate) const TARGETS: [&str; 3] = ["decode", "proc", "rules"];
/// The number of inputs of a smoke run.
const SMOKE: u64 = 200_000;
/// The length of the longest inputs.
const LONGEST: u32 = 1024;

/// The compiler's options for libFuzzer: counters of edges, and the values that are compared. `--target` keeps these options away
/// from build scripts.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// A long run, which starts from the finds of earlier runs. Returns whether it found nothing.
pub(crate) fn soak(target: &str, inputs: u64) -> Result<bool> {
    let metadata = metadata()?;
    let program = program(&metadata, target)?;
    let folder = metadata.target_directory.join("fuzz").join(target);
    let corpus = folder.join("corpus");
    std::fs::create_dir_all(&corpus)?;
    let mut fuzz = fuzz(program, inputs);
    fuzz.arg(format!("-artifact_prefix={folder}/")).arg(corpus);
    Ok(run(&mut fuzz).inspect_err(|error| eprintln!("error: {error:#}")).is_ok())
}

/// A short run, with the same inputs every time.
pub(crate) fn smoke(metadata: &Metadata, target: &str) -> Result<()> {
    let folder = metadata.target_directory.join("fuzz").join(target);
    std::fs::create_dir_all(&folder)?;
    let mut fuzz = fuzz(program(metadata, target)?, SMOKE);
    run(fuzz.arg("-seed=1").arg(format!("-artifact_prefix={folder}/")))
}

fn program(metadata: &Metadata, target: &str) -> Result<PathBuf> {
    let mut cargo = cargo(metadata);
    cargo.env("RUSTFLAGS", FLAGS).args(["build", "--release", "--target", TRIPLE]);
    cargo.args(["--manifest-path", "fuzz/Cargo.toml", "--bin", target]);
    cargo.arg("--target-dir").arg(metadata.target_directory.join("fuzz"));
    let programs = build(cargo, |built| built.name == target)?;
    Ok(programs.into_iter().next().unwrap_or_default())
}

fn fuzz(program: PathBuf, inputs: u64) -> Command {
    let mut fuzz = Command::new(program);
    fuzz.arg(format!("-runs={inputs}")).arg(format!("-max_len={LONGEST}"));
    // A line at the start and at the end is enough.
    fuzz.args(["-print_final_stats=1", "-report_slow_units=60"]);
    fuzz
}

fn run(fuzz: &mut Command) -> Result<()> {
    let status = fuzz.stdin(Stdio::null()).status()?;
    if !status.success() {
        bail!("`{}` found something ({status})", show(fuzz));
    }
    Ok(())
}
