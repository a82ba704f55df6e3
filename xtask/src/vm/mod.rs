//! `cargo xtask vm`: runs the crate's programs, or any of the host's, on real kernels in QEMU.

mod accelerator;
mod guest;
mod initramfs;
mod job;
mod kernel;
mod modules;
mod packages;
mod program;
mod qemu;
mod stream;
mod userland;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use self::guest::{Guest, Task};
use self::initramfs::Tree;
pub(crate) use self::job::{Job, RULES};
use self::kernel::Kernel;
pub(crate) use self::kernel::{Choice, Source};
use self::qemu::Accelerator;
use crate::cargo;

/// Run programs on real kernels in QEMU
///
/// No root is needed for the run itself, and nothing of this machine's own tables is touched. What is missing (QEMU, Debian's
/// kernels and tools) is installed or fetched with apt and kept under target/vm; remove that folder to fetch newer kernels.
///
/// The exit status is the program's own, 128 and the signal's number when a signal ended it, and 125 when there was no verdict:
/// the kernel panicked, the guest was silent, or the time was over.
#[derive(Args)]
pub(crate) struct Vm {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    action: Action,
}

/// In MiB; enough for test programs with their debug information.
const MEMORY: u32 = 1024;

#[derive(Args)]
pub(crate) struct Options {
    /// 6.1 or 6.12 (Debian's), all, or the path of a bzImage [default: all for test and differential, else 6.12]
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
    /// How long one guest may take, from its start to the verdict
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 600)]
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
    /// The defaults, with another time limit.
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

    /// The same with so much memory, in MiB.
    pub(crate) fn with_memory(self, memory: u32) -> Self {
        Self { memory, ..self }
    }

    /// The same by a clock that counts instructions, or by the host's.
    pub(crate) fn by_instructions(self, instructions: bool) -> Self {
        Self { instructions, ..self }
    }
}

/// What a program would run on, in words.
pub(crate) fn machine(source: &Source, options: &Options) -> Result<String> {
    let session = Session::open(source, options)?;
    Ok(format!("{} in QEMU {}", session.kernel, session.accelerator))
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
}

impl Vm {
    /// Returns the exit status of the program; of the first that failed when there are several runs.
    pub(crate) fn run(self) -> Result<u8> {
        let tests = matches!(self.action, Action::Test { .. } | Action::Differential { .. });
        let chosen = self.options.kernel.clone();
        let Choice(sources) =
            chosen.unwrap_or_else(|| if tests { Choice::all() } else { Choice::newest() });
        let Some(job) = Job::of(self.action)? else {
            return Session::open(&sources[0], &self.options)?.shell();
        };
        let mut first = 0;
        for source in &sources {
            if sources.len() > 1 {
                eprintln!("{source}:");
            }
            let status = job.run(source, &self.options, &mut std::io::stdout())?;
            first = if first == 0 { status } else { first };
        }
        Ok(first)
    }
}

/// A kernel of the user's choice with all that it takes to boot it here.
struct Session<'a> {
    options: &'a Options,
    kernel: Kernel,
    accelerator: Accelerator,
    cache: PathBuf,
}

impl<'a> Session<'a> {
    fn open(source: &Source, options: &'a Options) -> Result<Self> {
        let cache = cargo::metadata()?.target_directory.join("vm").into_std_path_buf();
        std::fs::create_dir_all(&cache)?;
        packages::ensure_host_programs()?;
        let kernel = kernel::find(source, options.modules.as_deref(), &cache.join("kernels"))?;
        let accelerator = if options.instructions {
            Accelerator::Counting
        } else {
            accelerator::choose(&kernel, &cache)?
        };
        Ok(Self { options, kernel, accelerator, cache })
    }

    fn guest(&self, tree: Tree) -> Guest<'_> {
        Guest {
            kernel: &self.kernel,
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
