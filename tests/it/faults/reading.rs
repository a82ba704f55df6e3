//! Faults of reading: listings that fail, and values that differ from the kernel's.

use std::ops::Range;
use std::time::Duration;

use ipvs_netlink::{
    Destination, DestinationEntry, Family, Forwarding, Netmask, Persistence, Protocol, Ruleset,
    Scheduler, Service, ServiceEntry, ServiceKey, Tunnel,
};

use crate::case::{Outcome, cases, trials};
use crate::rules::{backend, real, vip, vip6, web};
use crate::scripted::{Scripted, destination, service};
use crate::subject::{Subject, program};
use crate::tampered::attribute;

cases![
    one_odd_service_does_not_hide_the_others,
    one_odd_destination_does_not_hide_the_others,
    numbers_are_those_that_procfs_shows,
    an_empty_table_is_no_error,
    more_than_93_destinations_are_listed,
    the_kernels_own_flag_is_no_difference,
];

trials![
    an_unknown_attribute_is_skipped,
    an_unknown_scheduler_keeps_its_name,
    an_unknown_forwarding_method_or_tunnel_is_kept,
    counts_above_16_bits_are_whole,
    bytes_above_32_bits_are_whole,
    a_mark_and_a_timeout_are_in_the_hosts_order,
    a_tunnel_port_is_in_network_order,
    an_answer_that_cannot_be_read_is_an_error,
    a_part_of_the_longest_length_is_whole,
    every_difference_shows,
];

/// One service by a firewall mark, or of SCTP, made every service unlistable.
async fn one_odd_service_does_not_hide_the_others(subject: &mut Subject) -> Outcome {
    let odd = [
        Service::mark(u32::MAX, Family::V4).unwrap(),
        Service::mark(u32::MAX, Family::V6).unwrap(),
        Service::sctp(vip(), 9),
        Service::address(Protocol::from_number(300), vip6(), 0),
        Service::tcp(vip(), 81).scheduler(Scheduler::Unbound),
        Service::udp(vip(), 5060)
            .persistence(Persistence::new(Duration::from_secs(9)).engine("sip".parse()?)),
        web(),
    ];
    let mut wanted = Ruleset::new();
    for service in odd {
        subject.client.add_service(&service).await?;
        wanted.insert_service(service)?;
    }
    assert_eq!(subject.client.services().await?.len(), odd.len());
    assert_eq!(subject.client.ruleset().await?, wanted);
    Ok(())
}

/// An unknown forwarding method or tunnel type panicked, or failed the whole listing.
async fn one_odd_destination_does_not_hide_the_others(subject: &mut Subject) -> Outcome {
    let odd = [
        Destination::new((real(1), 80), Forwarding::from_number(7, Tunnel::Ipip)),
        Destination::tunnel(real(2), 80, Tunnel::from_numbers(255, 9, u16::MAX)),
        Destination::local(real(3), 80),
        Destination::bypass(real(4), 80),
        backend(5),
    ];
    subject.client.add_service(&web()).await?;
    for destination in &odd {
        subject.client.add_destination(web().key, destination).await?;
    }
    let read = subject.client.destinations(web().key).await?;
    assert!(read.iter().rev().map(|entry| entry.destination).eq(odd));
    Ok(())
}

/// Clock ticks a second, in which procfs counts, on the kernels that are tested.
const TICKS: u32 = 250;

/// Marks and timeouts were read in the wrong byte order, and weights and marks cut to 16 bits. The
/// listing of procfs is the witness here.
async fn numbers_are_those_that_procfs_shows(subject: &mut Subject) -> Outcome {
    let mark = Service::mark(0x0102_0304, Family::V4)
        .unwrap()
        .persistence(Persistence::new(Duration::from_secs(0x0005_0607)))
        .scheduler(Scheduler::WeightedRoundRobin);
    subject.client.add_service(&mark).await?;
    let heavy = Destination::masquerade([10, 1, 2, 3], 0x0102).weight(0x0708_090a);
    subject.client.add_destination(mark.key, &heavy).await?;
    let table = std::fs::read_to_string("/proc/net/ip_vs")?;
    let squeezed = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        squeezed.contains(&format!("FWM 01020304 wrr persistent {}", 0x0005_0607 * TICKS)),
        "{table}"
    );
    assert!(squeezed.contains(&format!("-> 0A010203:0102 Masq {}", 0x0708_090a)), "{table}");
    assert_eq!(subject.client.service(mark.key).await?.service, mark);
    let read = subject.client.destination(mark.key, heavy.key).await?;
    assert_eq!(read.destination, heavy);
    Ok(())
}

/// An empty table was an error.
async fn an_empty_table_is_no_error(subject: &mut Subject) -> Outcome {
    assert!(subject.client.services().await?.is_empty());
    assert!(subject.client.daemons().await?.is_empty());
    assert!(subject.client.table().await?.services.is_empty());
    subject.client.add_service(&web()).await?;
    assert!(subject.client.destinations(web().key).await?.is_empty());
    Ok(())
}

/// With a listing gathered in 32 KiB the 93rd destination broke it.
async fn more_than_93_destinations_are_listed(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    for n in 0..=93 {
        subject.client.add_destination(web().key, &backend(n)).await?;
    }
    assert_eq!(subject.client.destinations(web().key).await?.len(), 94);
    Ok(())
}

/// The kernel sets a flag of its own on every service. The service as written never equalled the
/// one that was read, and a controller updated it for ever.
async fn the_kernels_own_flag_is_no_difference(subject: &mut Subject) -> Outcome {
    let whole = Netmask::V4([255; 4].into());
    let service = web().persistence(Persistence::new(Duration::from_secs(9)).netmask(whole));
    let mut wanted = Ruleset::new();
    wanted.insert_service(service)?;
    subject.client.add_service(&service).await?;
    assert_eq!(subject.client.ruleset().await?, wanted);
    let saved = program("ipvsadm", &["-S", "-n"])?;
    assert_eq!(saved.parse::<Ruleset>()?, wanted);
    Ok(())
}

/// The service that a client reads from a listing with these additional attributes.
fn read_service(change: Vec<u8>) -> ServiceEntry {
    let mut client =
        Scripted::client(move |request| vec![request.reply(1, &service(&change)), request.done(0)]);
    let read = client.services().unwrap();
    assert_eq!(read.len(), 1);
    read[0]
}

/// The destination that a client reads from a listing with these additional attributes.
fn read_destination(change: Vec<u8>) -> DestinationEntry {
    let mut client = Scripted::client(move |request| {
        vec![request.reply(5, &destination(&change)), request.done(0)]
    });
    let read = client.destinations(web().key).unwrap();
    assert_eq!(read.len(), 1);
    read[0]
}

/// An attribute of a newer kernel panicked, or failed the whole listing.
fn an_unknown_attribute_is_skipped() {
    let unknown = [attribute(77, b"new"), attribute(78, &[]), attribute(0x7fff, &[9; 99])].concat();
    assert_eq!(read_service(unknown.clone()).service, web());
    assert_eq!(read_destination(unknown.clone()).destination, backend(1));
    let mut client = Scripted::client(move |request| {
        let top = [unknown.clone(), service(&[])].concat();
        vec![request.reply(1, &top), request.done(0)]
    });
    assert_eq!(client.services().unwrap().len(), 1);
}

/// A scheduler of a newer kernel or of a private module panicked, or failed the listing.
fn an_unknown_scheduler_keeps_its_name() {
    for (bytes, name) in [(&b"vip7\0"[..], "vip7"), (b"a23456789012345\0", "a23456789012345")] {
        let read = read_service(attribute(6, bytes)).service;
        assert_eq!(read.scheduler.name(), name);
        assert_eq!(read.key, web().key);
    }
}

fn an_unknown_forwarding_method_or_tunnel_is_kept() {
    for number in 0..8u32 {
        let read = read_destination(attribute(3, &number.to_ne_bytes())).destination;
        assert_eq!(read.forwarding.number(), number);
    }
    let tunnel = [
        attribute(3, &2u32.to_ne_bytes()),
        attribute(13, &[200]),
        attribute(14, &9u16.to_be_bytes()),
        attribute(15, &0x0102u16.to_ne_bytes()),
    ];
    let read = read_destination(tunnel.concat()).destination.forwarding.tunnel().unwrap();
    assert_eq!((read.kind(), read.port(), read.flags()), (200, 9, 0x0102));
}

/// Weights and connection counts were cut to 16 bits: 65,536 connections showed as none.
fn counts_above_16_bits_are_whole() {
    let change: Vec<u8> =
        [(4, 70_000u32), (5, 70_001), (6, 70_002), (7, 70_003), (8, 70_004), (9, 70_005)]
            .into_iter()
            .flat_map(|(kind, value)| attribute(kind, &value.to_ne_bytes()))
            .collect();
    let read = read_destination(change);
    let Destination { weight, upper_threshold, lower_threshold, .. } = read.destination;
    assert_eq!((weight, upper_threshold, lower_threshold), (70_000, 70_001, 70_002));
    assert_eq!(read.active_connections, 70_003);
    assert_eq!((read.inactive_connections, read.persistent_connections), (70_004, 70_005));
}

/// Counters of destinations were cut to 32 bits, and jumped back every 4 GiB.
fn bytes_above_32_bits_are_whole() {
    let large = |kind: u16| u64::from(kind) << 40;
    let wide: Vec<u8> =
        (1..=10).flat_map(|kind| attribute(kind, &large(kind).to_ne_bytes())).collect();
    let narrow: Vec<u8> = [1, 2, 3, 6, 7, 8, 9, 10]
        .into_iter()
        .flat_map(|kind| attribute(kind, &7u32.to_ne_bytes()))
        .collect();
    // Every answer has both nests, in this order; the wide one counts.
    let both = [attribute(10, &narrow), attribute(12, &wide)].concat();
    for stats in [read_service(both.clone()).stats, read_destination(both).stats] {
        assert_eq!((stats.connections, stats.incoming_packets), (large(1), large(2)));
        assert_eq!((stats.outgoing_packets, stats.incoming_bytes), (large(3), large(4)));
        assert_eq!((stats.outgoing_bytes, stats.rates.connections), (large(5), large(6)));
        assert_eq!(stats.rates.incoming_packets, large(7));
        assert_eq!(stats.rates.outgoing_packets, large(8));
        assert_eq!(stats.rates.incoming_bytes, large(9));
        assert_eq!(stats.rates.outgoing_bytes, large(10));
    }
    // A kernel before 4.1 sends only the narrow nest.
    let stats = read_service(attribute(10, &narrow)).stats;
    assert_eq!((stats.connections, stats.rates.outgoing_bytes), (7, 7));
}

/// A mark of 1 was shown as 16,777,216, and a timeout of 300 s as 40 years.
fn a_mark_and_a_timeout_are_in_the_hosts_order() {
    let persistent = attribute(7, &[3u32.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat());
    let change =
        [attribute(5, &1u32.to_ne_bytes()), attribute(8, &300u32.to_ne_bytes()), persistent];
    let read = read_service(change.concat()).service;
    assert_eq!(read.key, ServiceKey::mark(1, Family::V4).unwrap());
    assert_eq!(read.persistence.unwrap().timeout(), Duration::from_secs(300));
}

/// The port of a gue tunnel was not swapped: 6080 showed as 49,175.
fn a_tunnel_port_is_in_network_order() {
    let change =
        [attribute(3, &2u32.to_ne_bytes()), attribute(13, &[1]), attribute(14, &[0x17, 0xc0])];
    let read = read_destination(change.concat()).destination.forwarding;
    assert_eq!(read, Forwarding::Tunnel(Tunnel::gue(6080).unwrap()));
}

/// Malformed bytes caused a panic, in the middle of the controller's work.
fn an_answer_that_cannot_be_read_is_an_error() {
    for (broken, says) in [
        (attribute(4, &[1]), "PORT has 1 bytes"),
        (attribute(8, &[]), "TIMEOUT has 0 bytes"),
        (attribute(1, &9u16.to_ne_bytes()), "AF"),
        (attribute(7, &[0; 4]), "FLAGS has 4 bytes"),
    ] {
        let mut client = Scripted::client(move |request| {
            vec![request.reply(1, &service(&broken)), request.done(0)]
        });
        let error = client.services().unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        // The client goes on.
        assert!(client.services().is_err());
    }
}

/// Buffers of 4 KiB cut the kernel's parts off, which are up to 32,448 bytes long.
fn a_part_of_the_longest_length_is_whole() {
    let mut client = Scripted::client(|request| {
        let one =
            |port: u16| request.reply(1, &service(&attribute(4, &port.to_be_bytes()))).unwrap();
        let count = 32_448 / u16::try_from(one(1).len()).unwrap();
        let part = |ports: Range<u16>| Ok(ports.flat_map(one).collect());
        vec![part(0..count), part(count..2 * count), request.done(0)]
    });
    assert!(client.services().unwrap().len() > 300);
}

/// Only schedulers were compared: persistence, flags and timeouts never reached the kernel.
fn every_difference_shows() {
    let hour = Persistence::new(Duration::from_secs(3600));
    let services = [
        web(),
        web().scheduler(Scheduler::LeastConnection),
        web().persistence(hour),
        web().persistence(Duration::from_secs(60)),
        web().persistence(hour.netmask(Netmask::V4([255, 255, 255, 0].into()))),
        web().persistence(hour.engine("sip".parse().unwrap())),
        web().flags(ipvs_netlink::ServiceFlags::SCHEDULER_3),
    ];
    let destinations = [
        backend(1),
        backend(1).weight(2),
        backend(1).thresholds(2, 0),
        backend(1).thresholds(2, 1),
        backend(1).forwarding(Forwarding::DirectRoute),
        backend(1).forwarding(Forwarding::Tunnel(Tunnel::Ipip)),
        backend(1).forwarding(Forwarding::Tunnel(Tunnel::gre())),
    ];
    let mut rulesets = Vec::new();
    for service in services {
        for destination in destinations {
            let mut rules = Ruleset::new();
            rules.insert_service(service).unwrap();
            rules.insert_destination(service.key, destination).unwrap();
            rulesets.push(rules);
        }
    }
    for (index, one) in rulesets.iter().enumerate() {
        for (other_index, other) in rulesets.iter().enumerate() {
            assert_eq!(one == other, index == other_index, "{one}\n{other}");
        }
    }
}
