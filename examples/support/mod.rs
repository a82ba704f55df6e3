//! Which kernel the examples speak with, how they read rules, and how they end.
#![allow(dead_code)] // Each example takes what it needs.

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

/// The fake kernel, where it is asked for.
static FAKE: LazyLock<fake::Kernel> = LazyLock::new(fake::Kernel::new);

/// The kernel to speak with.
#[derive(Args, Clone, Copy)]
pub(crate) struct KernelOption {
    /// Which kernel: this host's, or a fake one in the process. Unless told, this host's, or a fake
    /// one where this host has no IPVS. Every line that comes from the fake one begins with "fake: "
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

    /// Whether to take the fake kernel. Where this host's has IPVS and does not let us, that is an
    /// error: nobody is to take the fake kernel's word for this host's.
    fn is_fake(self) -> Result<bool, Error> {
        if matches!(self.kernel, Some(Which::Fake)) {
            output::is_from_the_fake();
            return Ok(true);
        }
        // That reading the version is permitted tells that all is.
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

/// Whether the kernel has no IPVS, or, as a kernel that is emulated, not even generic netlink.
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

/// The rules of a file: JSON or YAML where its name ends so, else in the format of ipvsadm-save. An
/// empty file has none, whatever its name.
pub(crate) fn parse_rules(path: &Path, text: &str) -> anyhow::Result<Ruleset> {
    let name = || path.display().to_string();
    if text.trim().is_empty() {
        return Ok(Ruleset::new());
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::from_str(text).with_context(name),
        Some("yaml" | "yml") => {
            // An error is one line.
            let options = serde_saphyr::options!(with_snippet: false);
            serde_saphyr::from_str_with_options(text, options).with_context(name)
        }
        _ => text.parse().with_context(name),
    }
}

/// Before an error: what stands in the way of rules on the host, and what to do.
pub(crate) fn explain(rules: &Ruleset) {
    let diagnosis =
        if output::is_fake() { FAKE.diagnose(rules) } else { Options::new().diagnose(rules) };
    for finding in diagnosis.findings.iter().filter(|it| it.severity < Severity::Limited) {
        complain!("{finding}");
    }
}

/// What a quickstart needs of the host: a service with a masqueraded destination.
pub(crate) fn quickstart_rules() -> Ruleset {
    "-A -t 203.0.113.1:80 -s rr\n-a -t 203.0.113.1:80 -r 10.0.0.1:8080 -m"
        .parse()
        .expect("the rules are a constant")
}

/// The end of an example: its error in one line.
pub(crate) fn end<E: Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
