//! The programs that run on this machine itself: its own, or else Debian's, unpacked below `target/vm` with all their libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::which;

/// QEMU, and the folders of its firmware.
pub(super) const QEMU: Tool = Tool {
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
    firmware: &["usr/share/qemu", "usr/share/seabios"],
};

/// The program that indexes a kernel's modules.
pub(super) const DEPMOD: Tool = Tool { program: "depmod", package: "kmod", firmware: &[] };

const ALL: [Tool; 2] = [QEMU, DEPMOD];

/// The suites that have them; the first one that the mirror serves counts.
pub(super) const SUITES: [&str; 2] = ["trixie", "sid"];

/// A program, and Debian's package that has it.
pub(super) struct Tool {
    program: &'static str,
    package: &'static str,
    firmware: &'static [&'static str],
}

/// The folder into which they are unpacked.
pub(super) fn root(cache: &Path) -> PathBuf {
    cache.join("tools")
}

/// The packages of all.
pub(super) fn packages() -> [&'static str; ALL.len()] {
    ALL.map(|tool| tool.package)
}

/// The names of those that this machine does not have itself.
pub(super) fn missing() -> Vec<&'static str> {
    ALL.iter().map(|tool| tool.program).filter(|program| which(program).is_none()).collect()
}

impl Tool {
    /// Runs the program: this machine's own, or else the unpacked one.
    pub(super) fn command(&self, cache: &Path) -> Result<Command> {
        match which(self.program) {
            Some(own) => Ok(Command::new(own)),
            None => self.unpacked(&root(cache)),
        }
    }

    /// An unpacked program runs with the libraries that it was built with, which may be newer than this machine's.
    fn unpacked(&self, root: &Path) -> Result<Command> {
        let folders = ["usr/bin", "usr/sbin"].iter();
        let mut programs = folders.map(|folder| root.join(folder).join(self.program));
        let program = programs.find(|program| program.exists());
        let program = program.with_context(|| format!("{} is not here", self.program))?;
        let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(root.join("usr/lib/x86_64-linux-gnu")).arg(program);
        for folder in self.firmware {
            command.arg("-L").arg(root.join(folder));
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpacked_program_finds_its_own_libraries_and_firmware() -> Result<()> {
        let root = tempfile::tempdir()?;
        let root = root.path();
        assert!(QEMU.unpacked(root).is_err());
        std::fs::create_dir_all(root.join("usr/bin"))?;
        std::fs::write(root.join("usr/bin/qemu-system-x86_64"), "")?;
        let qemu = QEMU.unpacked(root)?;
        assert_eq!(qemu.get_program(), root.join("usr/lib64/ld-linux-x86-64.so.2"));
        let expected = [
            "--library-path".into(),
            root.join("usr/lib/x86_64-linux-gnu"),
            root.join("usr/bin/qemu-system-x86_64"),
            "-L".into(),
            root.join("usr/share/qemu"),
            "-L".into(),
            root.join("usr/share/seabios"),
        ];
        assert!(qemu.get_args().eq(expected.iter().map(|it| it.as_os_str())));
        Ok(())
    }
}
