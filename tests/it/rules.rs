//! Rules and keys that the cases share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipvs_netlink::{
    Destination, Family, HashOptions, Netmask, Persistence, Ruleset, Scheduler, Service,
    ServiceKey, Tunnel, TunnelChecksum,
};

use crate::case::{Outcome, cases};
use crate::subject::Subject;

cases![whole_rulesets_are_read_back];

/// A virtual address.
pub(crate) fn vip() -> IpAddr {
    Ipv4Addr::new(10, 0, 0, 1).into()
}

/// A virtual address of IPv6.
pub(crate) fn vip6() -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
}

/// The n-th real server.
pub(crate) fn real(n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    Ipv4Addr::new(10, 1, high, low).into()
}

/// The n-th real server of IPv6.
pub(crate) fn real6(n: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n).into()
}

/// A plain service.
pub(crate) fn web() -> Service {
    Service::tcp(vip(), 80).scheduler(Scheduler::RoundRobin)
}

/// A plain destination.
pub(crate) fn backend(n: u16) -> Destination {
    Destination::masquerade(real(n), 8080)
}

/// Rules with some of everything that `ipvsadm` can express.
pub(crate) fn rich() -> Ruleset {
    let mut rules = Ruleset::new();
    let mut add = |service: Service, destinations: &[Destination]| {
        rules.insert_service(service).unwrap();
        for destination in destinations {
            rules.insert_destination(service.key, *destination).unwrap();
        }
    };
    let hour = Duration::from_secs(3600);
    let gue = |checksum| Tunnel::gue(6080).unwrap().checksum(checksum);
    add(web(), &[backend(1).weight(0), backend(2).weight(65535), backend(3)]);
    add(
        Service::tcp(vip(), 443)
            .persistence(Persistence::new(hour).netmask(Netmask::V4([255, 255, 255, 0].into()))),
        &[
            Destination::direct_route(real(1), 443),
            Destination::tunnel(real(2), 443, Tunnel::Ipip),
            Destination::tunnel(real(3), 443, gue(TunnelChecksum::None)),
            Destination::tunnel(real(4), 443, gue(TunnelChecksum::Full)),
            Destination::tunnel(real(5), 443, gue(TunnelChecksum::Remote)),
            Destination::tunnel(real(6), 443, Tunnel::gre()),
            Destination::tunnel(real(7), 443, Tunnel::gre().checksum(TunnelChecksum::Full)),
        ],
    );
    let options = HashOptions::default().fallback(true).port(true);
    add(
        Service::udp(vip(), 53).scheduler(Scheduler::SourceHash(options)).one_packet(true),
        &[Destination::masquerade(real(1), 5353)],
    );
    add(
        Service::udp(vip(), 5060)
            .persistence(Persistence::new(hour).engine("sip".parse().unwrap())),
        &[],
    );
    add(
        Service::tcp(vip6(), 80)
            .scheduler(Scheduler::MaglevHash(HashOptions::default().port(true)))
            .persistence(Persistence::new(hour).netmask(Netmask::V6(64))),
        &[Destination::masquerade(real6(1), 8080)],
    );
    add(
        Service::sctp(vip(), 9).scheduler(Scheduler::WeightedRoundRobin),
        &[Destination::masquerade(real(1), 9)],
    );
    add(Service::tcp(vip(), 0).persistence(hour), &[Destination::masquerade(real(1), 0)]);
    let mark = |family| Service::mark(7, family).unwrap();
    add(mark(Family::V4), &[Destination::direct_route(real(1), 0)]);
    add(mark(Family::V6), &[Destination::masquerade(real6(1), 80)]);
    rules
}

/// Writes rules, one operation after the other.
pub(crate) async fn write(subject: &mut Subject, rules: &Ruleset) -> Outcome {
    for rules in rules.services() {
        subject.client.add_service(rules.service()).await?;
        for destination in rules.destinations() {
            subject.client.add_destination(rules.key(), destination).await?;
        }
    }
    Ok(())
}

async fn whole_rulesets_are_read_back(subject: &mut Subject) -> Outcome {
    let mut rules = rich();
    // Settings that ipvsadm cannot express.
    let key = ServiceKey::tcp(vip(), 80);
    for destination in [
        Destination::local(vip(), 81),
        Destination::bypass(real(9), 80),
        backend(8).thresholds(100, 75),
        Destination::tunnel(real6(8), 80, Tunnel::Ipip),
    ] {
        rules.insert_destination(key, destination)?;
    }
    write(subject, &rules).await?;
    assert_eq!(subject.client.ruleset().await?, rules);
    let table = subject.client.table().await?;
    assert_eq!(Ruleset::from(&table), rules);
    assert!(table.services.iter().all(|service| service.entry.stats.connections == 0));
    Ok(())
}
