//! `cargo xtask test`: every check of the project in one command, on this machine and on real kernels.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, Stdout, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cargo_metadata::Metadata;
use clap::Args;

use crate::cargo::{PACKAGE, cargo, kube, metadata};
use crate::command::copied;
use crate::package::Package;
use crate::report::{self, Counting, Counts, Failed, Row, minutes};
use crate::vm::{self, Choice, Debian, Job, Kernel, NotServed, Options, Origin, Source};
use crate::{api, elsewhere, features, fuzz};

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
    /// Returns whether all checks passed.
    pub(crate) fn run(self) -> Result<bool> {
        let metadata = metadata()?;
        // A mistyped option is told before the steps that take long.
        let debian = Debian::new(&self.origin)?;
        let mut run = Run::new();
        let on_host = (self.vm_only).then_some("left out: --vm-only");
        let on_kernels = (self.host_only).then_some("left out: --host-only");
        checks(&mut run, &metadata, on_host)?;
        let built = run.step("build the tests", None, |_| {
            let all = ["test", "--workspace", "--all-features", "--no-run"];
            succeeds(cargo(&metadata).args(all))
        })?;
        let broken = (!built).then_some("NOT RUN: the build failed");
        host_tests(&mut run, &metadata, on_host.or(broken))?;
        self.kernel_tests(&mut run, &debian, on_kernels.or(broken))?;
        Ok(report::print(&run.rows, &run.notes, &mut run.out)?)
    }

    fn kernel_tests(
        &self,
        run: &mut Run,
        debian: &Debian,
        left_out: Option<&'static str>,
    ) -> Result<()> {
        if let Some(why) = left_out {
            for source in self.sources() {
                for step in OnKernel::steps(source) {
                    run.leave_out(&step, why);
                }
            }
            return Ok(());
        }
        let mut kernels = Vec::new();
        for source in self.sources() {
            let found = run.kernel(source, debian, self.is_required(source))?;
            kernels.extend(found.map(|kernel| (source, kernel)));
        }
        if kernels.is_empty() {
            run.leave_out("real kernels", "NOT RUN: none could be had");
            return Ok(());
        }
        let mut programs = None;
        run.step("build what runs on the kernels", None, |_| {
            programs = Some(OnKernel::build()?);
            Ok(())
        })?;
        if let Some(programs) = programs {
            for (source, kernel) in &kernels {
                programs.run_on(source, kernel, run)?;
            }
        }
        Ok(())
    }

    /// The kernels to run on, and the required ones.
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
            succeeds(&mut checked(metadata, &features))?;
            features::brings_its_runtime_alone(metadata, &name, &features)
        })?;
    }
    for target in elsewhere::TARGETS {
        let name = format!("other systems: {target}");
        if left_out.is_none() && !elsewhere::has_library(target)? {
            run.leave_out(&name, "left out: no standard library; `rustup target add` it");
            continue;
        }
        run.step(&name, left_out, |_| {
            let check =
                |features| succeeds(&mut checked(metadata, &["--target", target, features]));
            check("--no-default-features")?;
            check("--all-features")
        })?;
    }
    run.step("the public interface is that of tests/api.txt", left_out, |_| {
        api::compare(metadata)
    })?;
    run.step("the package: examples, tests and benchmarks", left_out, |_| {
        succeeds(&mut Package::make(metadata)?.check(metadata))
    })?;
    run.step("the package: a project that depends on it", left_out, |_| {
        let package = Package::make(metadata)?;
        // Without any feature, and then with the features of its tests.
        succeeds(&mut package.consumer(metadata, "check"))?;
        succeeds(&mut package.consumer(metadata, "test"))
    })?;
    Ok(())
}

fn host_tests(run: &mut Run, metadata: &Metadata, left_out: Option<&'static str>) -> Result<()> {
    run.tests("tests on this machine", left_out, |out| {
        let all = ["test", "--workspace", "--all-features", "--no-fail-fast"];
        streams(cargo(metadata).args(all), out)
    })?;
    run.tests("library tests without features", left_out, |out| {
        streams(&mut Package::make(metadata)?.tests_without_features(metadata), out)
    })?;
    run.tests("the example kube", left_out, |out| {
        succeeds(kube(metadata).args(["fmt", "--check"]))?;
        succeeds(kube(metadata).args(["clippy", "--all-targets", "--", "-D", "warnings"]))?;
        streams(kube(metadata).args(["test", "--no-fail-fast"]), out)
    })?;
    for target in fuzz::TARGETS {
        run.step(&format!("fuzz target {target}, a short run"), left_out, |_| {
            fuzz::smoke(metadata, target)
        })?;
    }
    Ok(())
}

/// The programs that run on each kernel.
struct OnKernel {
    tests: Job,
    differential: Job,
}

impl OnKernel {
    fn build() -> Result<Self> {
        let rounds = ["--rounds".into(), "5".into()];
        // Far fewer requests than in a soak, but different ones each time.
        Ok(Self { tests: Job::tests([])?, differential: Job::differential(500, rounds)? })
    }

    /// The names of the kernel's steps.
    fn steps(source: &Source) -> [String; 2] {
        [format!("integration tests on {source}"), format!("the fake kernel against {source}")]
    }

    fn run_on(&self, source: &Source, kernel: &Kernel, run: &mut Run) -> Result<()> {
        let [tests, differential] = Self::steps(source);
        let options = Options::within(TIMEOUT);
        run.tests(&tests, None, |out| match self.tests.run(kernel, &options, out)? {
            0 => Ok(()),
            status => bail!("the tests ended with status {status}"),
        })?;
        run.step(&differential, None, |out| {
            match self.differential.run(kernel, &options, out)? {
                0 => Ok(()),
                _ => bail!("the fake kernel differs from {kernel}"),
            }
        })?;
        Ok(())
    }
}

/// The steps that were done.
struct Run {
    out: Stdout,
    rows: Vec<Row>,
    /// Which kernels the tests ran on, which could not be had, and which tests failed.
    notes: Vec<String>,
}

impl Run {
    fn new() -> Self {
        Self { out: io::stdout(), rows: Vec::new(), notes: Vec::new() }
    }

    /// A step that passes or fails; it counts as one test.
    fn step(
        &mut self,
        name: &str,
        left_out: Option<&'static str>,
        work: impl FnOnce(&mut Output<'_>) -> Result<()>,
    ) -> Result<bool> {
        self.add(name, left_out, work, |good, _| Counts {
            passed: usize::from(good),
            failed: usize::from(!good),
            ..Counts::default()
        })
    }

    /// A step of many tests. An exit status of success is not enough: the step must have printed a result.
    fn tests(
        &mut self,
        name: &str,
        left_out: Option<&'static str>,
        work: impl FnOnce(&mut Output<'_>) -> Result<()>,
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

    /// A step that does not run, by the user's wish or since an earlier step failed. Returns whether this counts as no failure.
    fn leave_out(&mut self, name: &str, why: &'static str) -> bool {
        let failed = usize::from(why.starts_with("NOT RUN"));
        self.push(name, why, Counts { failed, ..Counts::default() }, Duration::ZERO);
        failed == 0
    }

    /// A kernel to run on. If it cannot be had, its steps do not run, which is a failure unless Debian no longer serves the
    /// kernel.
    fn kernel(
        &mut self,
        source: &Source,
        debian: &Debian,
        required: bool,
    ) -> io::Result<Option<Kernel>> {
        let started = Instant::now();
        let error = match vm::find(source, &Options::within(TIMEOUT), debian) {
            Ok(kernel) => {
                self.notes.push(format!("{source}: {kernel}"));
                return Ok(Some(kernel));
            }
            Err(error) => error,
        };
        let failed = usize::from(required || !error.is::<NotServed>());
        let note = if error.is::<NotServed>() {
            format!("NOT RUN: {error}")
        } else {
            writeln!(self.out, "\n== kernel {source}\nerror: {error:#}")?;
            format!("NOT RUN: {source} cannot be had")
        };
        writeln!(self.out, "\n{note}")?;
        let counts = Counts { failed, ..Counts::default() };
        self.push(&format!("kernel {source}"), note.clone(), counts, started.elapsed());
        self.notes.push(note);
        Ok(None)
    }

    fn add(
        &mut self,
        name: &str,
        left_out: Option<&'static str>,
        work: impl FnOnce(&mut Output<'_>) -> Result<()>,
        count: impl FnOnce(bool, Counts) -> Counts,
    ) -> Result<bool> {
        if let Some(why) = left_out {
            return Ok(self.leave_out(name, why));
        }
        writeln!(self.out, "\n== {name}")?;
        let started = Instant::now();
        let mut output = Counting::new(&mut self.out);
        let worked = work(&mut output);
        let Counting { counts, failed, .. } = output;
        if let Err(error) = &worked {
            writeln!(self.out, "error: {error:#}")?;
        }
        let counts = count(worked.is_ok(), counts);
        let good = counts.failed == 0;
        let time = started.elapsed();
        let result = if good { "ok" } else { "FAILED" };
        writeln!(self.out, "== {name}: {result} in {:.1} minutes", minutes(time))?;
        self.out.flush()?;
        self.push(name, result, counts, time);
        for Failed { test, said } in failed {
            self.notes.push(format!("{name}: {test} FAILED"));
            self.notes.extend(said.iter().map(|line| format!("    {line}")));
        }
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

type Output<'a> = Counting<&'a mut Stdout>;

/// Checks the library alone; nothing is linked, so that no tools of other systems are needed. The compiler's own option turns
/// warnings into errors: in `RUSTFLAGS` it would make cargo compile everything else again.
fn checked(metadata: &Metadata, options: &[impl AsRef<OsStr>]) -> Command {
    let mut check = cargo(metadata);
    check.args(["rustc", "-p", PACKAGE, "--lib", "--profile", "check"]).args(options);
    check.args(["--", "-D", "warnings"]);
    check
}

fn succeeds(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    ended(command, status)
}

/// Runs a command with standard output passed on as it comes.
fn streams(command: &mut Command, out: &mut dyn Write) -> Result<()> {
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
