//! What a host's facts mean for a ruleset.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::facts::{Facts, Module};
use super::{Finding, Problem, Severity};
use crate::model::{Destination, Family, Forwarding, HashOptions, Scheduler, ServiceKey};
use crate::ruleset::{Ruleset, ServiceRules};

/// More services than this in one bucket are slow to write and to read.
const CROWDED: usize = 1000;

pub(super) fn judge(facts: &Facts, rules: &Ruleset) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(access(facts));
    schedulers(facts, rules, &mut findings);
    engines(facts, rules, &mut findings);
    addresses(facts, rules, &mut findings);
    forwarding(facts, rules, &mut findings);
    limits(facts, rules, &mut findings);
    findings
}

impl Finding {
    fn new(
        severity: Severity,
        problem: Problem,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (text, advice) = (text.into(), advice.into());
        Self { severity, problem, text, advice, commands: Vec::new() }
    }

    fn command(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }
}

/// Whether the caller can speak with IPVS at all.
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
pub(super) fn unanswered(error: &str) -> Finding {
    let advice = "The text says what was asked and what the answer was.";
    Finding::new(Severity::Refused, Problem::Unanswered, error, advice)
}

fn ipvs(facts: &Facts) -> Finding {
    let finding =
        |text: &str, advice: String| Finding::new(Severity::Refused, Problem::Ipvs, text, advice);
    match facts.modules.state("ip_vs") {
        Module::Absent => finding(
            "this kernel has no IPVS, neither built in nor as a module",
            format!(
                "Install a kernel that is built with CONFIG_IP_VS, or the rest of this one's modules: \
                 on Ubuntu the package linux-modules-extra-{}.",
                facts.release
            ),
        ),
        Module::Ready | Module::Loadable => {
            finding("the module ip_vs is not loaded", "Load the module:".to_owned())
                .command("modprobe ip_vs")
        }
        Module::Unknown => finding(
            "the module ip_vs is not loaded, and whether it is installed cannot be told here",
            "Load the module on the host, outside of any container:".to_owned(),
        )
        .command("modprobe ip_vs"),
    }
}

fn schedulers(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    // Without its options, each comes once.
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
        if state != Module::Ready && facts.series() < since {
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

/// What stands in the way of what a module brings, if anything does.
fn missing(facts: &Facts, module: &str, what: &str, if_absent: &str) -> Option<Finding> {
    let finding = |text, advice: &str| Finding::new(Severity::Refused, Problem::Ipvs, text, advice);
    let not_loaded = format!(
        "{what} is in the module {module}, which is not loaded, and this kernel loads none by itself"
    );
    match facts.modules.state(module) {
        Module::Ready => None,
        // The kernel loads modules for containers, too.
        Module::Unknown if facts.modules.load_themselves => None,
        Module::Absent => {
            let text = format!("{what} is not installed: this kernel has no module {module}");
            Some(finding(text, if_absent))
        }
        Module::Loadable => {
            Some(finding(not_loaded, "Load the module:").command(format!("modprobe {module}")))
        }
        Module::Unknown => Some(
            finding(not_loaded, "Load the module on the host, outside of any container:")
                .command(format!("modprobe {module}")),
        ),
    }
}

/// The first kernel that has a scheduler; zeroes where all do.
fn since(scheduler: Scheduler) -> (u32, u32) {
    match scheduler {
        Scheduler::WeightedFailover => (3, 18),
        Scheduler::WeightedOverflow => (4, 3),
        Scheduler::MaglevHash(_) => (4, 18),
        Scheduler::TwoChoices => (5, 12),
        _ => (0, 0),
    }
}

/// Destinations of all services.
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
        findings.push(finding.command("ip link set lo up"));
    }
    let services = rules.services().map(|rules| rules.service().key.family());
    let has_ipv6 = services
        .chain(destinations(rules).map(|destination| destination.key.family()))
        .any(|family| family == Family::V6);
    if has_ipv6 && !facts.has_ipv6 {
        findings.push(Finding::new(
            Severity::Broken,
            Problem::NoIpv6,
            "this kernel has no IPv6, and some rules are of it",
            "Boot without ipv6.disable=1, or load the module ipv6.",
        ));
    } else if has_ipv6 && facts.disables_ipv6 {
        let finding = Finding::new(
            Severity::Broken,
            Problem::NoIpv6,
            "IPv6 is disabled in this network namespace, and some rules are of it",
            "Enable it:",
        );
        findings.push(finding.command("sysctl -w net.ipv6.conf.all.disable_ipv6=0"));
    }
}

fn forwarding(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    let is_masqueraded = |wanted: Family| {
        destinations(rules).any(|Destination { key, forwarding, .. }| {
            key.family() == wanted
                && *forwarding == Forwarding::Masquerade
                && !key.address.is_loopback()
        })
    };
    for (family, forwards, command) in [
        (Family::V4, facts.forwards_ipv4, "sysctl -w net.ipv4.ip_forward=1"),
        (Family::V6, facts.forwards_ipv6, "sysctl -w net.ipv6.conf.all.forwarding=1"),
    ] {
        if !forwards && is_masqueraded(family) {
            let text = format!(
                "this network namespace does not forward {family}, so replies of masqueraded \
                 destinations do not come back to clients"
            );
            let problem = Problem::Forwarding(family);
            let finding = Finding::new(Severity::Broken, problem, text, "Turn forwarding on:");
            findings.push(finding.command(command));
        }
    }
}

fn limits(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    let mut limited = |problem, text: &str, advice: &str| {
        findings.push(Finding::new(Severity::Limited, problem, text, advice));
    };
    let keeps_share = rules.services().any(|rules| {
        let options = rules.service().scheduler.hash_options();
        options.is_some_and(|options| !options.fallback)
            && rules.destinations().any(|destination| destination.weight == 0)
    });
    if keeps_share {
        limited(
            Problem::WeightZero,
            "a destination of weight 0 under sh or mh keeps its share of new clients, and they are \
             refused",
            "Give the service the option sh-fallback or mh-fallback, or remove the destination.",
        );
    }
    if facts.series() < (6, 12) && rules.services().next().is_some() {
        limited(
            Problem::ChangedScheduler,
            "changing the scheduler of a service refuses its new connections for a moment on kernels \
             before 6.12",
            "Change schedulers when few clients come.",
        );
    }
    if facts.series() < (7, 1) && most_in_a_bucket(rules) > CROWDED {
        limited(
            Problem::SharedBucket,
            "more than a thousand services share one bucket of the kernel's table, since their \
             addresses differ in their upper bytes alone: writing and reading them takes several \
             times as long before Linux 7.1",
            "Give services addresses that differ in the last byte, or ports that do.",
        );
    }
}

/// How many services are at most in one of the 256 buckets that kernels before 7.1 have: it is chosen
/// by the low bits of address and port.
fn most_in_a_bucket(rules: &Ruleset) -> usize {
    let mut buckets = BTreeMap::<_, usize>::new();
    for rules in rules.services() {
        if let ServiceKey::Address { protocol, address, port } = rules.service().key {
            let [high, low] = port.to_be_bytes();
            let byte = match address {
                IpAddr::V4(v4) => v4.octets()[3],
                // All of its four parts are folded into one.
                IpAddr::V6(v6) => v6.octets().chunks(4).fold(0, |fold, part| fold ^ part[3]),
            };
            *buckets.entry((protocol, byte ^ high ^ low)).or_default() += 1;
        }
    }
    buckets.into_values().max().unwrap_or(0)
}
