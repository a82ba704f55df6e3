//! `cargo xtask test`: every check of the project in one command, on this machine and on real kernels.

use std::borrow::Cow;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cargo_metadata::Metadata;
use clap::Args;

use crate::cargo::{PACKAGE, UNIVERSE, cargo, metadata};
use crate::command::copied;
use crate::report::{self, Counting, Counts, Row, minutes};
use crate::vm::{self, Choice, Debian, Job, Kernel, NotServed, Options, Origin, Source};
use crate::{features, fuzz};

/// How long the integration tests may take on one kernel, in seconds.
const TIMEOUT: u64 = 1500;

/// Check everything: format, lints, docs, features, and the tests here and on real kernels
///
/// Every step runs even when an earlier one failed. The last lines are a table of what ran; the very last is the total.
#[derive(Args)]
pub(crate) struct Test {
    /// Only what runs on this machine
    #[arg(long, conflicts_with_all = ["vm_only", "kernel", "require", "mirror", "keyring", "refresh"])]
    host_only: bool,
    /// Only the integration tests on real kernels
    #[arg(long)]
    vm_only: bool,
    /// 5.10, 6.1, 6.12, backports or newest (Debian's), all (but the newest), or the path of a bzImage
    #[arg(long, default_value = "all")]
    kernel: Choice,
    /// Fail where Debian no longer serves this kernel, or any of them (all); can be repeated
    #[arg(long, value_name = "KERNEL", value_parser = Choice::roles())]
    require: Vec<Choice>,
    #[command(flatten)]
    origin: Origin,
}

impl Test {
    /// Returns whether all is well.
    pub(crate) fn run(self) -> Result<bool> {
        let metadata = metadata()?;
        // What is mistyped is told before all that takes long.
        let debian = Debian::new(&self.origin)?;
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
        let left_out = on_kernels.or(broken);
        for source in self.sources() {
            kernel_tests(&mut run, source, &debian, self.is_required(source), left_out)?;
        }
        if left_out.is_none() && run.kernels == 0 {
            run.leave_out("real kernels", "NOT RUN: none could be had");
        }
        Ok(report::print(&run.rows, &run.notes, &mut io::stdout())?)
    }

    /// Those to run on, and those required besides.
    fn sources(&self) -> Vec<&Source> {
        let mut sources: Vec<_> = self.kernel.0.iter().collect();
        for required in self.require.iter().flat_map(|choice| &choice.0) {
            if !sources.contains(&required) {
                sources.push(required);
            }
        }
        sources
    }

    fn is_required(&self, source: &Source) -> bool {
        self.require.iter().any(|choice| choice.0.contains(source))
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
        let plain = ["test", "-p", PACKAGE, "--lib", "--no-default-features", "--"];
        // They are the same with all features, and ran above.
        streams(cargo(metadata).args(plain).args(["--skip", UNIVERSE]), out)
    })?;
    for target in fuzz::TARGETS {
        run.step(&format!("fuzz target {target}, a short run"), left_out, |_| {
            fuzz::smoke(metadata, target)
        })?;
    }
    Ok(())
}

fn kernel_tests(
    run: &mut Run,
    source: &Source,
    debian: &Debian,
    required: bool,
    left_out: Option<&'static str>,
) -> Result<()> {
    let tests = format!("integration tests on {source}");
    let against = format!("the fake kernel against {source}");
    if let Some(why) = left_out {
        run.leave_out(&tests, why);
        run.leave_out(&against, why);
        return Ok(());
    }
    let Some(kernel) = run.kernel(source, debian, required) else { return Ok(()) };
    run.tests(&tests, None, |out| on_kernel(&kernel, out))?;
    run.step(&against, None, |out| differential(&kernel, out))?;
    Ok(())
}

fn on_kernel(kernel: &Kernel, out: &mut Output) -> Result<()> {
    match Job::tests([])?.run(kernel, &Options::within(TIMEOUT), out)? {
        0 => Ok(()),
        status => bail!("the tests ended with status {status}"),
    }
}

/// Far fewer requests than a soak, but others each time.
fn differential(kernel: &Kernel, out: &mut Output) -> Result<()> {
    let arguments = ["--rounds".into(), "5".into()];
    match Job::differential(500, arguments)?.run(kernel, &Options::within(TIMEOUT), out)? {
        0 => Ok(()),
        _ => bail!("the fake kernel differs from {kernel}"),
    }
}

/// The steps that were done.
#[derive(Default)]
struct Run {
    rows: Vec<Row>,
    /// Which kernels it was, and which could not be had.
    notes: Vec<String>,
    /// How many kernels could be had.
    kernels: usize,
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

    /// A step that does not run: by the user's wish, or for what failed before it. Returns whether that is no failure.
    fn leave_out(&mut self, name: &str, why: &'static str) -> bool {
        let failed = usize::from(why.starts_with("NOT RUN"));
        self.push(name, why, Counts { failed, ..Counts::default() }, Duration::ZERO);
        failed == 0
    }

    /// A kernel to run on; one that cannot be had is a step that did not run, and a failure unless Debian ended it.
    fn kernel(&mut self, source: &Source, debian: &Debian, required: bool) -> Option<Kernel> {
        let started = Instant::now();
        let error = match vm::find(source, &Options::within(TIMEOUT), debian) {
            Ok(kernel) => {
                self.kernels += 1;
                self.notes.push(format!("{source}: {kernel}"));
                return Some(kernel);
            }
            Err(error) => error,
        };
        let failed = usize::from(required || !error.is::<NotServed>());
        let note = if error.is::<NotServed>() {
            format!("NOT RUN: {error}")
        } else {
            println!("\n== kernel {source}\nerror: {error:#}");
            format!("NOT RUN: {source} cannot be had")
        };
        println!("\n{note}");
        let counts = Counts { failed, ..Counts::default() };
        self.push(&format!("kernel {source}"), note.clone(), counts, started.elapsed());
        self.notes.push(note);
        None
    }

    fn add(
        &mut self,
        name: &str,
        left_out: Option<&'static str>,
        work: impl FnOnce(&mut Output) -> Result<()>,
        count: impl FnOnce(bool, Counts) -> Counts,
    ) -> Result<bool> {
        if let Some(why) = left_out {
            return Ok(self.leave_out(name, why));
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
        println!("== {name}: {result} in {:.1} minutes", minutes(time));
        io::stdout().flush()?;
        self.push(name, result, counts, time);
        Ok(good)
    }

    fn push(
        &mut self,
        name: &str,
        result: impl Into<Cow<'static, str>>,
        counts: Counts,
        time: Duration,
    ) {
        self.rows.push(Row { name: name.to_owned(), result: result.into(), counts, time });
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        test: Test,
    }

    fn parse(line: &str) -> Result<Test, String> {
        let parsed = Command::try_parse_from(line.split(' '));
        parsed.map(|command| command.test).map_err(|error| error.to_string())
    }

    #[test]
    fn a_kernel_that_is_required_is_one_of_the_roles() {
        let required = |line| parse(line).map(|test| test.sources().len());
        assert_eq!(required("test --kernel 6.1 --require 5.10 --require 6.1"), Ok(2));
        assert_eq!(required("test --kernel 6.1 --require all"), Ok(4));
        for line in ["test --require 5.1", "test --require bzImage"] {
            let refused = required(line).expect_err(line);
            assert!(refused.contains("5.10, 6.1, 6.12, backports, newest, all"), "{refused}");
        }
    }

    #[test]
    fn without_kernels_nothing_is_said_of_kernels() {
        assert!(parse("test --host-only").is_ok());
        for option in ["--require 5.10", "--kernel 6.1", "--mirror http://m/debian", "--refresh"] {
            let refused = parse(&format!("test --host-only {option}")).err();
            assert!(refused.is_some_and(|refused| refused.contains("--host-only")), "{option}");
        }
    }
}
