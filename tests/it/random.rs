//! Random values: messages, rules, and rules that `ipvsadm` can express.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::ops::Range;
use std::time::Duration;

use ipvs_netlink::{
    Destination, Family, Forwarding, HashOptions, Netmask, Persistence, Protocol, Ruleset,
    Scheduler, Service, ServiceFlags, ServiceKey, Tunnel, TunnelChecksum,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// The program that must be able to express the rules.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// This crate: everything that a kernel holds.
    Crate,
    /// `ipvsadm`: less, by rules of its own.
    Ipvsadm,
}

/// The same values in every run, so that a failure recurs.
pub(crate) fn samples<S: Strategy>(strategy: S, count: usize) -> impl Iterator<Item = S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(move |_| strategy.new_tree(&mut runner).unwrap().current())
}

/// Rulesets for a kernel with these schedulers.
pub(crate) fn rulesets(
    speaker: Speaker,
    schedulers: Vec<Scheduler>,
) -> impl Strategy<Value = Ruleset> {
    rulesets_of(0..8, speaker, schedulers)
}

/// Rulesets with this many services.
pub(crate) fn rulesets_of(
    count: Range<usize>,
    speaker: Speaker,
    schedulers: Vec<Scheduler>,
) -> impl Strategy<Value = Ruleset> {
    let service = service(speaker, schedulers);
    let one = service.prop_flat_map(move |service| {
        (Just(service), vec(destination(speaker, service.key), 0..6))
    });
    vec(one, count).prop_map(|services| {
        let mut rules = Ruleset::new();
        for (service, destinations) in services {
            rules.insert_service(service).unwrap();
            for destination in destinations {
                // A service that comes twice keeps the destinations of both.
                let _ = rules.insert_destination(service.key, destination);
            }
        }
        rules
    })
}

/// A ruleset and another of the same size, which share services and destinations, as those of a
/// controller do.
pub(crate) fn pairs(
    rulesets: impl Strategy<Value = Ruleset>,
) -> impl Strategy<Value = (Ruleset, Ruleset)> {
    let rulesets = std::rc::Rc::new(rulesets);
    (rulesets.clone(), rulesets, any::<u64>()).prop_map(|(actual, mut wanted, mut bits)| {
        let mut coin = || {
            bits = bits.rotate_left(1);
            bits & 1 == 1
        };
        for shared in actual.services() {
            if coin() {
                continue;
            }
            let mut service = *shared.service();
            if coin() {
                service.scheduler = Scheduler::WeightedRoundRobin;
            }
            wanted.insert_service(service).unwrap();
            for destination in shared.destinations() {
                let weight = if coin() { destination.weight } else { 7 };
                let _ = wanted.insert_destination(service.key, destination.weight(weight));
            }
        }
        (actual, wanted)
    })
}

fn service(speaker: Speaker, schedulers: Vec<Scheduler>) -> impl Strategy<Value = Service> {
    let key = (key(speaker), any::<bool>());
    let scheduler = (proptest::sample::select(schedulers), any::<(bool, bool)>());
    let scheduler = scheduler.prop_map(|(scheduler, (fallback, port))| {
        scheduler.with_hash_options(HashOptions::default().fallback(fallback).port(port))
    });
    (key, scheduler, flags(speaker)).prop_flat_map(move |((key, one_packet), scheduler, flags)| {
        persistence(speaker, key.family()).prop_map(move |persistence| {
            let mut service = Service::new(key).scheduler(scheduler).flags(flags);
            service.persistence = persistence;
            service.one_packet = one_packet;
            make_sense(&mut service);
            if speaker == Speaker::Ipvsadm {
                restrict(&mut service);
            }
            service.normalized()
        })
    })
}

/// Removes settings that the kernel holds although the crate refuses them.
fn make_sense(service: &mut Service) {
    let ServiceKey::Address { protocol, port, .. } = service.key else { return };
    if port == 0 && service.persistence.is_none() {
        service.persistence = Some(Duration::from_secs(360).into());
    }
    service.one_packet &= !matches!(protocol, Protocol::TCP | Protocol::SCTP);
}

/// Applies the restrictions of ipvsadm, which the kernel does not have.
fn restrict(service: &mut Service) {
    let is_udp = matches!(service.key, ServiceKey::Address { protocol: Protocol::UDP, .. });
    if service.scheduler.hash_options().is_some() {
        // ipvsadm does not save the third flag of sh and mh.
        service.flags = ServiceFlags::empty();
    }
    if let Some(persistence) = &mut service.persistence {
        // The engine works on UDP alone.
        persistence.engine = persistence.engine.filter(|_| is_udp);
    }
}

fn key(speaker: Speaker) -> impl Strategy<Value = ServiceKey> {
    let protocol = match speaker {
        Speaker::Crate => any::<u16>().prop_map(Protocol::from_number).boxed(),
        Speaker::Ipvsadm => {
            let known = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
            proptest::sample::select(known.to_vec()).boxed()
        }
    };
    let most = match speaker {
        Speaker::Crate => u32::MAX,
        // ipvsadm cannot restore marks above this one that it has saved.
        Speaker::Ipvsadm => i32::MAX.cast_unsigned(),
    };
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    prop_oneof![
        4 => (protocol, virtual_address(), port())
            .prop_map(|(protocol, address, port)| ServiceKey::address(protocol, address, port)),
        1 => (1..=most, family)
            .prop_map(|(mark, family)| ServiceKey::mark(mark, family).unwrap()),
    ]
}

fn virtual_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits | 1 << 24))),
        any::<u64>().prop_map(|low| {
            IpAddr::from(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(low)))
        }),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(80), any::<u16>()]
}

fn flags(speaker: Speaker) -> impl Strategy<Value = ServiceFlags> {
    let all = match speaker {
        Speaker::Crate => u32::MAX,
        Speaker::Ipvsadm => 0x38,
    };
    prop_oneof![
        2 => Just(ServiceFlags::empty()),
        1 => any::<u32>().prop_map(move |bits| ServiceFlags::from_bits_truncate(bits & all)),
    ]
}

fn persistence(speaker: Speaker, family: Family) -> impl Strategy<Value = Option<Persistence>> {
    let seconds = match speaker {
        Speaker::Crate => 1..=17_179_868u64,
        Speaker::Ipvsadm => 1..=2_678_400,
    };
    let mask = match family {
        Family::V4 => (1..=32u32).prop_map(|n| Netmask::V4((u32::MAX << (32 - n)).into())).boxed(),
        Family::V6 => (1..=128u8).prop_map(Netmask::V6).boxed(),
    };
    let one = (seconds, option::of(mask), any::<bool>()).prop_map(|(seconds, netmask, sip)| {
        let mut persistence = Persistence::new(Duration::from_secs(seconds));
        persistence.netmask = netmask;
        persistence.engine = sip.then(|| "sip".parse().unwrap());
        persistence
    });
    option::of(one)
}

/// Destinations that the kernel takes under this service.
fn destination(speaker: Speaker, service: ServiceKey) -> impl Strategy<Value = Destination> {
    let limits = match speaker {
        Speaker::Crate => i32::MAX.cast_unsigned(),
        Speaker::Ipvsadm => 65535,
    };
    let method = match speaker {
        Speaker::Crate => 0..8u32,
        Speaker::Ipvsadm => 0..3,
    };
    let thresholds = (0..=limits, any::<u32>());
    (method, tunnel(speaker), any::<bool>(), any::<u16>(), port(), 0..=limits, thresholds).prop_map(
        move |(method, tunnel, mixed, host, port, weight, (upper, lower))| {
            // ipvsadm has no option for the local method, but for masquerade, tunnel and direct
            // route.
            let method = match (speaker, method) {
                (Speaker::Crate, method) => method,
                (Speaker::Ipvsadm, 1) => 2,
                (Speaker::Ipvsadm, 2) => 3,
                (Speaker::Ipvsadm, other) => other,
            };
            let forwarding = Forwarding::from_number(method, tunnel);
            let family = match (service.family(), mixed && forwarding.tunnel().is_some()) {
                (Family::V4, false) | (Family::V6, true) => Family::V4,
                _ => Family::V6,
            };
            let port = match service {
                // ipvsadm changes the port of any other method to the service's.
                ServiceKey::Address { port, .. } if speaker == Speaker::Ipvsadm && method != 0 => {
                    port
                }
                _ => port,
            };
            let address = match family {
                Family::V4 => IpAddr::from(Ipv4Addr::from(0x0a01_0000 | u32::from(host))),
                Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host).into(),
            };
            let lower = lower % (upper + 1);
            Destination::new((address, port), forwarding).weight(weight).thresholds(upper, lower)
        },
    )
}

fn tunnel(speaker: Speaker) -> impl Strategy<Value = Tunnel> {
    let checksum = proptest::sample::select(vec![
        TunnelChecksum::None,
        TunnelChecksum::Full,
        TunnelChecksum::Remote,
    ]);
    let known = prop_oneof![
        Just(Tunnel::Ipip),
        Just(Tunnel::gre()),
        Just(Tunnel::gre().checksum(TunnelChecksum::Full)),
        (1..=u16::MAX, checksum)
            .prop_map(|(port, checksum)| Tunnel::gue(port).unwrap().checksum(checksum)),
    ];
    let any = (any::<(u8, NonZeroU16, u16)>())
        .prop_map(|(kind, port, flags)| Tunnel::from_numbers(kind, port.get(), flags));
    match speaker {
        Speaker::Crate => prop_oneof![known, any].boxed(),
        Speaker::Ipvsadm => known.boxed(),
    }
}
