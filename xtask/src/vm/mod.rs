//! `cargo xtask vm`: runs the crate's programs, or any of the host's, on real kernels in QEMU.

mod accelerator;
mod debian;
mod failure;
mod guest;
mod initramfs;
mod job;
mod kernel;
mod kernels;
mod lists;
mod lock;
mod modules;
mod packages;
mod program;
mod qemu;
mod roles;
mod sources;
mod stream;
mod sums;
mod tools;
mod userland;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::TypedValueParser;
use clap::{Args, Subcommand};

pub(crate) use self::debian::{Debian, NotServed, Origin};
use self::guest::{Guest, Task};
use self::initramfs::Tree;
pub(crate) use self::job::{Job, RULES, SOAK_SECONDS};
pub(crate) use self::kernel::{Choice, Kernel, Source, USUAL};
use self::qemu::Accelerator;
use crate::{NO_VERDICT, cargo};

/// Run programs on real kernels in QEMU
///
/// No root is needed, nothing is installed, and nothing of this machine's own tables is touched. Debian's kernels, and QEMU where it
/// is missing, are fetched with apt, by package lists of our own that are no older than a day. Kernels are kept under target/vm as
/// long as they are the newest of their suite: 5.10 of bullseye, 6.1 of bookworm, 6.12 of trixie, backports of trixie-backports,
/// newest of sid.
///
/// The exit status is the program's own, 128 and the signal's number when a signal ended it, and 125 when there was no verdict:
/// the command line was wrong, the kernel panicked, the guest was silent, or the time was over.
#[derive(Args)]
pub(crate) struct Vm {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    origin: Origin,
    #[command(subcommand)]
    action: Action,
}

/// The meaning of `--timeout`: up to a year, so that any time can be added to it.
pub(crate) fn timeout() -> impl TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(..=365 * 24 * 60 * 60)
}

/// In MiB. Half of it holds the files, which include test programs with their debug information.
const MEMORY: u32 = 1536;

#[derive(Args)]
pub(crate) struct Options {
    /// 5.10, 6.1, 6.12, backports or newest (Debian's), all (but the newest), or the path of a bzImage [default: all for test and
    /// differential, else 6.12]
    #[arg(long, global = true)]
    kernel: Option<Choice>,
    /// The modules of a kernel named by its path [default: /lib/modules/RELEASE]
    #[arg(long, global = true, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Leave a module out of the guest, and all that need it; can be repeated
    #[arg(long, global = true, value_name = "MODULE")]
    without: Vec<String>,
    /// Run the program as an unprivileged user (65534)
    #[arg(long, global = true)]
    user: bool,
    /// How long one guest may take, from its start to the verdict; while it boots, it may be silent for half of this, or for 300
    /// seconds if that is longer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 600, value_parser = timeout())]
    timeout: u64,
    /// The guest's memory
    #[arg(long, global = true, value_name = "MIB", default_value_t = MEMORY)]
    memory: u32,
    /// Have the guest's clock count instructions, a nanosecond each, on one CPU: benchmarks that no load on this machine disturbs
    #[arg(long, global = true)]
    instructions: bool,
    /// A file or folder for the program's working directory, under the same relative path; can be repeated
    #[arg(long = "file", global = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Options {
    /// The defaults, except for this time limit.
    pub(crate) fn within(timeout: u64) -> Self {
        Self {
            kernel: None,
            modules: None,
            without: Vec::new(),
            user: false,
            timeout,
            memory: MEMORY,
            instructions: false,
            files: Vec::new(),
        }
    }

    /// The same with this much memory, in MiB.
    pub(crate) fn with_memory(self, memory: u32) -> Self {
        Self { memory, ..self }
    }

    /// The same by a clock that counts instructions, or by the host's.
    pub(crate) fn by_instructions(self, instructions: bool) -> Self {
        Self { instructions, ..self }
    }
}

/// Finds a kernel for these options, and fetches one of Debian that is missing on this machine, as is QEMU.
pub(crate) fn find(source: &Source, options: &Options, debian: &Debian) -> Result<Kernel> {
    debian.ensure_tools()?;
    kernel::find(source, options.modules.as_deref(), debian)
}

/// The machine and the kernel on which a program would run, in words.
pub(crate) fn machine(kernel: &Kernel, options: &Options) -> Result<String> {
    let session = Session::open(kernel, options)?;
    Ok(format!("{kernel} in QEMU {}", session.accelerator))
}

/// Runs a job on each of these kernels; returns the first exit status that is not 0. Kernels that Debian does not serve are named
/// and left out; if none is left, this fails. An error on one of several kernels keeps no other from running.
pub(crate) fn run_on(
    sources: &[Source],
    job: &Job,
    options: &Options,
    debian: &Debian,
) -> Result<u8> {
    let run = |source| {
        let kernel = find(source, options, debian)?;
        job.run(&kernel, options, &mut std::io::stdout())
    };
    let mut not_run = Vec::new();
    let mut first = 0;
    for source in sources {
        let status = match run(source) {
            Ok(status) => status,
            Err(error) if error.is::<NotServed>() && not_run.len() + 1 < sources.len() => {
                eprintln!("NOT RUN: {error}");
                not_run.push(error);
                continue;
            }
            Err(error) if sources.len() == 1 || error.is::<NotServed>() => return Err(error),
            Err(error) => {
                eprintln!("error on {source}: {error:#}");
                NO_VERDICT
            }
        };
        first = if first == 0 { status } else { first };
    }
    for error in not_run {
        eprintln!("NOT RUN: {error}");
    }
    Ok(first)
}

#[derive(Subcommand)]
enum Action {
    /// Run the integration tests
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
        /// More for the test program
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Run an example; repository files that its arguments name are there under the same relative path
    Example {
        name: String,
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Run a program of this machine, with its libraries, or of the guest (ipvsadm, ip, busybox)
    Exec {
        /// What the program reads from standard input
        #[arg(long, value_name = "FILE")]
        stdin: Option<PathBuf>,
        /// By name or path
        program: PathBuf,
        /// All that follows, options too
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run the benchmarks, or one of them; `cargo xtask bench` runs the one that takes long, with a report
    Bench {
        name: Option<String>,
        /// More for the benchmark
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Hold the fake kernel against real ones: the same random requests, the same answers byte for byte
    Differential {
        /// How many sequences of requests to try
        #[arg(long, default_value_t = 1000)]
        sequences: u64,
        /// The first sequence's seed; each has the seed after the one before it [default: from the clock]
        #[arg(long)]
        seed: Option<u64>,
        /// More for the program
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Open a shell in the guest (Ctrl-A X ends the guest at once)
    Shell,
    /// List Debian's kernels: what is here, and what the suites have now; with --refresh fetch what is newer
    Kernels,
}

impl Vm {
    /// Returns the exit status of the program, or of the first one that failed if there are several runs.
    pub(crate) fn run(self) -> Result<u8> {
        let tests = matches!(self.action, Action::Test { .. } | Action::Differential { .. });
        let chosen = self.options.kernel.clone();
        let Choice(sources) =
            chosen.unwrap_or_else(|| if tests { Choice::all() } else { Choice::usual() });
        let debian = Debian::new(&self.origin)?;
        if matches!(self.action, Action::Kernels) {
            let good = kernels::print(&debian, self.origin.refresh, &mut std::io::stdout())?;
            return Ok(u8::from(!good));
        }
        match Job::of(self.action)? {
            Some(job) => run_on(&sources, &job, &self.options, &debian),
            None => {
                Session::open(&find(&sources[0], &self.options, &debian)?, &self.options)?.shell()
            }
        }
    }
}

/// A kernel of the user's choice with everything that booting it needs.
struct Session<'a> {
    options: &'a Options,
    kernel: &'a Kernel,
    accelerator: Accelerator,
    cache: PathBuf,
}

impl<'a> Session<'a> {
    fn open(kernel: &'a Kernel, options: &'a Options) -> Result<Self> {
        let cache = cache()?;
        let accelerator = if options.instructions {
            Accelerator::Counting
        } else {
            accelerator::choose(kernel, &cache)?
        };
        Ok(Self { options, kernel, accelerator, cache })
    }

    fn guest(&self, tree: Tree) -> Guest<'_> {
        Guest {
            kernel: self.kernel,
            accelerator: self.accelerator,
            memory: self.options.memory,
            timeout: Duration::from_secs(self.options.timeout),
            cache: &self.cache,
            without: &self.options.without,
            tree,
        }
    }

    fn shell(&self) -> Result<u8> {
        let mut tree = Tree::default();
        for file in &self.options.files {
            program::add_file(&mut tree, guest::FILES, file)?;
        }
        let name = &self.kernel.name;
        let user = job::as_user(self.options.user);
        tree.text(
            "guest/run",
            format!("#!/bin/sh\nexport PS1='linux-{name} \\w \\$ '\nexec{user} sh\n"),
        );
        let (rows, columns) = rustix::termios::tcgetwinsize(std::io::stdin())
            .map(|size| (size.ws_row, size.ws_col))
            .ok()
            .filter(|(rows, columns)| *rows > 0 && *columns > 0)
            .unwrap_or((24, 80));
        self.guest(tree).shell(&Task::Shell { rows, columns })?;
        Ok(0)
    }
}

/// `target/vm`
fn cache() -> Result<PathBuf> {
    let cache = cargo::metadata()?.target_directory.join("vm").into_std_path_buf();
    std::fs::create_dir_all(&cache)
        .with_context(|| format!("{} cannot be made", cache.display()))?;
    Ok(cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_on_one_kernel_keeps_no_other_from_running() -> Result<()> {
        let program = Action::Exec { stdin: None, program: "true".into(), arguments: Vec::new() };
        let job = Job::of(program)?.context("a job")?;
        let debian = Debian::new(&Origin::default())?;
        let run = |sources: &[Source]| run_on(sources, &job, &Options::within(1), &debian);
        let broken = || Source::Image("Cargo.toml".into());
        let error = run(&[broken()]).expect_err("it is no kernel");
        assert!(error.to_string().contains("is not a bzImage"), "{error:#}");
        assert_eq!(run(&[broken(), broken()])?, NO_VERDICT);
        Ok(())
    }
}
