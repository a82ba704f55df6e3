//! The packet filter, by the program nft.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::nft::TABLE;

/// How long a program may take: far longer than nft takes for 100,000 elements, or iptables to have its turn.
const LONGEST: Duration = Duration::from_secs(60);

/// Loads a script in one transaction: it is loaded as a whole or not at all.
pub(crate) async fn load(script: &str) -> Result<()> {
    run("nft", &["-f", "-"], script).await.context("the packet filter stays as it was").map(drop)
}

/// Whether the proxy's table is there.
pub(crate) async fn is_loaded() -> Result<bool> {
    let tables = run("nft", &["list", "tables", "inet"], "").await?;
    Ok(tables.lines().any(|line| line.trim() == format!("table inet {TABLE}")))
}

/// Takes the proxy's table away; tells whether it was there. A host without nft has none.
pub(crate) async fn remove() -> Result<bool> {
    if !is_installed("nft") || !is_loaded().await? {
        return Ok(false);
    }
    // A table must be there to be deleted.
    load(&format!("table inet {TABLE}\ndelete table inet {TABLE}\n")).await.map(|()| true)
}

/// Whether the host has a program.
pub(crate) fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Runs a program to its end; gives what it printed. One that does not end is stopped, and so is that of a pass which is
/// given up.
pub(crate) async fn run(name: &str, arguments: &[&str], input: &str) -> Result<String> {
    run_within(LONGEST, name, arguments, input).await
}

async fn run_within(
    longest: Duration,
    name: &str,
    arguments: &[&str],
    input: &str,
) -> Result<String> {
    let shown = format!("`{name} {}`", arguments.join(" "));
    let Ok(output) = timeout(longest, output(name, arguments, input)).await else {
        bail!("{shown} was stopped: it did not end within {} s", longest.as_secs_f64());
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

async fn output(name: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut command = Command::new(name);
    command.args(arguments).kill_on_drop(true);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Once: a program that hung kept the pass, and the signals, waiting for ever.
    #[tokio::test]
    async fn a_program_that_does_not_end_is_stopped() {
        let ran = run_within(Duration::from_millis(100), "sleep", &["1000000"], "").await;
        let error = ran.expect_err("it is stopped").to_string();
        assert_eq!(error, "`sleep 1000000` was stopped: it did not end within 0.1 s");
    }

    #[tokio::test]
    async fn what_a_program_says_is_told_when_it_fails() {
        let ran = run("sh", &["-c", "echo no such thing >&2; exit 3"], "").await;
        let error = ran.expect_err("it fails").to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("no such thing"), "{error}");
        let error = run("no-such-program", &[], "").await.expect_err("it is missing").to_string();
        assert!(error.contains("is not installed"), "{error}");
    }
}
