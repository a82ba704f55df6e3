//! Destinations that the kernel refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::facts::Facts;
use super::finding::{Finding, Problem, Severity};
use crate::model::{Destination, DestinationKey, SyncDaemon};
use crate::ruleset::{Ruleset, ServiceRules};

pub(super) fn judge(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    addresses(facts, rules, findings);
    findings.extend(families(facts, rules));
    findings.extend(thresholds(facts, rules));
}

fn refused(problem: Problem, text: String, advice: impl Into<String>) -> Finding {
    Finding::new(Severity::Refused, problem, text, advice)
}

/// The destinations of all services, each once.
fn destinations(
    rules: &Ruleset,
    is_wanted: impl Fn(&ServiceRules, &Destination) -> bool,
) -> BTreeSet<DestinationKey> {
    let is_wanted = &is_wanted;
    let of_service = |rules: &ServiceRules| {
        let wanted = rules.destinations().filter(|it| is_wanted(rules, it));
        wanted.map(|it| it.key).collect::<Vec<_>>()
    };
    rules.services().flat_map(of_service).collect()
}

/// Some destinations in words, by the first of them.
fn in_words(destinations: &BTreeSet<DestinationKey>) -> Option<String> {
    let first = destinations.first()?;
    Some(match destinations.len() {
        1 => format!("the destination {first}"),
        more => format!("{more} destinations, such as {first},"),
    })
}

fn addresses(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    let kind = |key: DestinationKey| kind_that_is_refused(facts, key.address);
    let mut kinds = BTreeMap::<_, BTreeSet<_>>::new();
    for key in destinations(rules, |_, _| true) {
        if let Some(kind) = kind(key) {
            kinds.entry(kind).or_default().insert(key);
        }
    }
    for (kind, keys) in kinds {
        let Some(which) = in_words(&keys) else { continue };
        let each = if keys.len() == 1 { "it" } else { "each" };
        findings.push(refused(
            Problem::DestinationAddress,
            format!("the kernel refuses {which} because of the address: {each} is {kind}"),
            "Give the destination an address of its own that other hosts reach.",
        ));
    }
}

/// The kind of an address that the kernel refuses for a destination, if it is one.
pub(super) fn kind_that_is_refused(facts: &Facts, address: IpAddr) -> Option<&'static str> {
    let special = facts.addresses.kind_of_none(address);
    let IpAddr::V6(v6) = address else { return special };
    let kind = if v6.to_ipv4_mapped().is_some() {
        Some("an IPv4 address in the form of IPv6")
    } else if v6.is_unicast_link_local() {
        Some("a link-local address, and none of this host")
    } else {
        special
    };
    kind.filter(|_| facts.addresses.is_local(address) == Some(false))
}

fn families(facts: &Facts, rules: &Ruleset) -> Option<Finding> {
    let daemons = facts.answer.as_ref().ok()?;
    let (first, others) = daemons.split_first()?;
    let keys = destinations(rules, |rules, it| it.key.family() != rules.key().family());
    let which = in_words(&keys)?;
    let SyncDaemon { role, interface, .. } = first;
    let running = others.iter().fold(format!("a {role} runs on {interface}"), |running, other| {
        format!("{running} and a {} on {}", other.role, other.interface)
    });
    let finding = refused(
        Problem::DestinationFamily,
        format!(
            "the kernel refuses {which} of another family than its service while a sync daemon runs, \
             and {running}"
        ),
        "Give the service destinations of its own family, or stop each sync daemon:",
    );
    Some(daemons.iter().fold(finding, |finding, daemon| {
        finding.command(&format!("ipvsadm --stop-daemon {}", daemon.role), &[])
    }))
}

fn thresholds(facts: &Facts, rules: &Ruleset) -> Option<Finding> {
    let most = facts.largest_threshold()?;
    let keys = destinations(rules, |_, destination| destination.upper_threshold > most);
    Some(refused(
        Problem::Threshold,
        format!(
            "this kernel refuses {} because of the upper threshold, which is above {most}",
            in_words(&keys)?
        ),
        format!("Set the threshold to {most} or less; 0 is none."),
    ))
}

#[cfg(all(test, feature = "fake"))]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::fake::{Host, Kernel};
    use crate::model::{DaemonRole, Service, SyncDaemon, Tunnel};
    use crate::ruleset::Policy;

    /// Whether the kernel takes rules, as the diagnosis says and as it does.
    fn takes(kernel: &Kernel, rules: &Ruleset, problem: Problem) -> [bool; 2] {
        let diagnosis = kernel.diagnose(rules);
        let is_found = diagnosis.finding(problem).is_some();
        assert_eq!(is_found, !diagnosis.is_able(), "{diagnosis}");
        let done = kernel.connect().unwrap().sync(rules, &Policy::new());
        [!is_found, done.is_ok_and(|report| report.is_success())]
    }

    fn rules(virtual_address: IpAddr, destination: Destination) -> Ruleset {
        let web = Service::tcp(virtual_address, 80);
        let mut rules = Ruleset::new();
        rules.insert_service(web).unwrap();
        rules.insert_destination(web.key, destination).unwrap();
        rules
    }

    /// Once: a diagnosis called a host able whose kernel then refused the rules.
    #[test]
    fn addresses_that_no_destination_can_have_are_found() {
        for (real, is_taken) in [
            ("10.0.0.9", true),
            ("127.0.0.1", true),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("127.255.255.255", false),
            ("2001:db8::9", true),
            ("::", false),
            ("ff02::1", false),
            ("::ffff:10.0.0.1", false),
            ("fe80::5", false),
            ("fe80::1", true),
        ] {
            let kernel = Kernel::new();
            kernel.configure(|host| host.local.push("fe80::1".parse().unwrap()));
            let real: IpAddr = real.parse().unwrap();
            let localhost: IpAddr =
                if real.is_ipv4() { [127, 0, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() };
            let rules = rules(localhost, Destination::direct_route(real, 80));
            let taken = takes(&kernel, &rules, Problem::DestinationAddress);
            assert_eq!(taken, [is_taken; 2], "{real}");
        }
    }

    /// Once: all refused addresses were said to be of the first one's kind.
    #[test]
    fn each_kind_of_refused_address_is_told() {
        let web = Service::tcp([127, 0, 0, 1], 80);
        let mut rules = Ruleset::new();
        rules.insert_service(web).unwrap();
        for real in [[0, 0, 0, 0], [224, 0, 0, 1], [224, 0, 0, 2], [10, 0, 0, 9]] {
            rules.insert_destination(web.key, Destination::direct_route(real, 80)).unwrap();
        }
        let findings = Kernel::new().diagnose(&rules).findings;
        let texts: Vec<_> = findings.iter().map(|finding| &*finding.text).collect();
        let wanted = [
            "the kernel refuses 2 destinations, such as 224.0.0.1:80, because of the address: each is a \
             multicast address",
            "the kernel refuses the destination 0.0.0.0:80 because of the address: it is the unspecified \
             address",
        ];
        assert_eq!(texts, wanted);
    }

    #[test]
    fn destinations_of_another_family_wait_for_the_end_of_daemons() {
        let real = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
        let rules = rules([127, 0, 0, 1].into(), Destination::tunnel(real, 80, Tunnel::Ipip));
        let kernel = Kernel::new();
        let daemon = SyncDaemon::new(DaemonRole::Master, "eth0".parse().unwrap());
        kernel.connect().unwrap().start_daemon(&daemon).unwrap();
        assert_eq!(takes(&kernel, &rules, Problem::DestinationFamily), [false; 2]);
        let text = &kernel.diagnose(&rules).findings[0].text;
        assert!(text.ends_with("while a sync daemon runs, and a master runs on eth0"), "{text}");
        // Each daemon that runs has to be stopped.
        kernel.configure(|host| host.interfaces.push(crate::fake::Interface::new("eth1")));
        let backup = SyncDaemon::new(DaemonRole::Backup, "eth1".parse().unwrap());
        kernel.connect().unwrap().start_daemon(&backup).unwrap();
        let finding = &kernel.diagnose(&rules).findings[0];
        assert!(finding.text.ends_with("a master runs on eth0 and a backup on eth1"), "{finding}");
        let stop = ["ipvsadm --stop-daemon master", "ipvsadm --stop-daemon backup"];
        assert_eq!(finding.commands, stop);
        kernel.connect().unwrap().stop_daemon(DaemonRole::Master).unwrap();
        assert_eq!(takes(&kernel, &rules, Problem::DestinationFamily), [false; 2]);
        assert_eq!(kernel.diagnose(&rules).findings[0].commands, stop[1..]);
        kernel.connect().unwrap().stop_daemon(DaemonRole::Backup).unwrap();
        assert_eq!(takes(&kernel, &rules, Problem::DestinationFamily), [true; 2]);
    }

    #[test]
    fn thresholds_that_the_kernel_refuses_are_found() {
        let destination = Destination::direct_route([10, 0, 0, 9], 80).thresholds(3_000_000_000, 0);
        let rules = rules([127, 0, 0, 1].into(), destination);
        for (release, is_taken) in [("6.12.101", true), ("6.12.117", false), ("7.3.4", false)] {
            let kernel = Kernel::on(Host::of_release(&release.parse().unwrap()));
            assert_eq!(takes(&kernel, &rules, Problem::Threshold), [is_taken; 2], "{release}");
        }
        // Whether a vendor's kernel has the limit is not known.
        let kernel = Kernel::on(Host::of_release(&"6.8.0-1015-azure".parse().unwrap()));
        assert_eq!(kernel.diagnose(&rules).finding(Problem::Threshold), None);
    }
}
