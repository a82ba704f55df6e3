//! Virtual addresses to which no client of another host gets. IPVS sees the packets that the host
//! receives for itself, and those that it sends.

use std::collections::BTreeSet;
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
    let (impossible, others): (BTreeSet<_>, BTreeSet<_>) =
        addresses.partition(|address| facts.addresses.kind_of_none(*address).is_some());
    let (duplicate, others): (BTreeSet<_>, BTreeSet<_>) =
        others.into_iter().partition(|address| facts.addresses.is_duplicate(*address));
    let elsewhere: BTreeSet<_> = others
        .into_iter()
        .filter(|address| facts.addresses.is_local(*address) == Some(false))
        .collect();
    findings.extend(of_no_host(facts, &impossible));
    findings.extend(of_two_hosts(&duplicate));
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
fn of_no_host(facts: &Facts, addresses: &BTreeSet<IpAddr>) -> Option<Finding> {
    let kind = facts.addresses.kind_of_none(*addresses.first()?)?;
    let which = in_words(addresses)?;
    Some(Finding::new(
        Severity::Broken,
        Problem::VirtualAddress,
        format!("no packet of a client matches a service with {which}, which is {kind}"),
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
