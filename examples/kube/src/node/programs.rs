//! The programs of the host that are run: nft, iptables and ipset.

use std::ffi::OsString;
use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a program may take: far longer than nft takes for 100,000 elements, or iptables to have its turn.
const LONGEST: Duration = Duration::from_secs(60);

/// The programs of the host.
pub(crate) struct Programs {
    /// Where they are, as in the environment.
    path: OsString,
    longest: Duration,
}

impl Default for Programs {
    fn default() -> Self {
        Self { path: std::env::var_os("PATH").unwrap_or_default(), longest: LONGEST }
    }
}

impl Programs {
    /// Whether the host has a program.
    pub(crate) fn has(&self, name: &str) -> bool {
        std::env::split_paths(&self.path).any(|folder| folder.join(name).is_file())
    }

    /// Runs a program to its end; gives what it printed. One that does not end is stopped, and so is that of a pass which is
    /// given up.
    pub(crate) async fn run(&self, name: &str, arguments: &[&str], input: &str) -> Result<String> {
        let shown = format!("`{name} {}`", arguments.join(" "));
        let Ok(output) = timeout(self.longest, self.output(name, arguments, input)).await else {
            bail!("{shown} was stopped: it did not end within {} s", self.longest.as_secs_f64());
        };
        let Output { status, stdout, stderr } = match output {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!(
                    "{shown}: the program is not installed; it is in the package of its name, nft in nftables"
                )
            }
            Err(error) => return Err(error).context(shown),
        };
        if !status.success() {
            // Of a long script nft prints each line that it dislikes.
            let said = String::from_utf8_lossy(&stderr);
            let said: Vec<_> = said.trim().lines().take(6).collect();
            bail!("{shown} ended with {status}: {}", said.join("\n"));
        }
        String::from_utf8(stdout).context(shown)
    }

    async fn output(&self, name: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
        let mut command = Command::new(name);
        command.args(arguments).env("PATH", &self.path).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let write = async {
            let Some(mut stdin) = stdin else { return Ok(()) };
            match stdin.write_all(input.as_bytes()).await {
                // What it has to say, it says by its exit status.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                written => written,
            }
        };
        let (written, output) = tokio::join!(write, child.wait_with_output());
        written.and(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Programs {
        /// Those of one folder.
        pub(in crate::node) fn of(folder: &std::path::Path) -> Self {
            Self { path: folder.into(), ..Self::default() }
        }
    }

    /// Once: a program that hung kept the pass, and the signals, waiting for ever.
    #[tokio::test]
    async fn a_program_that_does_not_end_is_stopped() {
        let programs = Programs { longest: Duration::from_millis(100), ..Programs::default() };
        let ran = programs.run("sleep", &["1000000"], "").await;
        let error = ran.expect_err("it is stopped").to_string();
        assert_eq!(error, "`sleep 1000000` was stopped: it did not end within 0.1 s");
    }

    #[tokio::test]
    async fn what_a_program_says_is_told_when_it_fails() {
        let programs = Programs::default();
        let ran = programs.run("sh", &["-c", "echo no such thing >&2; exit 3"], "").await;
        let error = ran.expect_err("it fails").to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("no such thing"), "{error}");
        let ran = programs.run("no-such-program", &[], "").await;
        let error = ran.expect_err("it is missing").to_string();
        assert!(error.contains("is not installed"), "{error}");
    }
}
