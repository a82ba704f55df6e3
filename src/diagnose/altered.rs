//! Hosts for the tests of judges: a fake one with some of its files replaced.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr};

use super::Diagnosis;
use super::finding::Finding;
use crate::fake::Kernel;
use crate::model::{Destination, Scheduler, Service};
use crate::proc::{Files, ModuleIndex, Proc};
use crate::ruleset::Ruleset;

/// A fake host with some of its files replaced.
pub(super) struct Altered {
    pub(super) kernel: Kernel,
    /// The texts of files by their paths below `/proc`; `None` is a missing file.
    texts: BTreeMap<String, Option<String>>,
    has_module_index: bool,
    /// Whether the program that loads modules is there.
    has_program: bool,
    answers: bool,
    /// The beginnings of paths that are not to be opened.
    forbidden: &'static [&'static str],
}

impl Altered {
    pub(super) fn new() -> Self {
        let (kernel, texts) = (Kernel::new(), BTreeMap::new());
        let forbidden = &[];
        Self { kernel, texts, has_module_index: true, has_program: true, answers: true, forbidden }
    }

    pub(super) fn with(mut self, path: &str, text: &str) -> Self {
        self.texts.insert(path.to_owned(), Some(text.to_owned()));
        self
    }

    pub(super) fn without(mut self, path: &str) -> Self {
        self.texts.insert(path.to_owned(), None);
        self
    }

    pub(super) fn without_module_index(self) -> Self {
        Self { has_module_index: false, ..self }
    }

    pub(super) fn without_program(self) -> Self {
        Self { has_program: false, ..self }
    }

    /// A kernel without IPVS.
    pub(super) fn without_answer(self) -> Self {
        Self { answers: false, ..self }
    }

    /// Lets the test fail if a path that begins like this is opened.
    pub(super) fn forbidding(self, forbidden: &'static [&'static str]) -> Self {
        Self { forbidden, ..self }
    }

    /// Gives the host an interface with sysctls for IPv4 and IPv6.
    pub(super) fn with_interface(mut self, name: &str, sysctls: &[(&str, &str)]) -> Self {
        self.kernel.configure(|host| {
            if host.interfaces.iter().all(|interface| interface.name != name) {
                host.interfaces.push(crate::fake::Interface::new(name));
            }
        });
        for (path, value) in sysctls {
            let (version, setting) = path.split_once('/').unwrap();
            self = self.with(&format!("sys/net/{version}/conf/{name}/{setting}"), value);
        }
        self
    }

    pub(super) fn diagnose(self, rules: &Ruleset) -> Diagnosis {
        if !self.answers {
            self.kernel.configure(|host| host.family = None);
        }
        let connected = self.kernel.connect();
        Diagnosis::new(&Proc::of_files(self), connected, rules)
    }
}

impl Files for Altered {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
        assert!(!self.forbidden.iter().any(|it| path.starts_with(it)), "{path} was opened");
        match self.texts.get(path) {
            Some(Some(text)) => Ok(Box::new(io::Cursor::new(text.clone()))),
            Some(None) => Err(io::ErrorKind::NotFound.into()),
            None => Files::open(&self.kernel, path),
        }
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        Files::write(&self.kernel, path, text)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        Files::list(&self.kernel, folder)
    }

    fn link(&self, path: &str) -> io::Result<String> {
        Files::link(&self.kernel, path)
    }

    fn modules(&self, release: &str) -> Option<ModuleIndex> {
        self.kernel.modules(release).filter(|_| self.has_module_index).map(|_| ModuleIndex {
            dependencies:
                "kernel/net/netfilter/ipvs/ip_vs.ko:\nx/ip_vs_$(id).ko:\nx/ip_vs_a'b.ko:\n"
                    .to_owned(),
            builtin: "kernel/net/ipv4/ip_gre.ko\n".to_owned(),
        })
    }

    fn is_program(&self, _: &str) -> Option<bool> {
        Some(self.has_program)
    }
}

const WEB: [u8; 4] = [10, 0, 0, 1];

pub(super) fn rules(scheduler: &str) -> Ruleset {
    let web = Service::tcp(WEB, 80).scheduler(Scheduler::named(scheduler).unwrap());
    let mut rules = Ruleset::new();
    rules.insert_service(web).unwrap();
    rules.insert_destination(web.key, Destination::masquerade([10, 1, 0, 1], 80)).unwrap();
    rules
}

pub(super) fn rules6() -> Ruleset {
    let address = |last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
    let web = Service::tcp(address(1), 80);
    let mut rules = Ruleset::new();
    rules.insert_service(web).unwrap();
    rules.insert_destination(web.key, Destination::masquerade(address(2), 80)).unwrap();
    rules
}

pub(super) fn commands(finding: &Finding) -> Vec<&str> {
    finding.commands.iter().map(String::as_str).collect()
}
