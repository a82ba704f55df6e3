//! `cargo xtask test`: every check of the project in one command, on this machine and on real kernels.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cargo_metadata::Metadata;
use clap::Args;

use crate::cargo::{PACKAGE, cargo, metadata};
use crate::command::copied;
use crate::report::{self, Counting, Counts, Row};
use crate::vm::{Choice, Job, Options, Source};
use crate::{features, fuzz};

/// How long the integration tests may take on one kernel, in seconds.
const TIMEOUT: u64 = 1500;

/// Check everything: format, lints, docs, features, and the tests here and on real kernels
///
/// Every step runs even when an earlier one failed. The last lines are a table of what ran; the very last is the total.
#[derive(Args)]
pub(crate) struct Test {
    /// Only what runs on this machine
    #[arg(long, conflicts_with = "vm_only")]
    host_only: bool,
    /// Only the integration tests on real kernels
    #[arg(long)]
    vm_only: bool,
    /// 6.1 or 6.12 (Debian's), all, or the path of a bzImage
    #[arg(long, default_value = "all")]
    kernel: Choice,
}

impl Test {
    /// Returns whether all is well.
    pub(crate) fn run(self) -> Result<bool> {
        let metadata = metadata()?;
        let mut run = Run::default();
        let on_host = (self.vm_only).then_some("left out: --vm-only");
        let on_kernels = (self.host_only).then_some("left out: --host-only");
        checks(&mut run, &metadata, on_host)?;
        let built = run.step("build the tests", None, |_| {
            let all = ["test", "--workspace", "--all-features", "--no-run"];
            succeeds(cargo(&metadata).args(all))
        })?;
        let broken = (!built).then_some("NOT RUN: the build failed");
        host_tests(&mut run, &metadata, on_host.or(broken))?;
        for source in &self.kernel.0 {
            let name = format!("integration tests on {source}");
            run.tests(&name, on_kernels.or(broken), |out| on_kernel(source, out))?;
            let name = format!("the fake kernel against {source}");
            run.step(&name, on_kernels.or(broken), |out| differential(source, out))?;
        }
        Ok(report::print(&run.rows, &mut io::stdout())?)
    }
}

fn checks(run: &mut Run, metadata: &Metadata, left_out: Option<&'static str>) -> Result<()> {
    run.step("format", left_out, |_| succeeds(cargo(metadata).args(["fmt", "--all", "--check"])))?;
    run.step("clippy", left_out, |_| {
        let all = ["clippy", "--workspace", "--all-targets", "--all-features"];
        succeeds(cargo(metadata).args(all).args(["--", "-D", "warnings"]))
    })?;
    run.step("documentation", left_out, |_| {
        let mut doc = cargo(metadata);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        succeeds(doc.args(["doc", "-p", PACKAGE, "--no-deps", "--all-features"]))
    })?;
    for (name, features) in features::sets(metadata)? {
        run.step(&format!("features: {name}"), left_out, |_| {
            let mut check = cargo(metadata);
            check.env("RUSTFLAGS", "-D warnings");
            check.args(["check", "-p", PACKAGE, "--lib"]);
            succeeds(check.args(&features))?;
            features::brings_its_runtime_alone(metadata, &name, &features)
        })?;
    }
    run.step("features: as a crate that depends on ours has it", left_out, |_| {
        let mut check = cargo(metadata);
        check.args(["check", "--manifest-path", "tests/consumer/Cargo.toml"]);
        succeeds(check.arg("--target-dir").arg(metadata.target_directory.join("consumer")))
    })?;
    Ok(())
}

fn host_tests(run: &mut Run, metadata: &Metadata, left_out: Option<&'static str>) -> Result<()> {
    run.tests("tests on this machine", left_out, |out| {
        let all = ["test", "--workspace", "--all-features", "--no-fail-fast"];
        streams(cargo(metadata).args(all), out)
    })?;
    run.tests("library tests without features", left_out, |out| {
        let plain = ["test", "-p", PACKAGE, "--lib", "--no-default-features"];
        streams(cargo(metadata).args(plain), out)
    })?;
    for target in fuzz::TARGETS {
        run.step(&format!("fuzz target {target}, a short run"), left_out, |_| {
            fuzz::smoke(metadata, target)
        })?;
    }
    Ok(())
}

fn on_kernel(source: &Source, out: &mut (dyn Write + Send)) -> Result<()> {
    let options = Options::within(TIMEOUT);
    match Job::tests([])?.run(source, &options, out)? {
        0 => Ok(()),
        status => bail!("the tests ended with status {status}"),
    }
}

/// Far fewer requests than a soak, but others each time.
fn differential(source: &Source, out: &mut (dyn Write + Send)) -> Result<()> {
    let arguments = ["--rounds".into(), "5".into()];
    match Job::differential(500, arguments)?.run(source, &Options::within(TIMEOUT), out)? {
        0 => Ok(()),
        _ => bail!("the fake kernel differs from {source}"),
    }
}

/// The steps that were done.
#[derive(Default)]
struct Run {
    rows: Vec<Row>,
}

impl Run {
    /// A step that is well or not; it counts as one test.
    fn step(
        &mut self,
        name: &str,
        left_out: Option<&'static str>,
        work: impl FnOnce(&mut Output) -> Result<()>,
    ) -> Result<bool> {
        self.add(name, left_out, work, |good, _| Counts {
            passed: usize::from(good),
            failed: usize::from(!good),
            ..Counts::default()
        })
    }

    /// A step of many tests. That it ends well is not enough: it must have said so.
    fn tests(
        &mut self,
        name: &str,
        left_out: Option<&'static str>,
        work: impl FnOnce(&mut Output) -> Result<()>,
    ) -> Result<()> {
        self.add(name, left_out, work, |good, mut counts| {
            if counts.results == 0 {
                println!("{name}: no test result was printed");
            }
            if counts.failed == 0 && (!good || counts.results == 0) {
                counts.failed = 1;
            }
            counts
        })?;
        Ok(())
    }

    fn add(
        &mut self,
        name: &str,
        left_out: Option<&'static str>,
        work: impl FnOnce(&mut Output) -> Result<()>,
        count: impl FnOnce(bool, Counts) -> Counts,
    ) -> Result<bool> {
        if let Some(result) = left_out {
            let failed = usize::from(result.starts_with("NOT RUN"));
            let counts = Counts { failed, ..Counts::default() };
            self.push(name, result, counts, Duration::ZERO);
            return Ok(failed == 0);
        }
        println!("\n== {name}");
        let started = Instant::now();
        let mut output = Counting::new(io::stdout());
        let done = work(&mut output);
        if let Err(error) = &done {
            eprintln!("error: {error:#}");
        }
        let counts = count(done.is_ok(), output.counts);
        let good = counts.failed == 0;
        let time = started.elapsed();
        let result = if good { "ok" } else { "FAILED" };
        println!("== {name}: {result} in {:.1} s", time.as_secs_f64());
        io::stdout().flush()?;
        self.push(name, result, counts, time);
        Ok(good)
    }

    fn push(&mut self, name: &str, result: &'static str, counts: Counts, time: Duration) {
        self.rows.push(Row { name: name.to_owned(), result, counts, time });
    }
}

type Output = Counting<io::Stdout>;

fn succeeds(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    ended(command, status)
}

/// Runs with standard output passed on as it comes.
fn streams(command: &mut Command, out: &mut Output) -> Result<()> {
    let status = copied(command, out)?;
    ended(command, status)
}

fn ended(command: &Command, status: std::process::ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", crate::command::show(command));
    }
    Ok(())
}
