//! The real `ipvsadm` sees what we wrote, and we see what it wrote.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::ensure;
use ipvs_netlink::Ruleset;

use crate::case::{Outcome, cases};
use crate::rules::{rich, write};
use crate::subject::{Subject, program};

cases![ipvsadm_prints_what_we_wrote, we_read_what_ipvsadm_wrote];

/// The lines in an order of their own: the kernel promises none.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    lines
}

async fn ipvsadm_prints_what_we_wrote(subject: &mut Subject) -> Outcome {
    let rules = rich();
    write(subject, &rules).await?;
    let saved = program("ipvsadm", &["-S", "-n"])?;
    assert_eq!(sorted(&saved), sorted(&rules.to_string()));
    assert_eq!(saved.parse::<Ruleset>()?, rules);
    Ok(())
}

async fn we_read_what_ipvsadm_wrote(subject: &mut Subject) -> Outcome {
    let rules = rich();
    let mut ipvsadm = Command::new("ipvsadm").arg("-R").stdin(Stdio::piped()).spawn()?;
    ipvsadm.stdin.take().unwrap().write_all(rules.to_string().as_bytes())?;
    ensure!(ipvsadm.wait()?.success(), "ipvsadm refused our text");
    assert_eq!(subject.client.ruleset().await?, rules);
    Ok(())
}
