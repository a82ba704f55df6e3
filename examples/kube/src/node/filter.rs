//! The packet filter, by the program nft.

use std::io;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::nft::TABLE;

/// Loads a script in one transaction: it is loaded as a whole or not at all.
pub(crate) async fn load(script: &str) -> Result<()> {
    run("nft", &["-f", "-"], script).await.context("the packet filter stays as it was").map(drop)
}

/// Whether the proxy's table is there.
pub(crate) async fn is_loaded() -> Result<bool> {
    let tables = run("nft", &["list", "tables", "inet"], "").await?;
    Ok(tables.lines().any(|line| line.trim() == format!("table inet {TABLE}")))
}

/// Takes the proxy's table away.
pub(crate) async fn remove() -> Result<()> {
    // A table must be there to be deleted.
    load(&format!("table inet {TABLE}\ndelete table inet {TABLE}\n")).await
}

/// Runs a program to its end; gives what it printed.
pub(crate) async fn run(name: &str, arguments: &[&str], input: &str) -> Result<String> {
    let shown = format!("`{name} {}`", arguments.join(" "));
    let Output { status, stdout, stderr } = match output(name, arguments, input).await {
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
    // A pass that is given up takes its programs along.
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
