//! `cargo xtask soak big-endian`: the tests that need no real kernel, on a machine of the other byte order.
//!
//! The tests are built for s390x and run under QEMU's user emulation. The tools that this host lacks for this come from Debian,
//! and lie in folders of their own below `target/big-endian`.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::cargo::{PACKAGE, UNIVERSE, cargo, metadata};
use crate::command::{copied, output, which};
use crate::report::{self, Counting, Row};
use crate::vm::Debian;

const TARGET: &str = "s390x-unknown-linux-gnu";

/// The integration tests run on the fake kernel.
const TESTS: [&str; 4] = ["fake", "hashing", "losses", "it"];

/// Tests over a socket of this host; the user emulation has no sockets of generic netlink.
const LEFT_OUT: [&str; 3] =
    ["host::", "options::tests::buffers_are_as_large_as_was_asked_for", "transport::tokio::tests"];

/// Returns whether all tests passed.
pub(crate) fn soak(debian: &Debian) -> Result<bool> {
    let metadata = metadata()?;
    let folder = metadata.target_directory.join("big-endian").into_std_path_buf();
    let tools = Tools::find(debian, &folder)?;
    let rustc = rustc(debian, &folder)?;
    let version = output(Command::new(&rustc).arg("--version"))?;
    println!(
        "{TARGET}: {}, {}, {}",
        String::from_utf8_lossy(&version).trim(),
        tools.compiler.display(),
        tools.emulator.display()
    );

    let mut test = cargo(&metadata);
    tools.tell(&mut test);
    test.env("RUSTC", &rustc);
    test.args(["test", "-p", PACKAGE, "--all-features", "--target", TARGET, "--no-fail-fast"]);
    test.arg("--target-dir").arg(&folder).arg("--lib");
    test.args(TESTS.iter().flat_map(|name| ["--test", name])).arg("--");
    test.args(LEFT_OUT.iter().chain([&UNIVERSE]).flat_map(|name| ["--skip", name]));
    let started = Instant::now();
    let mut out = Counting::new(io::stdout());
    let status = copied(&mut test, &mut out)?;
    let mut counts = out.counts;
    if counts.failed == 0 && (!status.success() || counts.results <= TESTS.len()) {
        // A program was not built, or ended before its result.
        counts.failed = 1;
    }
    let result = if counts.failed == 0 { "ok" } else { "FAILED" };
    let name = format!("tests for {TARGET}");
    let row = Row { name, result: result.into(), counts, time: started.elapsed() };
    let left_out = LEFT_OUT.join(", ");
    let notes = [
        format!("filtered: {left_out}; the user emulation has no sockets of generic netlink"),
        format!("filtered: {UNIVERSE}, in which no byte order matters; `cargo test` runs it"),
    ];
    Ok(report::print(&[row], &notes, &mut io::stdout())?)
}

/// The programs that build C and link, and the emulator that runs the result.
struct Tools {
    compiler: PathBuf,
    emulator: PathBuf,
    /// The folder of their libraries, if they were unpacked.
    libraries: Option<PathBuf>,
}

impl Tools {
    const COMPILER: &str = "s390x-linux-gnu-gcc";
    const EMULATORS: [&str; 2] = ["qemu-s390x", "qemu-s390x-static"];
    const PACKAGES: [&str; 3] = ["gcc-s390x-linux-gnu", "libc6-dev-s390x-cross", "qemu-user"];

    fn find(debian: &Debian, folder: &Path) -> Result<Self> {
        let installed = (which(Self::COMPILER), Self::EMULATORS.iter().find_map(which));
        if let (Some(compiler), Some(emulator)) = installed {
            return Ok(Self { compiler, emulator, libraries: None });
        }
        let root = folder.join("tools");
        debian.unpack_of_host(&Self::PACKAGES, &root).with_context(|| {
            format!(
                "this needs {} and {}: install them with your package manager (Debian's packages: {})",
                Self::COMPILER,
                Self::EMULATORS[0],
                Self::PACKAGES.join(" ")
            )
        })?;
        let program =
            |name: &str| Some(root.join("usr/bin").join(name)).filter(|file| file.exists());
        Ok(Self {
            compiler: program(Self::COMPILER).context("the packages have no compiler")?,
            emulator: Self::EMULATORS
                .into_iter()
                .find_map(program)
                .context("the packages have no emulator")?,
            libraries: Some(root.join("usr/lib/x86_64-linux-gnu")),
        })
    }

    fn tell(&self, cargo: &mut Command) {
        let variable =
            |name: &str| format!("CARGO_TARGET_{}_{name}", TARGET.replace('-', "_").to_uppercase());
        cargo.env(variable("LINKER"), &self.compiler);
        // In an environment variable, a space would end the path.
        cargo.arg("--config").arg(runner(&self.emulator));
        // A program without libraries needs no libraries of s390x to run; the linker remarks on this.
        cargo.env(variable("RUSTFLAGS"), "-Ctarget-feature=+crt-static -Alinker-messages");
        cargo.env(format!("CC_{}", TARGET.replace('-', "_")), &self.compiler);
        if let Some(libraries) = &self.libraries {
            cargo.env("LD_LIBRARY_PATH", libraries);
        }
    }
}

/// The compiler that has a standard library for the target: the one that compiles everything else, or Debian's newest.
fn rustc(debian: &Debian, folder: &Path) -> Result<PathBuf> {
    let usual = std::env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from);
    let mut rustc = Command::new(&usual);
    let library = output(rustc.args(["--print", "target-libdir", "--target", TARGET]))?;
    if Path::new(String::from_utf8_lossy(&library).trim()).exists() {
        return Ok(usual);
    }
    unpacked_rustc(debian, folder).with_context(|| {
        format!("this needs Rust's standard library for {TARGET}: `rustup target add {TARGET}`")
    })
}

/// This script lies beside the folder of the compiler that it runs, whatever the folder above is called.
const RUSTC: &str = r#"#!/bin/sh
usr=${0%/*}/rustc/usr
exec "$usr/lib64/ld-linux-x86-64.so.2" --library-path "$usr/lib/x86_64-linux-gnu" "$usr/bin/rustc" "$@"
"#;

/// The setting that makes cargo run programs with this one.
fn runner(emulator: &Path) -> String {
    // Escapes are the same in Rust and TOML, except for characters that no path has.
    format!("target.{TARGET}.runner=[{:?}]", emulator.display().to_string())
}

/// Debian's newest compiler runs with the libraries that it was built with, which may be newer than the host's.
fn unpacked_rustc(debian: &Debian, folder: &Path) -> Result<PathBuf> {
    let root = folder.join("rustc");
    debian.unpack_of_suite("sid", "s390x", &["rustc", "libstd-rust-dev:s390x"], &root)?;
    let path = folder.join("rustc.sh");
    std::fs::write(&path, RUSTC)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_space_is_one_path() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let folder = folder.path().join("a b");
        let usr = folder.join("rustc/usr");
        for part in ["lib64", "bin"] {
            std::fs::create_dir_all(usr.join(part))?;
        }
        let executable = |path: &Path, text: &str| {
            std::fs::write(path, text)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        };
        let loader = "#!/bin/sh\nprintf '%s\\n' \"$#\" \"$3\" \"$5\"\n";
        executable(&usr.join("lib64/ld-linux-x86-64.so.2"), loader)?;
        let script = folder.join("rustc.sh");
        executable(&script, RUSTC)?;
        let said = output(Command::new(&script).args(["-o", "c d"]))?;
        let rustc = usr.join("bin/rustc");
        assert_eq!(String::from_utf8(said)?, format!("5\n{}\nc d\n", rustc.display()));
        assert!(runner(&folder.join("qemu")).ends_with("a b/qemu\"]"));
        Ok(())
    }
}
