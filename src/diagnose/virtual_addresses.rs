//! Virtual addresses to which no client of another host gets. IPVS sees the packets that the host
//! receives for itself, and those that it sends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::facts::Facts;
use super::finding::{Finding, Problem, Severity};
use crate::model::ServiceKey;
use crate::ruleset::Ruleset;

pub(super) fn judge(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    let addresses = rules.services().filter_map(|rules| match rules.key() {
        ServiceKey::Address { address, .. } => Some(address),
        ServiceKey::Mark { .. } => None,
    });
    let mut impossible = BTreeMap::<_, BTreeSet<_>>::new();
    let [mut duplicate, mut unused, mut elsewhere] = [(); 3].map(|()| BTreeSet::new());
    for address in addresses {
        if let Some(kind) = facts.addresses.kind_of_none(address) {
            impossible.entry(kind).or_default().insert(address);
        } else if facts.addresses.is_duplicate(address) {
            duplicate.insert(address);
        } else if facts.addresses.is_unused(address) {
            unused.insert(address);
        } else if facts.addresses.is_local(address) == Some(false) {
            elsewhere.insert(address);
        }
    }
    findings.extend(impossible.iter().filter_map(|(kind, addresses)| of_no_host(kind, addresses)));
    findings.extend(of_two_hosts(&duplicate));
    findings.extend(of_this_host_later(&unused));
    findings.extend(of_other_hosts(facts, &elsewhere));
}

/// Addresses in words: the first, and how many.
fn in_words(addresses: &BTreeSet<IpAddr>) -> Option<String> {
    let first = addresses.first()?;
    Some(match addresses.len() {
        1 => format!("the virtual address {first}"),
        more => format!("{more} virtual addresses, such as {first}"),
    })
}

/// IPVS passes over packets that are not for one host alone.
fn of_no_host(kind: &str, addresses: &BTreeSet<IpAddr>) -> Option<Finding> {
    let which = match in_words(addresses)? {
        which if addresses.len() == 1 => format!("{which}: it"),
        which => format!("one of {which}: each"),
    };
    Some(Finding::new(
        Severity::Broken,
        Problem::VirtualAddress,
        format!("no packet of a client matches a service with {which} is {kind}"),
        "Give the service the address of one host.",
    ))
}

fn of_two_hosts(addresses: &BTreeSet<IpAddr>) -> Option<Finding> {
    Some(Finding::new(
        Severity::Limited,
        Problem::VirtualAddress,
        format!(
            "this host does not use {}, since duplicate address detection found it on another host",
            in_words(addresses)?
        ),
        "Take the address from the other host, then delete it here and add it again.",
    ))
}

/// Addresses of interfaces that the kernel does not use before duplicate address detection ends.
fn of_this_host_later(addresses: &BTreeSet<IpAddr>) -> Option<Finding> {
    Some(Finding::new(
        Severity::Limited,
        Problem::VirtualAddress,
        format!(
            "not in use yet: {}, since duplicate address detection has not ended, or has not begun \
             because the interface or its link is down",
            in_words(addresses)?
        ),
        "Bring the interface and its link up, or wait until the detection has ended.",
    ))
}

fn of_other_hosts(facts: &Facts, addresses: &BTreeSet<IpAddr>) -> Option<Finding> {
    let first = addresses.first()?;
    let text = match addresses.len() {
        1 => format!("the virtual address {first} is none of this network namespace"),
        more => format!("{more} virtual addresses are none of this network namespace: {first}, …"),
    };
    let finding = Finding::new(
        Severity::Limited,
        Problem::VirtualAddress,
        format!("{text}, so no client of another host gets to it"),
        "Unless failover or a route brings it here, give it to an interface:",
    );
    let device = |address: &IpAddr| facts.routes.way(*address).device().unwrap_or("lo");
    let has_none = |device: &str| {
        facts.devices.all.get(device).is_some_and(|device| device.disables_ipv6 == Some(true))
    };
    // An interface takes no IPv6 address while it has IPv6 disabled.
    let of_ipv6 = addresses.iter().filter(|address| address.is_ipv6()).map(device);
    let disabled: BTreeSet<_> = of_ipv6.filter(|device| has_none(device)).collect();
    let finding = disabled.into_iter().fold(finding, |finding, device| {
        finding.sysctl("net.ipv6.conf", device, "disable_ipv6", 0)
    });
    Some(addresses.iter().fold(finding, |finding, address| {
        let length = if address.is_ipv4() { 32 } else { 128 };
        finding.command("ip address add", &[&format!("{address}/{length}"), "dev", device(address)])
    }))
}

#[cfg(all(test, feature = "fake"))]
mod tests {
    use super::*;
    use crate::diagnose::altered::{Altered, commands, rules, rules6};
    use crate::model::Service;

    #[test]
    fn impossible_virtual_addresses_have_no_command() {
        for address in
            ["0.0.0.0", "224.0.0.5", "255.255.255.255", "127.255.255.255", "::", "ff02::5"]
        {
            let mut rules = Ruleset::new();
            rules.insert_service(Service::tcp(address.parse::<IpAddr>().unwrap(), 80)).unwrap();
            let diagnosis = Altered::new().diagnose(&rules);
            let finding = diagnosis.finding(Problem::VirtualAddress).unwrap();
            assert_eq!(finding.severity, Severity::Broken, "{diagnosis}");
            assert!(finding.text.contains(address) && finding.commands.is_empty(), "{diagnosis}");
        }
    }

    /// Once: the advice to give an interface the address failed, since the interface has no IPv6, or
    /// the address already.
    #[test]
    fn virtual_addresses_of_ipv6_can_be_given() {
        let has = |own: &str| Altered::new().with_interface("lo", &[("ipv6/disable_ipv6", own)]);
        let diagnosis = has("1").diagnose(&rules6());
        let add = "ip address add 2001:db8::1/128 dev lo";
        let finding = diagnosis.finding(Problem::VirtualAddress).unwrap();
        assert_eq!(commands(finding), ["sysctl -w net.ipv6.conf.lo.disable_ipv6=0", add]);
        let diagnosis = has("0").diagnose(&rules6());
        assert_eq!(commands(diagnosis.finding(Problem::VirtualAddress).unwrap()), [add]);

        let failed = "20010db8000000000000000000000001 02 80 00 c8 eth0\n";
        let diagnosis = has("0").with("net/if_inet6", failed).diagnose(&rules6());
        let finding = diagnosis.finding(Problem::VirtualAddress).unwrap();
        assert!(finding.text.contains("on another host") && finding.commands.is_empty());
        let tentative = "20010db8000000000000000000000001 02 80 00 c0 eth0\n";
        let diagnosis = has("0").with("net/if_inet6", tentative).diagnose(&rules6());
        let finding = diagnosis.finding(Problem::VirtualAddress).unwrap();
        assert!(finding.text.contains("not in use yet") && finding.commands.is_empty());
    }

    /// Once: all such addresses were said to be of the first one's kind.
    #[test]
    fn each_kind_of_impossible_virtual_address_is_told() {
        let mut rules = Ruleset::new();
        for address in [[0, 0, 0, 0], [224, 0, 0, 1], [224, 0, 0, 2]] {
            rules.insert_service(Service::tcp(address, 80)).unwrap();
        }
        let findings = Altered::new().diagnose(&rules).findings;
        let texts: Vec<_> = findings.iter().map(|finding| &*finding.text).collect();
        let wanted = [
            "no packet of a client matches a service with one of 2 virtual addresses, such as 224.0.0.1: \
             each is a multicast address",
            "no packet of a client matches a service with the virtual address 0.0.0.0: it is the \
             unspecified address",
        ];
        assert_eq!(texts, wanted);
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
