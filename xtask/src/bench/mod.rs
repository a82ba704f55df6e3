//! `cargo xtask bench`: measures on a real kernel or on this machine, and keeps the results.

mod chart;
mod report;

use std::ffi::OsString;
use std::io::{self, Write};

use anyhow::{Result, bail};
use clap::Args;

use self::report::Report;
use crate::cargo::{BENCHMARKS, PACKAGE, cargo, metadata};
use crate::command::{code, copied};
use crate::vm::{self, Choice, Debian, Job, Options, Origin, RULES, USUAL};

/// Measure writing, reading and changing rules beside the floor and other clients
///
/// All of it runs in one boot of a real kernel in QEMU, in turns, so that the rows can be held against each other; what QEMU
/// translates is slower than a machine, so they can be held against nothing else. The last lines are ratios: how many times as
/// fast the first is as the second. The report and a chart are put into target/bench.
#[derive(Args)]
// Each is a flag of its own.
#[allow(clippy::struct_excessive_bools)]
pub(crate) struct Bench {
    /// On this machine's own kernel, as root, in network namespaces of its own
    #[arg(long, conflicts_with_all = ["host", "kernel", "memory", "timeout"])]
    local: bool,
    /// What needs no kernel instead: encoding and decoding, planning, the fake kernel
    #[arg(long, conflicts_with_all = ["kernel", "memory", "timeout", "rounds", "limit", "sizes", "schedulers", "quick"])]
    host: bool,
    /// 5.10, 6.1, 6.12, backports or newest (Debian's), or the path of a bzImage
    #[arg(long, default_value = USUAL)]
    kernel: Choice,
    #[command(flatten)]
    origin: Origin,
    /// By a clock that counts instructions, a nanosecond each, on one CPU: no load on this machine disturbs it
    #[arg(long, conflicts_with_all = ["local", "host"])]
    instructions: bool,
    /// How often each row is run [default: 9]
    #[arg(long)]
    rounds: Option<usize>,
    /// A row that took this long in all, with what is around its time, is not run again [default: 12]
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    /// Services x destinations of each; can be repeated [default: 1000x10, 10000x10 and 1000x100]
    #[arg(long = "size", value_name = "SIZE")]
    sizes: Vec<String>,
    /// Can be repeated [default: rr, wrr and mh]
    #[arg(long = "scheduler", value_name = "NAME")]
    schedulers: Vec<String>,
    /// Three rounds at the first size, by the first scheduler: some minutes instead of half an hour
    #[arg(long)]
    quick: bool,
    /// Put the tables into docs/performance.md, in the place of those that are there
    #[arg(long)]
    keep: bool,
    /// The guest's memory
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    memory: u32,
    /// How long the guest may take
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = vm::timeout())]
    timeout: u64,
}

impl Bench {
    /// Returns the exit status of the benchmark.
    pub(crate) fn run(self) -> Result<u8> {
        let mut output = Captured::default();
        let (name, machine, status) = if self.host {
            ("host", "on the host".to_owned(), on_host(&mut output)?)
        } else if self.local {
            ("kernel", release()?, self.here(&mut output)?)
        } else {
            let [source] = &self.kernel.0[..] else { bail!("one kernel at a time") };
            let options = Options::within(self.timeout)
                .with_memory(self.memory)
                .by_instructions(self.instructions);
            let kernel = vm::find(source, &options, &Debian::new(&self.origin)?)?;
            let machine = vm::machine(&kernel, &options)?;
            ("kernel", machine, self.job()?.run(&kernel, &options, &mut output)?)
        };
        if status == 0 {
            let output = String::from_utf8_lossy(&output.text);
            Report::new(name, machine, &output).write(self.keep)?;
        }
        Ok(status)
    }

    fn here(&self, output: &mut Captured) -> Result<u8> {
        if !rustix::process::geteuid().is_root() {
            bail!("--local needs root, to change the kernel's tables; else it runs in QEMU");
        }
        self.job()?.run_here(output)
    }

    fn job(&self) -> Result<Job> {
        let mut arguments = Vec::<OsString>::new();
        let mut option = |name: &str, value: &str| {
            arguments.extend([name.into(), value.into()]);
        };
        if let Some(rounds) = self.rounds {
            option("--rounds", &rounds.to_string());
        }
        if let Some(limit) = self.limit {
            option("--limit", &limit.to_string());
        }
        self.sizes.iter().for_each(|size| option("--size", size));
        self.schedulers.iter().for_each(|scheduler| option("--scheduler", scheduler));
        if self.quick {
            arguments.push("--quick".into());
        }
        Job::bench(Some(RULES), arguments)
    }
}

fn on_host(output: &mut Captured) -> Result<u8> {
    let mut cargo = cargo(&metadata()?);
    cargo.args(["bench", "-p", PACKAGE, "-p", BENCHMARKS]);
    for bench in ["allocations", "codec", "plan", "million", "fake"] {
        cargo.args(["--bench", bench]);
    }
    Ok(code(copied(&mut cargo, output)?))
}

/// The kernel's release on this machine.
fn release() -> Result<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("Linux {}", release.trim()))
}

/// Standard output, which also keeps all that is written to it.
#[derive(Default)]
struct Captured {
    text: Vec<u8>,
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stdout().write(bytes)?;
        self.text.extend_from_slice(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}
