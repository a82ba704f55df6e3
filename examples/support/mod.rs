//! The common part of the examples: choosing a kernel, reading rules, and ending.
#![allow(dead_code)] // Not every example needs all of it.

pub(crate) mod output;

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ipvs_netlink::diagnose::Severity;
use ipvs_netlink::{Client, Errno, Error, Options, Ruleset, blocking, fake};

use output::complain;

/// The fake kernel, if it is used.
static FAKE: LazyLock<fake::Kernel> = LazyLock::new(fake::Kernel::new);

/// The option that chooses a kernel.
#[derive(Args, Clone, Copy)]
pub(crate) struct KernelOption {
    /// Use this host's kernel, or a fake one in the process. By default this host's, or the fake one
    /// if this host has no IPVS. Every line about the fake kernel begins with "fake: "
    #[arg(long, value_enum)]
    kernel: Option<Which>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Real,
    Fake,
}

impl KernelOption {
    /// Connects a blocking client.
    pub(crate) fn connect(self) -> Result<blocking::Client, Error> {
        if self.is_fake()? {
            return FAKE.connect();
        }
        blocking::Client::connect()
    }

    /// Connects an asynchronous client; `real` connects one to the real kernel.
    pub(crate) async fn connect_async(
        self,
        real: impl Future<Output = Result<Client, Error>>,
    ) -> Result<Client, Error> {
        if self.is_fake()? {
            return FAKE.connect_async().await;
        }
        real.await
    }

    /// Whether to use the fake kernel. A host with IPVS that refuses us is an error, so that nobody
    /// takes the fake kernel's output for this host's.
    fn is_fake(self) -> Result<bool, Error> {
        if matches!(self.kernel, Some(Which::Fake)) {
            output::is_from_the_fake();
            return Ok(true);
        }
        // The permission to read the version is the permission for everything.
        match blocking::Client::connect().and_then(|mut client| client.info()) {
            Ok(_) => Ok(false),
            Err(error) if self.kernel.is_none() && is_without_ipvs(&error) => {
                output::is_from_the_fake();
                complain!("note: {error}; this runs on a fake kernel in the process");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the kernel has no IPVS, or not even generic netlink, as an emulated kernel.
fn is_without_ipvs(error: &Error) -> bool {
    let none = [Errno::AFNOSUPPORT, Errno::PFNOSUPPORT, Errno::PROTONOSUPPORT];
    let is_without_netlink = error.errno().is_some_and(|errno| none.contains(&errno));
    error.is_ipvs_not_found() || is_without_netlink
}

/// Reads a rules file.
pub(crate) fn read_rules(path: &Path) -> anyhow::Result<Ruleset> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse_rules(path, &text),
        Err(error) => bail!("cannot read {}: {error}", path.display()),
    }
}

/// Parses the rules of a file: JSON if its name ends with .json, YAML with .yaml or .yml, else the
/// format of ipvsadm-save. An empty file has no rules, whatever its name.
pub(crate) fn parse_rules(path: &Path, text: &str) -> anyhow::Result<Ruleset> {
    let name = || path.display().to_string();
    if text.trim().is_empty() {
        return Ok(Ruleset::new());
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::from_str(text).with_context(name),
        Some("yaml" | "yml") => {
            // Without a snippet an error takes one line.
            let options = serde_saphyr::options!(with_snippet: false);
            serde_saphyr::from_str_with_options(text, options).with_context(name)
        }
        _ => text.parse().with_context(name),
    }
}

/// Prints, before an error, what the host lacks for the rules, and what to do about it.
pub(crate) fn explain(rules: &Ruleset) {
    let diagnosis =
        if output::is_fake() { FAKE.diagnose(rules) } else { Options::new().diagnose(rules) };
    for finding in diagnosis.findings.iter().filter(|it| it.severity < Severity::Limited) {
        complain!("{finding}");
    }
}

/// Rules that need the same of the host as a quickstart: a service with a masqueraded destination.
pub(crate) fn quickstart_rules() -> Ruleset {
    "-A -t 203.0.113.1:80 -s rr\n-a -t 203.0.113.1:80 -r 10.0.0.1:8080 -m"
        .parse()
        .expect("the rules are a constant")
}

/// Ends an example; prints an error in one line.
pub(crate) fn end<E: Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
