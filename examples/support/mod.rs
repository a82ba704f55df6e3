//! Which kernel the examples speak with: the real one where that can be, else one in the process.
#![allow(dead_code)] // Each example takes what it needs.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ipvs_netlink::{Client, Error, Ruleset, blocking, fake};

/// The kernel to speak with.
#[derive(Args, Clone, Copy)]
pub(crate) struct KernelOption {
    /// Which kernel: this host's, or a fake one in the process. Unless told, this host's if it has
    /// IPVS and lets us, else a fake one
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
        if self.is_fake(blocking::Client::connect)? {
            return blocking::Client::connect_to(&fake::Kernel::new());
        }
        blocking::Client::connect()
    }

    /// Connects an asynchronous client; `real` connects one to the real kernel.
    pub(crate) async fn connect_async(
        self,
        real: impl Future<Output = Result<Client, Error>>,
    ) -> Result<Client, Error> {
        if self.is_fake(blocking::Client::connect)? {
            return Client::connect_to(&fake::Kernel::new()).await;
        }
        real.await
    }

    fn is_fake(
        self,
        connect: impl FnOnce() -> Result<blocking::Client, Error>,
    ) -> Result<bool, Error> {
        match self.kernel {
            Some(which) => Ok(matches!(which, Which::Fake)),
            // That reading the version is permitted tells that all is.
            None => match connect().and_then(|mut client| client.info()) {
                Ok(_) => Ok(false),
                Err(error) if error.is_ipvs_not_found() || error.is_permission_denied() => {
                    eprintln!("note: {error}; this runs on a fake kernel in the process");
                    Ok(true)
                }
                Err(error) => Err(error),
            },
        }
    }
}

/// Reads a rules file: JSON or YAML where its name ends so, else the format of ipvsadm-save.
pub(crate) fn read_rules(path: &Path) -> anyhow::Result<Ruleset> {
    let file = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => bail!("cannot read {file}: {error}"),
    };
    let name = || file.to_string();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::from_str(&text).with_context(name),
        Some("yaml" | "yml") => serde_saphyr::from_str(&text).with_context(name),
        _ => text.parse().with_context(name),
    }
}

/// The end of an example: its error in one line.
pub(crate) fn end<E: Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
