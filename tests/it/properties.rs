//! Properties of all values: each survives being written and read again.

use std::net::IpAddr;

use ipvs_netlink::wire::{
    Command, DaemonAttributes, DestinationAttributes, Message, ServiceAttributes,
};
use ipvs_netlink::{
    DaemonRole, Destination, Netmask, Operation, Ruleset, Scheduler, Service, Stats, SyncDaemon,
};
use netlink_packet_core::{Emitable, ParseableParametrized};
use netlink_packet_generic::GenlHeader;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::case::trials;
use crate::random::{Speaker, rulesets};

trials![
    every_message_survives_its_bytes,
    every_service_survives_its_bytes,
    every_daemon_survives_its_bytes,
    every_ruleset_survives_its_text,
    any_bytes_are_decoded_or_refused,
    any_text_is_parsed_or_refused,
];

/// Runs a property over many values; a failing value is shrunk and printed.
fn holds<S: Strategy>(strategy: S, property: impl Fn(S::Value)) {
    let config = Config { cases: 512, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strategy, |value| {
        property(value);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

fn bytes_of(message: &Message) -> Vec<u8> {
    // The encoding overwrites all of the buffer.
    let mut bytes = vec![0xaa; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

fn decoded(command: Command, bytes: &[u8]) -> Message {
    let header = GenlHeader { cmd: command.number(), version: 1 };
    Message::parse_with_param(bytes, header).unwrap()
}

fn every_message_survives_its_bytes() {
    holds(message(), |message| {
        let bytes = bytes_of(&message);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(decoded(message.command, &bytes), message);
    });
}

fn every_service_survives_its_bytes() {
    holds(rulesets(Speaker::Crate, Scheduler::KNOWN.to_vec()), |rules| {
        for rules in rules.services() {
            let service = *rules.service();
            let message = Operation::UpdateService(service).message();
            let read = decoded(message.command, &bytes_of(&message)).service.unwrap();
            assert_eq!(Service::try_from(&read), Ok(service));
            for destination in rules.destinations() {
                let message = Operation::AddDestination(service.key, *destination).message();
                let read = decoded(message.command, &bytes_of(&message)).destination.unwrap();
                let read: Destination = read.destination(service.key.family()).unwrap();
                assert_eq!(read, *destination);
            }
        }
    });
}

fn every_daemon_survives_its_bytes() {
    let roles = prop_oneof![Just(DaemonRole::Master), Just(DaemonRole::Backup)];
    let options = (option::of(any::<u16>()), option::of(any::<IpAddr>()), option::of(any::<u16>()));
    let rest = (options, option::of(any::<u8>()), any::<u8>(), "[a-z0-9.@-]{1,15}");
    holds((roles, rest), |(role, ((length, group, port), ttl, sync_id, interface))| {
        let mut daemon = SyncDaemon::new(role, interface.parse().unwrap()).sync_id(sync_id);
        daemon.max_length = length;
        daemon.group = group;
        daemon.port = port;
        daemon.ttl = ttl;
        let message = Operation::StartDaemon(daemon).message();
        let read = decoded(message.command, &bytes_of(&message)).daemon.unwrap();
        assert_eq!(SyncDaemon::try_from(&read), Ok(daemon));
    });
}

fn every_ruleset_survives_its_text() {
    let mut schedulers = Scheduler::KNOWN.to_vec();
    schedulers.extend([Scheduler::Unbound, "vip7".parse().unwrap()]);
    holds(rulesets(Speaker::Crate, schedulers), |rules| {
        assert_eq!(rules.to_string().parse::<Ruleset>().unwrap(), rules, "{rules}");
    });
}

/// A decoded value survives being encoded.
fn any_bytes_are_decoded_or_refused() {
    let commands = proptest::sample::select(Command::ALL.to_vec());
    holds((commands, vec(any::<u8>(), 0..400)), |(command, bytes)| {
        if let Ok(message) = Message::decode(command, &bytes) {
            assert_eq!(decoded(command, &bytes_of(&message)), message);
        }
    });
}

fn any_text_is_parsed_or_refused() {
    let words = "(-[Aatufgimrswpx6M]|--[a-z-]{1,16}|[0-9.:\\[\\]a-f]{1,20}|\\PC{0,8}|\n| ){0,40}";
    holds(words, |text| {
        if let Ok(rules) = text.parse::<Ruleset>() {
            assert_eq!(rules.to_string().parse::<Ruleset>().unwrap(), rules);
        }
    });
}

fn message() -> impl Strategy<Value = Message> {
    let commands = proptest::sample::select(Command::ALL.to_vec());
    let parts = (option::of(service()), option::of(destination()), option::of(daemon()));
    let numbers = (option::of(any::<u32>()), option::of(any::<u32>()), option::of(any::<u32>()));
    (commands, parts, numbers).prop_map(|(command, (service, destination, daemon), numbers)| {
        let mut message = Message::new(command);
        if command == Command::SetInfo {
            (message.info.version, message.info.connection_table_size) = (numbers.0, numbers.1);
            return message;
        }
        (message.service, message.destination, message.daemon) = (service, destination, daemon);
        let timeouts = &mut message.timeouts;
        (timeouts.tcp, timeouts.tcp_fin, timeouts.udp) = numbers;
        message
    })
}

fn service() -> impl Strategy<Value = ServiceAttributes> {
    let key = (option::of(any::<u16>()), option::of(any::<[u8; 16]>()), option::of(any::<u16>()));
    let names = (option::of("[a-z0-9]{1,15}"), option::of("[a-z0-9]{1,16}"));
    let rest =
        (option::of(any::<u32>()), option::of(any::<(u32, u32)>()), option::of(any::<u32>()));
    let stats = (option::of(stats(u32::MAX.into())), option::of(stats(u64::MAX)));
    let family = prop_oneof![Just((2, None)), Just((10, None)), any_mask()];
    (family, key, names, rest, stats).prop_map(|((family, mask), key, names, rest, stats)| {
        let mut service = ServiceAttributes::default();
        service.family = Some(family);
        service.netmask = mask;
        (service.protocol, service.address, service.port) = key;
        service.scheduler = names.0.map(|name| name.parse().unwrap());
        service.engine = names.1.map(|name| name.parse().unwrap());
        (service.mark, service.flags, service.timeout) = rest;
        (service.stats, service.stats64) = stats;
        service
    })
}

/// A family with a mask of its kind.
fn any_mask() -> impl Strategy<Value = (u16, Option<Netmask>)> {
    prop_oneof![
        any::<u32>().prop_map(|bits| (2, Some(Netmask::V4(bits.into())))),
        any::<u8>().prop_map(|length| (10, Some(Netmask::V6(length)))),
    ]
}

fn destination() -> impl Strategy<Value = DestinationAttributes> {
    let number = || option::of(any::<u32>());
    let key = (option::of(any::<[u8; 16]>()), option::of(any::<u16>()), option::of(any::<u16>()));
    let numbers = (number(), number(), number(), number(), number(), number(), number());
    let tunnel = (option::of(any::<u8>()), option::of(any::<u16>()), option::of(any::<u16>()));
    let stats = (option::of(stats(u32::MAX.into())), option::of(stats(u64::MAX)));
    (key, numbers, tunnel, stats).prop_map(|(key, numbers, tunnel, stats)| {
        let mut to = DestinationAttributes::default();
        (to.address, to.port, to.family) = key;
        (to.forwarding, to.weight, to.upper_threshold, to.lower_threshold, ..) = numbers;
        (.., to.active_connections, to.inactive_connections, to.persistent_connections) = numbers;
        (to.tunnel_type, to.tunnel_port, to.tunnel_flags) = tunnel;
        (to.stats, to.stats64) = stats;
        to
    })
}

fn daemon() -> impl Strategy<Value = DaemonAttributes> {
    let numbers = (option::of(any::<u32>()), option::of(any::<u32>()), option::of(any::<u16>()));
    let groups = (option::of(any::<u32>()), option::of(any::<u128>()));
    let rest = (option::of("[a-z0-9]{1,15}"), option::of(any::<u16>()), option::of(any::<u8>()));
    (numbers, groups, rest).prop_map(|(numbers, groups, (interface, port, ttl))| {
        let mut daemon = DaemonAttributes::default();
        (daemon.state, daemon.sync_id, daemon.max_length) = numbers;
        daemon.group = groups.0.map(Into::into);
        daemon.group6 = groups.1.map(Into::into);
        daemon.interface = interface.map(|name| name.parse().unwrap());
        (daemon.port, daemon.ttl) = (port, ttl);
        daemon
    })
}

/// Statistics whose packets and rates are at most `most`; bytes always have 64 bits.
fn stats(most: u64) -> impl Strategy<Value = Stats> {
    (vec(0..=most, 8), any::<(u64, u64)>()).prop_map(|(counts, bytes)| {
        let mut stats = Stats::default();
        stats.connections = counts[0];
        stats.incoming_packets = counts[1];
        stats.outgoing_packets = counts[2];
        (stats.incoming_bytes, stats.outgoing_bytes) = bytes;
        stats.rates.connections = counts[3];
        stats.rates.incoming_packets = counts[4];
        stats.rates.outgoing_packets = counts[5];
        stats.rates.incoming_bytes = counts[6];
        stats.rates.outgoing_bytes = counts[7];
        stats
    })
}
