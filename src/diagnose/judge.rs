//! The meaning of a host's facts for a ruleset.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::facts::{Device, Facts, Loading, Module};
use super::routes::Way;
use super::tunnels;
use super::{Finding, Problem, Severity};
use crate::error::quoted;
use crate::model::{Destination, Family, Forwarding, HashOptions, Scheduler, ServiceKey};
use crate::proc;
use crate::ruleset::{Ruleset, ServiceRules};

/// A bucket with more services than this is slow to write and to read.
const CROWDED: usize = 1000;
/// After the removal of more destinations than this, adding destinations is slow.
const MANY: usize = 10_000;

pub(super) fn judge(facts: &Facts, rules: &Ruleset) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(access(facts));
    schedulers(facts, rules, &mut findings);
    engines(facts, rules, &mut findings);
    addresses(facts, rules, &mut findings);
    forwarding(facts, rules, &mut findings);
    findings.extend(unreadable_names(facts));
    tunnels::judge(facts, rules, &mut findings);
    limits(facts, rules, &mut findings);
    findings
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        problem: Problem,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (text, advice) = (text.into(), advice.into());
        Self { severity, problem, text, advice, commands: Vec::new() }
    }

    /// Adds a command, whose operands can be names that a stranger has chosen.
    pub(super) fn command(mut self, command: &str, operands: &[&str]) -> Self {
        let words = [command.into()].into_iter().chain(operands.iter().map(|it| quoted(it)));
        self.commands.push(words.collect::<Vec<_>>().join(" "));
        self
    }

    /// Adds the command that sets a sysctl of a device. The program `sysctl` takes all text behind
    /// the first `=` for the value, also where that `=` is part of the device's name.
    pub(super) fn sysctl(self, folder: &str, device: &str, setting: &str, value: u8) -> Self {
        if device.contains('=') {
            let folder = folder.replace('.', "/");
            let file = format!("/proc/sys/{folder}/{device}/{setting}");
            return self.command(&format!("echo {value} >"), &[&file]);
        }
        let device = device.replace('.', "/");
        self.command("sysctl -w", &[&format!("{folder}.{device}.{setting}={value}")])
    }
}

/// Whether the caller can use IPVS at all.
fn access(facts: &Facts) -> Vec<Finding> {
    let refused =
        |problem, text: &str, advice: &str| Finding::new(Severity::Refused, problem, text, advice);
    let mut findings = Vec::new();
    if facts.is_in_user_namespace {
        findings.push(refused(
            Problem::UserNamespace,
            "this process is in a user namespace of its own, where no capability counts for IPVS",
            "Run the program in the initial user namespace: as root of the host, outside of rootless \
             containers and of `unshare --user`.",
        ));
    } else if !facts.is_capable {
        findings.push(refused(
            Problem::Permission,
            "this process lacks CAP_NET_ADMIN",
            "Run the program as root, or give a container the capability NET_ADMIN.",
        ));
    }
    match &facts.answer {
        Ok(()) => {}
        Err(error) if error.is_ipvs_not_found() => findings.push(ipvs(facts)),
        Err(error) if error.is_permission_denied() && !findings.is_empty() => {}
        Err(error) => findings.push(unanswered(&error.to_string())),
    }
    findings
}

/// An answer that is not known.
fn unanswered(error: &str) -> Finding {
    let advice = "The text says what was asked and what the answer was.";
    Finding::new(Severity::Refused, Problem::Unanswered, error, advice)
}

/// A network namespace that does not exist, or that the caller may not enter.
pub(super) fn unentered(error: &proc::Error, is_in_user_namespace: bool) -> Finding {
    let text = error.to_string();
    let refused = |problem, advice| Finding::new(Severity::Refused, problem, &text, advice);
    if !error.is_permission_denied() {
        unanswered(&text)
    } else if is_in_user_namespace {
        let advice = "Run the program in the initial user namespace, as root of the host: in one of its \
                      own no capability counts for another's network namespace, nor for IPVS.";
        refused(Problem::UserNamespace, advice)
    } else {
        let advice = "Run the program as root, or give a container the capabilities SYS_ADMIN and \
                      NET_ADMIN.";
        refused(Problem::Permission, advice)
    }
}

fn ipvs(facts: &Facts) -> Finding {
    let finding =
        |text: &str, advice: &str| Finding::new(Severity::Refused, Problem::Ipvs, text, advice);
    match facts.modules.state("ip_vs") {
        Module::Absent if facts.modules.loading == Loading::Unsupported => finding(
            "this kernel has no IPVS built in, and takes no modules",
            "Install a kernel that is built with CONFIG_IP_VS.",
        ),
        Module::Absent => finding(
            "this kernel has no IPVS, neither built in nor as a module",
            &format!(
                "Install a kernel that is built with CONFIG_IP_VS, or the rest of this one's modules: \
                 on Ubuntu the package linux-modules-extra-{}.",
                facts.release
            ),
        ),
        Module::Ready | Module::Loadable => {
            finding("the module ip_vs is not loaded", "Load the module:")
                .command("modprobe ip_vs", &[])
        }
        Module::Barred => {
            let text = format!("the module ip_vs is not loaded, and {BARRED}");
            finding(&text, &at_boot("ip_vs"))
        }
        Module::Unknown => finding(
            "the module ip_vs is not loaded, and whether it is installed cannot be told here",
            "Load the module on the host, outside of any container:",
        )
        .command("modprobe ip_vs", &[]),
    }
}

const BARRED: &str =
    "this kernel takes no module until it is booted again, since kernel.modules_disabled is 1";

fn at_boot(module: &str) -> String {
    format!(
        "Have the module {module} loaded at boot before that is set, by a file below \
         /etc/modules-load.d, say, and boot again."
    )
}

fn schedulers(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    // Without its options, each scheduler comes once.
    let wanted: BTreeMap<_, _> = rules
        .services()
        .map(|rules| &rules.service().scheduler)
        .filter(|scheduler| **scheduler != Scheduler::Unbound)
        .map(|scheduler| (scheduler.name(), scheduler.with_hash_options(HashOptions::default())))
        .collect();
    for (name, scheduler) in wanted {
        let module = format!("ip_vs_{name}");
        let what = format!("the scheduler {name}");
        let since = since(scheduler);
        let state = facts.modules.state(&module);
        if state != Module::Ready && facts.is_before(since) {
            findings.push(Finding::new(
                Severity::Refused,
                Problem::Scheduler(scheduler),
                format!("{what} needs Linux {}.{} or later", since.0, since.1),
                "Give its services another scheduler, such as wlc, or use a newer kernel.",
            ));
        } else {
            let advice = "Give its services another scheduler, such as wlc, or use a kernel that has \
                          the module.";
            let missing = missing(facts, &module, &what, advice);
            findings.extend(
                missing
                    .map(|finding| Finding { problem: Problem::Scheduler(scheduler), ..finding }),
            );
        }
    }
}

fn engines(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    let engines = rules.services().filter_map(|rules| rules.service().persistence?.engine);
    for engine in engines.collect::<BTreeSet<_>>() {
        let what = format!("the persistence engine {engine}");
        let advice = "Leave it out of its services, or use a kernel that has the module.";
        let missing = missing(facts, &format!("ip_vs_pe_{engine}"), &what, advice);
        findings
            .extend(missing.map(|finding| Finding { problem: Problem::Engine(engine), ..finding }));
    }
}

/// The reason why a module's feature cannot be used, if it cannot.
fn missing(facts: &Facts, module: &str, what: &str, if_absent: &str) -> Option<Finding> {
    let finding = |text, advice: &str| Finding::new(Severity::Refused, Problem::Ipvs, text, advice);
    let not_loaded = format!(
        "{what} is in the module {module}, which is not loaded, and this kernel loads none by itself"
    );
    match facts.modules.state(module) {
        Module::Ready => None,
        // The kernel loads modules for containers, too.
        Module::Unknown if facts.modules.loading == Loading::ByItself => None,
        Module::Absent => {
            let text = format!("{what} is not installed: this kernel has no module {module}");
            Some(finding(text, if_absent))
        }
        Module::Barred => {
            let text =
                format!("{what} is in the module {module}, which is not loaded, and {BARRED}");
            Some(finding(text, &at_boot(module)))
        }
        Module::Loadable => {
            Some(finding(not_loaded, "Load the module:").command("modprobe", &[module]))
        }
        Module::Unknown => Some(
            finding(not_loaded, "Load the module on the host, outside of any container:")
                .command("modprobe", &[module]),
        ),
    }
}

/// The first kernel that has a scheduler; zeroes if all kernels have it.
fn since(scheduler: Scheduler) -> (u32, u32) {
    match scheduler {
        Scheduler::WeightedFailover => (3, 18),
        Scheduler::WeightedOverflow => (4, 3),
        Scheduler::MaglevHash(_) => (4, 18),
        Scheduler::TwoChoices => (5, 12),
        _ => (0, 0),
    }
}

/// The destinations of all services.
fn destinations(rules: &Ruleset) -> impl Iterator<Item = &Destination> {
    rules.services().flat_map(ServiceRules::destinations)
}

fn addresses(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    let has_ipv4 = destinations(rules).any(|destination| destination.key.family() == Family::V4);
    if has_ipv4 && !facts.has_ipv4_address {
        let text = "this network namespace has no IPv4 address yet, so every IPv4 destination is \
                    refused";
        let finding = Finding::new(
            Severity::Refused,
            Problem::NoAddress,
            text,
            "Bring up its loopback, which gives it one:",
        );
        findings.push(finding.command("ip link set lo up", &[]));
    }
    let services = rules.services().map(|rules| rules.key().family());
    let has_ipv6 = services
        .chain(destinations(rules).map(|destination| destination.key.family()))
        .any(|family| family == Family::V6);
    if has_ipv6 {
        findings.extend(ipv6(facts, rules));
    }
    findings.extend(virtual_addresses(facts, rules));
}

/// Whether devices have IPv6: each device has its own setting.
fn ipv6(facts: &Facts, rules: &Ruleset) -> Option<Finding> {
    let broken =
        |text: String, advice| Finding::new(Severity::Broken, Problem::NoIpv6, text, advice);
    if !facts.has_ipv6 {
        return Some(broken(
            "this kernel has no IPv6, and some rules are of it".to_owned(),
            "Boot without ipv6.disable=1, or load the module ipv6.",
        ));
    }
    let outward = facts.devices.outward();
    let of = |wanted: bool| -> Vec<&str> {
        let is_wanted = |device: &Device| device.disables_ipv6 == Some(wanted);
        outward.iter().filter(|(_, device)| is_wanted(device)).map(|(name, _)| *name).collect()
    };
    let (disabled, enabled) = (of(true), of(false));
    let has_none = enabled.is_empty() && (facts.disables_ipv6 || !disabled.is_empty());
    if has_none && facts.disables_ipv6 {
        let text = "IPv6 is disabled in this network namespace, and some rules are of it";
        let command = "sysctl -w net.ipv6.conf.all.disable_ipv6=0";
        return Some(broken(text.to_owned(), "Enable it:").command(command, &[]));
    }
    let unreached =
        destinations(rules).map(|destination| destination.key.address).find(|address| {
            address.is_ipv6()
                && facts.is_local(*address) == Some(false)
                && facts.routes.way(*address) == Way::Nowhere
        });
    let text = match unreached {
        _ if disabled.is_empty() => return None,
        _ if has_none => {
            format!("IPv6 is disabled on {}, and some rules are of it", disabled.join(", "))
        }
        Some(address) => {
            format!("no route leads to {address}, and IPv6 is disabled on {}", disabled.join(", "))
        }
        None => return None,
    };
    let finding = broken(text, "Enable it, and give the interface its addresses again:");
    Some(disabled.into_iter().fold(finding, |finding, device| {
        finding.sysctl("net.ipv6.conf", device, "disable_ipv6", 0)
    }))
}

/// Devices whose settings cannot be read, since their names in procfs are not UTF-8.
fn unreadable_names(facts: &Facts) -> Option<Finding> {
    let is_unreadable = |name: &&String| name.contains(char::REPLACEMENT_CHARACTER);
    let names: Vec<_> =
        facts.devices.all.keys().filter(is_unreadable).map(|name| format!("{name:?}")).collect();
    let [first, ..] = &names[..] else { return None };
    let (devices, their, them) = match names.len() {
        1 => (format!("the device {first} has a name that is"), "its", "it"),
        _ => (format!("the devices {} have names that are", names.join(", ")), "their", "them"),
    };
    Some(Finding::new(
        Severity::Limited,
        Problem::DeviceName,
        format!("{devices} not UTF-8, so {their} settings were not looked at"),
        format!("Rename {them}, and diagnose again."),
    ))
}

/// Virtual addresses whose packets are not for this host: IPVS sees the packets that the host
/// receives for itself, and those that it sends.
fn virtual_addresses(facts: &Facts, rules: &Ruleset) -> Option<Finding> {
    let addresses = rules.services().filter_map(|rules| match rules.key() {
        ServiceKey::Address { address, .. } => Some(address),
        ServiceKey::Mark { .. } => None,
    });
    let elsewhere: BTreeSet<_> =
        addresses.filter(|address| facts.is_local(*address) == Some(false)).collect();
    let first = elsewhere.first()?;
    let text = match elsewhere.len() {
        1 => format!("the virtual address {first} is none of this network namespace"),
        more => format!("{more} virtual addresses are none of this network namespace: {first}, …"),
    };
    let finding = Finding::new(
        Severity::Limited,
        Problem::VirtualAddress,
        format!("{text}, so no client of another host gets to it"),
        "Unless failover or a route brings it here, give it to an interface:",
    );
    Some(elsewhere.into_iter().fold(finding, |finding, address| {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let device = facts.routes.way(address).device().unwrap_or("lo");
        finding.command("ip address add", &[&format!("{address}/{length}"), "dev", device])
    }))
}

/// A masqueraded destination's replies arrive by the device that leads to the destination, and pass
/// if that device forwards. For IPv4 each device has its own setting; for IPv6 the network
/// namespace has one, and since Linux 6.17 a device can forward on its own.
fn forwarding(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    for family in [Family::V4, Family::V6] {
        let real_servers: BTreeSet<_> = destinations(rules)
            .filter(|it| it.forwarding == Forwarding::Masquerade && it.key.family() == family)
            .map(|destination| destination.key.address)
            .filter(|address| !address.is_loopback() && facts.is_local(*address) != Some(true))
            .collect();
        let forwards = |device: Option<&Device>| match family {
            Family::V4 => device.and_then(|it| it.forwards_ipv4).unwrap_or(facts.forwards_ipv4),
            Family::V6 => {
                facts.forwards_ipv6 || device.is_some_and(|it| it.forces_ipv6 == Some(true))
            }
        };
        let does_any = facts.devices.outward().iter().any(|(_, device)| forwards(Some(device)));
        let (mut stuck, mut is_stuck) = (BTreeSet::new(), false);
        for address in real_servers {
            match facts.routes.way(address).device() {
                Some(device) if !forwards(facts.devices.all.get(device)) => {
                    stuck.insert(device);
                    is_stuck = true;
                }
                Some(_) => {}
                // The device by which the replies arrive is not known.
                None => is_stuck |= !does_any && !forwards(None),
            }
        }
        if is_stuck {
            findings.push(stuck_replies(facts, family, &stuck, does_any));
        }
    }
}

fn stuck_replies(facts: &Facts, family: Family, stuck: &BTreeSet<&str>, does_any: bool) -> Finding {
    let broken = |by: &str, advice: &str| {
        let text = format!(
            "this network namespace does not forward {family}{by}, so replies of masqueraded \
             destinations do not come back to clients"
        );
        Finding::new(Severity::Broken, Problem::Forwarding(family), text, advice)
    };
    match family {
        // The setting for all devices would also turn forwarding on for devices that do not need
        // it.
        Family::V4 if does_any || facts.forwards_ipv4 => {
            let devices: Vec<_> = stuck.iter().copied().collect();
            let by = format!(" that comes in by {}", devices.join(", "));
            let finding = broken(&by, "Turn forwarding on there:");
            stuck.iter().fold(finding, |finding, device| {
                finding.sysctl("net.ipv4.conf", device, "forwarding", 1)
            })
        }
        Family::V4 => {
            broken("", "Turn forwarding on:").command("sysctl -w net.ipv4.ip_forward=1", &[])
        }
        Family::V6 => {
            let accepts = |device: &str| {
                facts.devices.all.get(device).and_then(|device| device.accepts_advertisements)
            };
            let advertised: Vec<_> = facts
                .routes
                .advertised
                .iter()
                .filter(|device| accepts(device).is_some_and(|accepts| accepts != 2))
                .collect();
            let advice = if advertised.is_empty() {
                "Turn forwarding on:"
            } else {
                "Turn forwarding on, but first have router advertisements taken all the same, without \
                 which the routes are lost that came by them:"
            };
            let finding = advertised.into_iter().fold(broken("", advice), |finding, device| {
                finding.sysctl("net.ipv6.conf", device, "accept_ra", 2)
            });
            finding.command("sysctl -w net.ipv6.conf.all.forwarding=1", &[])
        }
    }
}

fn limits(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    findings.extend(connections(facts, rules));
    findings.extend(templates(facts, rules));
    let mut limited = |problem, text: &str, advice: &str| {
        findings.push(Finding::new(Severity::Limited, problem, text, advice));
    };
    let keeps_share = |is_of: &dyn Fn(Scheduler) -> bool| {
        rules.services().any(|rules| {
            is_of(rules.service().scheduler)
                && rules.destinations().any(|destination| destination.weight == 0)
        })
    };
    if keeps_share(&|it| it.hash_options().is_some_and(|options| !options.fallback)) {
        limited(
            Problem::WeightZero,
            "a destination of weight 0 under sh or mh keeps its share of new clients, and they are \
             refused",
            "Give the service the option sh-fallback or mh-fallback, or remove the destination.",
        );
    }
    if keeps_share(&|it| it == Scheduler::DestinationHash) {
        limited(
            Problem::WeightZero,
            "a destination of weight 0 under dh keeps the virtual addresses that are hashed to it: a \
             service with such an address refuses all new clients, whatever its other destinations",
            "Remove the destination, or give the service another scheduler.",
        );
    }
    if facts.is_before((6, 12)) && rules.services().next().is_some() {
        limited(
            Problem::ChangedScheduler,
            "changing the scheduler of a service refuses its new connections for a moment on kernels \
             before 6.12",
            "Change schedulers when few clients come.",
        );
    }
    if facts.is_before((7, 1)) && most_in_a_bucket(rules) > CROWDED {
        limited(
            Problem::SharedBucket,
            "more than a thousand services share one bucket of the kernel's table, since their \
             addresses differ in their upper bytes alone: writing and reading them takes several \
             times as long before Linux 7.1",
            "Give services addresses that differ in the last byte, or ports that do.",
        );
    }
    if rules.destination_count() > MANY {
        limited(
            Problem::SlowAfterRemoval,
            "after many of these destinations were removed at once, or the table was flushed, adding \
             destinations takes many times as long for two to three minutes",
            "Change what differs, with Client::sync or Plan, rather than flush and add all again.",
        );
    }
}

/// A kernel that takes no connection.
fn connections(facts: &Facts, rules: &Ruleset) -> Option<Finding> {
    let has_services = rules.services().next().is_some();
    (has_services && facts.most_connections == Some(0)).then(|| {
        Finding::new(
            Severity::Broken,
            Problem::NoConnections,
            "this network namespace takes no connection of IPVS: the most is 0",
            "Raise it to the kernel's own most:",
        )
        .command("sysctl -w net.ipv4.vs.conn_max=1073741824", &[])
    })
}

/// Persistent clients of a destination that is to get no more clients.
fn templates(facts: &Facts, rules: &Ruleset) -> Option<Finding> {
    let is_kept = |rules: &ServiceRules| {
        rules.service().persistence.is_some()
            && rules.destinations().any(|destination| destination.weight == 0)
    };
    (!facts.expires_templates && rules.services().any(is_kept)).then(|| {
        Finding::new(
            Severity::Limited,
            Problem::KeptTemplates,
            "a destination of weight 0 of a persistent service still gets new connections of the \
             clients that it had",
            "Have their templates expire:",
        )
        .command("sysctl -w net.ipv4.vs.expire_quiescent_template=1", &[])
    })
}

/// The most services in any one of the 256 buckets that kernels before 7.1 have. The low bits of
/// protocol, address and port choose the bucket.
fn most_in_a_bucket(rules: &Ruleset) -> usize {
    let mut buckets = BTreeMap::<_, usize>::new();
    for rules in rules.services() {
        if let ServiceKey::Address { protocol, address, port } = rules.key() {
            let [high, low] = port.to_be_bytes();
            let byte = match address {
                IpAddr::V4(v4) => v4.octets()[3],
                // The kernel folds all four parts of the address into one.
                IpAddr::V6(v6) => v6.octets().chunks(4).fold(0, |fold, part| fold ^ part[3]),
            };
            let [_, protocol] = protocol.number().to_be_bytes();
            *buckets.entry(protocol ^ byte ^ high ^ low).or_default() += 1;
        }
    }
    buckets.into_values().max().unwrap_or(0)
}

#[cfg(all(test, feature = "fake"))]
mod tests {
    use std::io::{self, Read};
    use std::net::Ipv6Addr;

    use super::*;
    use crate::diagnose::Diagnosis;
    use crate::fake::Kernel;
    use crate::model::Service;
    use crate::proc::{Files, ModuleIndex, Proc};

    /// A fake host with some of its files replaced.
    struct Altered {
        kernel: Kernel,
        /// The texts of files by their paths below `/proc`; `None` is a missing file.
        texts: BTreeMap<String, Option<String>>,
        has_module_index: bool,
        answers: bool,
    }

    impl Altered {
        fn new() -> Self {
            let (kernel, texts) = (Kernel::new(), BTreeMap::new());
            Self { kernel, texts, has_module_index: true, answers: true }
        }

        fn with(mut self, path: &str, text: &str) -> Self {
            self.texts.insert(path.to_owned(), Some(text.to_owned()));
            self
        }

        fn without(mut self, path: &str) -> Self {
            self.texts.insert(path.to_owned(), None);
            self
        }

        fn without_module_index(self) -> Self {
            Self { has_module_index: false, ..self }
        }

        /// A kernel without IPVS.
        fn without_answer(self) -> Self {
            Self { answers: false, ..self }
        }

        /// Gives the host an interface with sysctls for IPv4 and IPv6.
        fn with_interface(mut self, name: &str, sysctls: &[(&str, &str)]) -> Self {
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

        fn diagnose(self, rules: &Ruleset) -> Diagnosis {
            if !self.answers {
                self.kernel.configure(|host| host.family = None);
            }
            let connected = self.kernel.connect();
            Diagnosis::new(&Proc::of_files(self), connected, rules)
        }
    }

    impl Files for Altered {
        fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
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
    }

    const WEB: [u8; 4] = [10, 0, 0, 1];

    fn rules(scheduler: &str) -> Ruleset {
        let web = Service::tcp(WEB, 80).scheduler(Scheduler::named(scheduler).unwrap());
        let mut rules = Ruleset::new();
        rules.insert_service(web).unwrap();
        rules.insert_destination(web.key, Destination::masquerade([10, 1, 0, 1], 80)).unwrap();
        rules
    }

    fn rules6() -> Ruleset {
        let address = |last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        let web = Service::tcp(address(1), 80);
        let mut rules = Ruleset::new();
        rules.insert_service(web).unwrap();
        rules.insert_destination(web.key, Destination::masquerade(address(2), 80)).unwrap();
        rules
    }

    fn commands(finding: &Finding) -> Vec<&str> {
        finding.commands.iter().map(String::as_str).collect()
    }

    /// The rules with this host as a real server behind a tunnel, whose device exists.
    fn by_gre(host: &Altered) -> Ruleset {
        host.kernel.configure(|host| host.local.push([10, 0, 1, 1].into()));
        let mut rules = Ruleset::new();
        let web = Service::tcp([127, 0, 0, 1], 80);
        rules.insert_service(web).unwrap();
        let real = Destination::tunnel([10, 0, 1, 1], 80, crate::model::Tunnel::gre());
        rules.insert_destination(web.key, real).unwrap();
        rules
    }

    /// Once: `default` stayed as it was, and devices that came later did not filter any more.
    #[test]
    fn devices_that_come_later_filter_as_those_before() {
        let filter = |value| [("ipv4/rp_filter", value)];
        let host = Altered::new()
            .with("sys/net/ipv4/conf/all/rp_filter", "2")
            .with("sys/net/ipv4/conf/default/rp_filter", "1")
            .with_interface("gre0", &filter("0"))
            .with_interface("eth0", &filter("0"))
            .with_interface("a=b", &filter("1"));
        let rules = by_gre(&host);
        let diagnosis = host.diagnose(&rules);
        let finding = diagnosis.finding(Problem::ReversePath).unwrap();
        let wanted = [
            // sysctl would take b.rp_filter=2 for the value.
            "echo 2 > /proc/sys/net/ipv4/conf/a=b/rp_filter",
            "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
            "sysctl -w net.ipv4.conf.default.rp_filter=2",
            "sysctl -w net.ipv4.conf.all.rp_filter=0",
            // This sysctl was never set, and takes on the value of `default`.
            "sysctl -w net.ipv4.conf.gre0.rp_filter=0",
        ];
        let commands: Vec<_> =
            finding.commands.iter().filter(|command| !command.contains(".lo.")).collect();
        assert_eq!(commands, wanted.iter().collect::<Vec<_>>(), "{diagnosis}");

        // The tunnel's own device is made later, and takes on the value that `default` has then.
        let host = Altered::new().with("sys/net/ipv4/conf/all/rp_filter", "1");
        let rules = by_gre(&host);
        let diagnosis = host.diagnose(&rules);
        let commands = &diagnosis.finding(Problem::ReversePath).unwrap().commands;
        let [.., default, all, own] = &commands[..] else { panic!("{diagnosis}") };
        assert_eq!(default, "sysctl -w net.ipv4.conf.default.rp_filter=1");
        assert_eq!(all, "sysctl -w net.ipv4.conf.all.rp_filter=0");
        assert_eq!(own, "sysctl -w net.ipv4.conf.gre0a000101.rp_filter=0");
    }

    /// Once: the diagnosis passed over such devices in silence.
    #[test]
    fn devices_whose_names_are_no_text_are_told() {
        let host = Altered::new().with("net/dev", "lo: 0\neth\u{fffd}: 0\n");
        let diagnosis = host.diagnose(&Ruleset::new());
        let finding = diagnosis.finding(Problem::DeviceName).unwrap();
        assert!(diagnosis.is_able());
        assert_eq!(
            finding.text,
            "the device \"eth\u{fffd}\" has a name that is not UTF-8, so its settings were not looked at"
        );
        let diagnosis = Altered::new().diagnose(&Ruleset::new());
        assert!(diagnosis.finding(Problem::DeviceName).is_none());
    }

    #[test]
    fn of_a_kernel_that_is_not_known_nothing_is_made_up() {
        for scheduler in ["wlc", "nosuch"] {
            let host = Altered::new().without("sys/kernel/osrelease");
            let diagnosis = host.without_module_index().diagnose(&rules(scheduler));
            assert_eq!(diagnosis.finding(Problem::ChangedScheduler), None, "{diagnosis}");
            assert!(!diagnosis.to_string().contains("needs Linux"), "{diagnosis}");
            assert!(diagnosis.to_string().starts_with("Linux of an unknown release:"));
        }
    }

    /// Without quotes, root would run the text that a rules file has as the name of its scheduler.
    #[test]
    fn a_shell_takes_a_name_as_it_is() {
        for (name, command) in
            [("$(id)", "modprobe 'ip_vs_$(id)'"), ("a'b", "modprobe 'ip_vs_a'\\''b'")]
        {
            let diagnosis = Altered::new().diagnose(&rules(name));
            let problem = Problem::Scheduler(Scheduler::named(name).unwrap());
            let finding = diagnosis.finding(problem).unwrap_or_else(|| panic!("{diagnosis}"));
            assert_eq!(commands(finding), [command]);
        }
        let host = Altered::new().with_interface("a;id", &[("ipv4/forwarding", "0")]);
        let route = format!("a;id\t{0:08X}\t0\t1\t0\t0\t0\t{0:08X}\t0\t0\t0\n", 0);
        let diagnosis = host
            .with("net/route", &route)
            .with("sys/net/ipv4/ip_forward", "1")
            .diagnose(&rules("wlc"));
        let finding = diagnosis.finding(Problem::Forwarding(Family::V4)).unwrap();
        assert_eq!(commands(finding), ["sysctl -w 'net.ipv4.conf.a;id.forwarding=1'"]);
    }

    /// Once: the advice led to an error each time.
    #[test]
    fn where_no_module_can_be_loaded_none_is_to_be() {
        let barred = || Altered::new().with("sys/kernel/modules_disabled", "1");
        let (name, problem) = ("$(id)", Problem::Scheduler(Scheduler::named("$(id)").unwrap()));
        let diagnosis = barred().diagnose(&rules(name));
        let finding = diagnosis.finding(problem).unwrap();
        assert!(finding.text.contains("kernel.modules_disabled is 1"), "{finding}");
        assert!(finding.advice.contains("at boot") && finding.commands.is_empty(), "{finding}");
        let diagnosis = barred().with("modules", "").without_answer().diagnose(&rules("wlc"));
        let finding = diagnosis.finding(Problem::Ipvs).unwrap();
        assert!(finding.text.contains("kernel.modules_disabled is 1"), "{finding}");
        assert!(finding.advice.contains("at boot") && finding.commands.is_empty(), "{finding}");

        // A kernel without modules has its schedulers built in, and has no file that says this.
        let monolithic = || Altered::new().without("modules");
        let diagnosis = monolithic().without_module_index().diagnose(&rules("sed"));
        assert_eq!(diagnosis.finding(Problem::Scheduler(Scheduler::ShortestExpectedDelay)), None);
        let diagnosis = monolithic().without_answer().diagnose(&rules("wlc"));
        let finding = diagnosis.finding(Problem::Ipvs).unwrap();
        assert!(finding.text.contains("takes no modules"), "{finding}");
        assert!(finding.commands.is_empty(), "{finding}");
        let diagnosis = monolithic().diagnose(&rules(name));
        assert!(diagnosis.finding(problem).unwrap().commands.is_empty(), "{diagnosis}");
    }

    #[test]
    fn ipv6_is_had_by_interfaces() {
        let is_disabled = |host: Altered| {
            let diagnosis = host.diagnose(&rules6());
            diagnosis.finding(Problem::NoIpv6).map(|finding| finding.commands.clone())
        };
        let all = "sys/net/ipv6/conf/all/disable_ipv6";
        let with = |own: &str| Altered::new().with_interface("eth0", &[("ipv6/disable_ipv6", own)]);
        assert_eq!(is_disabled(with("0").with(all, "0")), None);
        assert_eq!(is_disabled(with("0").with(all, "1")), None);
        let command = "sysctl -w net.ipv6.conf.all.disable_ipv6=0".to_owned();
        assert_eq!(is_disabled(with("1").with(all, "1")), Some(vec![command]));
        let command = "sysctl -w net.ipv6.conf.eth0.disable_ipv6=0".to_owned();
        assert_eq!(is_disabled(with("1").with(all, "0")), Some(vec![command]));
        // One of two devices has no IPv6; the routes say whether the real server is reached by it.
        let two = |routes: &str| {
            let host = with("0").with_interface("b.7", &[("ipv6/disable_ipv6", "1")]);
            is_disabled(host.with("net/ipv6_route", routes))
        };
        let zero = "00000000000000000000000000000000";
        let route = format!("{zero} 00 {zero} 00 {zero} 00000400 1 0 00000003 eth0\n");
        assert_eq!(two(&route), None);
        let command = "sysctl -w net.ipv6.conf.b/7.disable_ipv6=0".to_owned();
        assert_eq!(two(""), Some(vec![command]));
    }

    #[test]
    fn virtual_addresses_are_this_hosts() {
        let problem = Problem::VirtualAddress;
        let diagnosis = Altered::new().diagnose(&rules("wlc"));
        let finding = diagnosis.finding(problem).unwrap_or_else(|| panic!("{diagnosis}"));
        assert_eq!(commands(finding), ["ip address add 10.0.0.1/32 dev lo"]);
        assert!(diagnosis.finding(problem).unwrap().severity == Severity::Limited);
        // A route can have a whole network for this host.
        let trie = "Local:\n |-- 127.0.0.1\n /32 host LOCAL\n |-- 10.0.0.0\n /24 host LOCAL\n";
        let diagnosis = Altered::new().with("net/fib_trie", trie).diagnose(&rules("wlc"));
        assert_eq!(diagnosis.finding(problem), None, "{diagnosis}");
        let diagnosis = Altered::new().without("net/fib_trie").diagnose(&rules("wlc"));
        assert_eq!(diagnosis.finding(problem), None, "{diagnosis}");
    }
}
