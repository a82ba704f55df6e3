//! The ways of packets: those to destinations, and the replies of masqueraded ones.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::facts::{Device, Facts};
use super::finding::{Finding, Problem, Severity};
use super::refusals;
use super::routes::Way;
use crate::model::{Destination, Family, Forwarding};
use crate::ruleset::{Ruleset, ServiceRules};

pub(super) fn judge(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    let has_ipv6 = findings.iter().all(|finding| finding.problem != Problem::NoIpv6);
    findings.extend(routes(facts, rules, has_ipv6));
    forwarding(facts, rules, findings);
}

/// The destinations of all services.
pub(super) fn destinations(rules: &Ruleset) -> impl Iterator<Item = &Destination> {
    rules.services().flat_map(ServiceRules::destinations)
}

/// Real servers to which this host has no route. A route that drops the packets is wanted, a host without
/// IPv6 has a finding for that, and so has an address that the kernel refuses.
fn routes(facts: &Facts, rules: &Ruleset, has_ipv6: bool) -> Option<Finding> {
    let is_unreached = |address: &IpAddr| {
        (address.is_ipv4() || has_ipv6)
            && facts.addresses.is_local(*address) == Some(false)
            && refusals::kind_that_is_refused(facts, *address).is_none()
            && facts.routes.way(*address) == Way::Nowhere
    };
    let destinations = destinations(rules).filter(|it| is_routed(it.forwarding));
    let addresses = destinations.map(|destination| destination.key.address);
    let unreached: BTreeSet<_> = addresses.filter(is_unreached).collect();
    let first = unreached.first()?;
    let (which, them) = match unreached.len() {
        1 => (format!("the real server {first}"), "it"),
        more => (format!("{more} real servers, such as {first}"), "them"),
    };
    let disabled = facts.devices.without_ipv6();
    let remark = if disabled.is_empty() || unreached.iter().all(IpAddr::is_ipv4) {
        String::new()
    } else {
        format!("; IPv6 is disabled on {}", disabled.join(", "))
    };
    Some(Finding::new(
        Severity::Limited,
        Problem::Route,
        format!(
            "at present no route leads to {which}, so connections that are scheduled to {them} fail\
             {remark}"
        ),
        "Unless a route is still to come, add one, or correct the address.",
    ))
}

/// Whether packets are sent to the destination's own address.
fn is_routed(forwarding: Forwarding) -> bool {
    match forwarding {
        Forwarding::Masquerade | Forwarding::Tunnel(_) | Forwarding::DirectRoute => true,
        Forwarding::Local | Forwarding::Bypass | Forwarding::Other(_) => false,
    }
}

/// A masqueraded destination's replies arrive by the device that leads to the destination, and pass
/// if that device forwards. For IPv4 each device has its own setting; for IPv6 the network
/// namespace has one, and since Linux 6.17 a device can forward on its own.
fn forwarding(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    for family in [Family::V4, Family::V6] {
        let real_servers: BTreeSet<_> = destinations(rules)
            .filter(|it| it.forwarding == Forwarding::Masquerade && it.key.family() == family)
            .map(|destination| destination.key.address)
            .filter(|address| {
                !address.is_loopback() && facts.addresses.is_local(*address) != Some(true)
            })
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

#[cfg(all(test, feature = "fake"))]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::diagnose::altered::{Altered, commands, rules, rules6};
    use crate::model::Service;

    const HEADING: &str = "Iface\tDestination\tGateway \tFlags\n";

    /// Once: with a transparent proxy's route, or with routes that rules choose, no finding told that the
    /// host does not forward, or one did so of a device by which the packets do not go.
    #[test]
    fn routes_of_other_tables_hide_nothing() {
        let proxy = "Id 100:\n  |-- 0.0.0.0\n     /0 host LOCAL\n";
        let trie = format!("{proxy}Local:\n  |-- 127.0.0.1\n     /32 host LOCAL\n");
        let host = || {
            let off = [("ipv4/forwarding", "0")];
            let on = [("ipv4/forwarding", "1")];
            let route = format!("eth0\t{0:08X}\t0\t1\t0\t0\t0\t{0:08X}\t0\t0\t0\n", 0);
            let host = Altered::new().with_interface("eth0", &off).with_interface("eth1", &on);
            host.with("net/route", &route).with("sys/net/ipv4/ip_forward", "0")
        };
        let problem = Problem::Forwarding(Family::V4);
        let diagnosis = host().diagnose(&rules("wlc"));
        let finding = diagnosis.finding(problem).unwrap();
        assert_eq!(commands(finding), ["sysctl -w net.ipv4.conf.eth0.forwarding=1"]);
        let diagnosis = host().with("net/fib_trie", &trie).diagnose(&rules("wlc"));
        assert_eq!(diagnosis.finding(problem), None, "eth1 forwards: {diagnosis}");
        let diagnosis = host().without("net/fib_trie").diagnose(&rules("wlc"));
        assert_eq!(diagnosis.finding(problem), None, "the tables are not known: {diagnosis}");
        let host = host().with("sys/net/ipv4/conf/eth1/forwarding", "0");
        let diagnosis = host.with("net/fib_trie", &trie).diagnose(&rules("wlc"));
        let finding = diagnosis.finding(problem).unwrap();
        assert_eq!(commands(finding), ["sysctl -w net.ipv4.ip_forward=1"]);
        assert!(diagnosis.finding(Problem::VirtualAddress).is_some(), "{diagnosis}");
    }

    /// Once: nothing told of a destination that no packet can reach.
    #[test]
    fn destinations_without_a_route_are_found() {
        let route = format!("eth0\t{0:08X}\t0\t1\t0\t0\t0\t{0:08X}\t0\t0\t0\n", 0);
        let found = |host: Altered, rules: &Ruleset| {
            let diagnosis = host.diagnose(rules);
            diagnosis.finding(Problem::Route).map(|finding| finding.severity)
        };
        let limited = Some(Severity::Limited);
        let host = |text: &str| Altered::new().with("net/route", text);
        assert_eq!(found(host(HEADING), &rules("wlc")), limited);
        assert_eq!(found(host(&route), &rules("wlc")), None);
        assert_eq!(found(host(&route.replace("eth0", "*")), &rules("wlc")), None, "wanted");
        // What is not known causes no finding.
        assert_eq!(found(Altered::new(), &rules("wlc")), None);
        let trie = "Id 100:\n  |-- 10.1.0.0\n     /16 link UNICAST\n";
        assert_eq!(found(host(HEADING).with("net/fib_trie", trie), &rules("wlc")), None);
        assert_eq!(found(Altered::new().with("net/ipv6_route", ""), &rules6()), limited);
    }

    /// Once: such destinations counted, those of one host as several, and a host without IPv6 had no
    /// finding for those of IPv4 either.
    #[test]
    fn real_servers_that_packets_are_sent_to_need_a_route() {
        let host = || Altered::new().with("net/route", HEADING).with("net/ipv6_route", "");
        let found = |host: Altered, destinations: &[Destination]| {
            let mut rules = Ruleset::new();
            for (port, destination) in (80..).zip(destinations) {
                let is_ipv4 = destination.key.address.is_ipv4();
                let localhost: IpAddr =
                    if is_ipv4 { [127, 0, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() };
                let service = Service::tcp(localhost, port);
                rules.insert_service(service).unwrap();
                rules.insert_destination(service.key, *destination).unwrap();
            }
            let diagnosis = host.diagnose(&rules);
            diagnosis.finding(Problem::Route).map(|finding| finding.text.clone())
        };
        let real = [10, 1, 0, 1];
        for forwarding in [Forwarding::Local, Forwarding::Bypass] {
            let destination = Destination { forwarding, ..Destination::direct_route(real, 80) };
            assert_eq!(found(host(), &[destination]), None);
        }
        for refused in ["224.0.0.1", "fe80::5", "::ffff:10.0.0.1"] {
            let refused: IpAddr = refused.parse().unwrap();
            assert_eq!(found(host(), &[Destination::direct_route(refused, 80)]), None, "{refused}");
        }
        let ports = [80, 443].map(|port| Destination::direct_route(real, port));
        let text = "at present no route leads to the real server 10.1.0.1, so connections that are \
                    scheduled to it fail";
        assert_eq!(found(host(), &ports).unwrap(), text);
        let real6: IpAddr = "2001:db8::2".parse().unwrap();
        let both = [ports[0], Destination::direct_route(real6, 80)];
        let text6 = "at present no route leads to 2 real servers, such as 10.1.0.1, so connections that \
                     are scheduled to them fail";
        assert_eq!(found(host(), &both).unwrap(), text6);
        assert_eq!(found(host().without("net/if_inet6"), &both).unwrap(), text);
    }
}
