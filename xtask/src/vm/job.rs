//! The programs that run in a guest, their arguments and files, and the script that starts each of them.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use cargo_metadata::Target;

use super::guest::{FILES, Task};
use super::initramfs::Tree;
use super::{Action, Kernel, Options, Session, kernel, program, userland};
use crate::cargo::{BENCHMARKS, PACKAGE, build, cargo, kube, metadata};
use crate::command::{code, copied};

/// The variable that tells the integration tests for how long each of the cases that can go on does.
pub(crate) const SOAK_SECONDS: &str = "IPVS_NETLINK_SOAK_SECONDS";

/// Variables of the host that a program in the guest gets, too.
const PASSED_ON: [&str; 3] = [SOAK_SECONDS, "RUST_BACKTRACE", "RUST_LOG"];

/// The variable that tells the integration tests that they run in a guest, and on which kernel.
const TEST_KERNEL: &str = "IPVS_NETLINK_TEST_KERNEL";

/// The benchmark of `cargo xtask bench`, which takes longer than a guest's usual time limit.
pub(crate) const RULES: &str = "rules";

/// The examples that the integration tests run. The second is a package of its own, which benchmarks run, too; the third has a
/// workspace of its own.
const TESTED: &str = "sync";
const IPVSADM: &str = "ipvsadm";
const KUBE: &str = "ipvs-kube";

/// Programs to run one after another, each in a guest of its own.
#[derive(Default)]
pub(crate) struct Job {
    programs: Vec<PathBuf>,
    /// Programs that those programs start.
    beside: Vec<PathBuf>,
    arguments: Vec<OsString>,
    files: Vec<PathBuf>,
    stdin: Option<PathBuf>,
    /// The environment variables that the programs get besides those that are passed on from the host.
    variables: Vec<(&'static str, OsString)>,
}

impl Job {
    /// Builds the programs to run; `None` if the action runs no program.
    pub(super) fn of(action: Action) -> Result<Option<Self>> {
        let job = match action {
            Action::Test { filter, arguments } => {
                let filter = filter.map(OsString::from);
                Self::tests(filter.into_iter().chain(arguments))?
            }
            Action::Example { name, arguments } => Self {
                programs: example(&name)?,
                files: program::files_in(&arguments),
                arguments,
                ..Self::default()
            },
            Action::Exec { stdin, program, arguments } => {
                Self { programs: vec![program], arguments, stdin, ..Self::default() }
            }
            Action::Bench { name, arguments } => Self::bench(name.as_deref(), arguments)?,
            Action::Differential { sequences, seed, arguments } => {
                let seed = seed.map(|seed| ["--seed".into(), seed.to_string().into()]);
                Self::differential(sequences, seed.into_iter().flatten().chain(arguments))?
            }
            Action::Shell | Action::Kernels => return Ok(None),
        };
        Ok(Some(job))
    }

    /// The integration tests of the crate.
    pub(crate) fn tests(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let metadata = metadata()?;
        let mut tests = cargo(&metadata);
        // The arguments are those of `cargo xtask test` for building all tests, so that nothing is built twice.
        tests.args(["test", "--workspace", "--all-features", "--test", "it", "--no-run"]);
        let mut examples = cargo(&metadata);
        examples.args(["build", "--workspace", "--all-features", "--example", TESTED]);
        examples.args(["--bin", IPVSADM]);
        let mut beside = build(examples, |target| [TESTED, IPVSADM].contains(&&*target.name))?;
        let mut proxy = kube(&metadata);
        proxy.args(["build", "--bin", KUBE]);
        beside.extend(build(proxy, |target| target.name == KUBE && target.is_bin())?);
        Ok(Self {
            programs: build(tests, |target| target.is_test() && target.name == "it")?,
            beside,
            arguments: arguments.into_iter().collect(),
            ..Self::default()
        })
    }

    /// The benchmarks except `RULES`, or one of them.
    pub(crate) fn bench(name: Option<&str>, arguments: Vec<OsString>) -> Result<Self> {
        let mut ipvsadm = cargo(&metadata()?);
        ipvsadm.args(["build", "--release", "-p", IPVSADM, "--bin", IPVSADM]);
        Ok(Self {
            programs: benches(name)?,
            beside: build(ipvsadm, |target| target.name == IPVSADM)?,
            arguments: std::iter::once("--bench".into()).chain(arguments).collect(),
            ..Self::default()
        })
    }

    /// The program that compares the fake kernel with the real one.
    pub(crate) fn differential(
        sequences: u64,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self> {
        let words = ["--sequences".into(), sequences.to_string().into()];
        Ok(Self {
            programs: differential()?,
            arguments: words.into_iter().chain(arguments).collect(),
            ..Self::default()
        })
    }

    /// The same with a variable of the programs' environment.
    pub(crate) fn with_variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Runs the programs on a kernel; returns the first exit status that is not 0.
    pub(crate) fn run(
        &self,
        kernel: &Kernel,
        options: &Options,
        stdout: &mut (dyn Write + Send),
    ) -> Result<u8> {
        let session = Session::open(kernel, options)?;
        eprintln!("on {kernel} in QEMU {}", session.accelerator);
        let task =
            Task::Run { stdin: if self.stdin.is_some() { "/guest/stdin" } else { "/dev/null" } };
        let mut first = 0;
        for program in &self.programs {
            let tree = self.tree(program, &kernel::series(&kernel.release), options)?;
            let status = session.guest(tree).run(&task, stdout, &mut std::io::stderr())?;
            first = if first == 0 { status } else { first };
        }
        Ok(first)
    }

    /// Runs the programs on this machine instead; returns the first exit status that is not 0.
    pub(crate) fn run_here(&self, stdout: &mut dyn Write) -> Result<u8> {
        let mut first = 0;
        for program in &self.programs {
            let mut command = Command::new(program);
            let status = code(copied(command.args(&self.arguments), stdout)?);
            first = if first == 0 { status } else { first };
        }
        Ok(first)
    }

    fn tree(&self, program: &Path, kernel: &str, options: &Options) -> Result<Tree> {
        let mut tree = Tree::default();
        let is_tool = userland::TOOLS.iter().any(|tool| Path::new(tool) == program);
        let host = if is_tool { None } else { program::find(program)? };
        for program in host.iter().chain(&self.beside) {
            program::add(&mut tree, program)?;
        }
        for file in self.files.iter().chain(&options.files) {
            program::add_file(&mut tree, FILES, file)?;
        }
        if let Some(stdin) = &self.stdin {
            tree.file("guest/stdin", stdin)?;
        }
        let variables = PASSED_ON
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)))
            .chain([(TEST_KERNEL, kernel.into())])
            .chain(self.variables.iter().cloned());
        let program = host.as_deref().unwrap_or(program);
        tree.text("guest/run", script(variables, options.user, program, &self.arguments));
        Ok(tree)
    }
}

fn example(name: &str) -> Result<Vec<PathBuf>> {
    let metadata = metadata()?;
    let manifest = metadata.workspace_root.join("examples").join(name).join("Cargo.toml");
    let mut cargo = cargo(&metadata);
    cargo.args(["build", "--release"]);
    if manifest.exists() {
        cargo.args(["--manifest-path", manifest.as_str(), "--bin", name]);
    } else {
        cargo.args(["-p", PACKAGE, "--all-features", "--example", name]);
    }
    build(cargo, |target| target.name == name && (target.is_example() || target.is_bin()))
}

fn differential() -> Result<Vec<PathBuf>> {
    let mut cargo = cargo(&metadata()?);
    cargo.args(["build", "--release", "-p", "differential"]);
    build(cargo, Target::is_bin)
}

fn benches(name: Option<&str>) -> Result<Vec<PathBuf>> {
    let mut cargo = cargo(&metadata()?);
    // Without all features, since tracing would be measured, too.
    cargo.args(["bench", "-p", PACKAGE, "-p", BENCHMARKS, "--no-run"]);
    match name {
        Some(name) => cargo.args(["--bench", name]),
        None => cargo.args(["--bench", "*"]),
    };
    let wanted = |target: &Target| name.is_some() || target.name != RULES;
    build(cargo, |target| target.is_bench() && wanted(target))
}

/// A script for the guest's shell, which becomes the program.
fn script<'a>(
    variables: impl Iterator<Item = (&'a str, OsString)>,
    unprivileged: bool,
    program: &Path,
    arguments: &[OsString],
) -> Vec<u8> {
    let mut script = b"#!/bin/sh\n".to_vec();
    for (name, value) in variables {
        script.extend_from_slice(format!("export {name}=").as_bytes());
        quote(&mut script, &value);
        script.push(b'\n');
    }
    script.extend_from_slice(format!("cd /{FILES}\nexec{}", as_user(unprivileged)).as_bytes());
    let arguments = arguments.iter().map(OsString::as_os_str);
    for word in std::iter::once(program.as_os_str()).chain(arguments) {
        script.push(b' ');
        quote(&mut script, word);
    }
    script.push(b'\n');
    script
}

/// The words before a command of the guest, by which it runs as this user.
pub(super) fn as_user(unprivileged: bool) -> &'static str {
    if unprivileged { " setpriv --reuid 65534 --regid 65534 --clear-groups" } else { "" }
}

fn quote(script: &mut Vec<u8>, word: &OsStr) {
    script.push(b'\'');
    for byte in word.as_bytes() {
        match byte {
            b'\'' => script.extend_from_slice(b"'\\''"),
            byte => script.push(*byte),
        }
    }
    script.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_shell_reads_words_as_they_were() {
        let arguments = ["-c".into(), "it's $HOME".into()];
        let variables = [("RUST_LOG", "a b".into())].into_iter();
        assert_eq!(
            String::from_utf8_lossy(&script(variables, false, Path::new("/bin/sh"), &arguments)),
            "#!/bin/sh\nexport RUST_LOG='a b'\ncd /guest/files\nexec '/bin/sh' '-c' 'it'\\''s $HOME'\n"
        );
    }
}
