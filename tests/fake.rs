//! The fake kernel as a client sees it: its table, its connections and its host.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Fault, Host, Kernel, NotScheduled, Series};
use ipvs_netlink::transport::Transport;
use ipvs_netlink::*;

fn backend(last: u8) -> Destination {
    Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 8080)
}

#[test]
fn several_clients_share_one_table() {
    let kernel = Kernel::new();
    let mut one = kernel.connect().unwrap();
    let mut other = kernel.connect().unwrap();
    let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80);
    one.add_service(&web).unwrap();
    for last in 1..=3 {
        one.add_destination(web.key, &backend(last)).unwrap();
    }
    assert!(other.add_service(&web).unwrap_err().is_already_exists());
    let listed: Vec<_> =
        other.destinations(web.key).unwrap().into_iter().map(|d| d.destination).collect();
    assert_eq!(listed, [backend(3), backend(2), backend(1)], "newest first");
    let info = other.info().unwrap();
    assert_eq!((info.version.to_string().as_str(), info.connection_table_size), ("1.2.1", 4096));
    other.flush().unwrap();
    assert!(one.services().unwrap().is_empty());
    let v6 = Service::udp(Ipv6Addr::LOCALHOST, 53);
    one.add_service(&v6).unwrap();
    assert_eq!(other.service(v6.key).unwrap().service, v6);
}

/// Opens `count` connections and returns the last bytes of the chosen destinations' addresses.
fn chosen(kernel: &Kernel, service: ServiceKey, count: usize) -> Vec<u8> {
    (0..count)
        .map(|_| match kernel.open(service).unwrap().destination.address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => unreachable!(),
        })
        .collect()
}

/// A service of this scheduler with a destination for each weight. The last one added comes first
/// in the kernel's order.
fn scheduled(name: &str, weights: &[u32]) -> (Kernel, Client, ServiceKey) {
    let kernel = Kernel::new();
    let mut ipvs = kernel.connect().unwrap();
    let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(name.parse().unwrap());
    ipvs.add_service(&web).unwrap();
    for (last, weight) in (1..).zip(weights) {
        ipvs.add_destination(web.key, &backend(last).weight(*weight)).unwrap();
    }
    (kernel, ipvs, web.key)
}

#[test]
fn schedulers_choose_by_their_rules() {
    for (name, weights, expected) in [
        ("rr", &[1, 5, 1][..], &[3, 2, 1, 3, 2, 1, 3][..]),
        ("rr", &[1, 0, 1], &[3, 1, 3, 1]),
        ("wrr", &[1, 2, 4], &[3, 3, 3, 2, 3, 2, 1, 3, 3, 3, 2, 3, 2, 1]),
        ("wrr", &[2, 4], &[2, 2, 1, 2, 2, 1]),
        ("lc", &[1, 9, 1], &[3, 2, 1, 3]),
        ("wlc", &[1, 2], &[2, 1, 2, 2, 1, 2]),
        ("sed", &[1, 3], &[2, 2, 2, 1]),
        ("nq", &[1, 3], &[2, 1, 2, 2]),
        ("fo", &[1, 3, 2], &[2, 2, 2, 2]),
    ] {
        let (kernel, _, key) = scheduled(name, weights);
        let chosen = chosen(&kernel, key, expected.len());
        assert_eq!(chosen, expected, "{name} with weights {weights:?}");
    }
    let (kernel, _, key) = scheduled("lblc", &[1]);
    assert_eq!(kernel.open(key), Err(NotScheduled::NotModelled));
    let (kernel, _, key) = scheduled("wlc", &[0]);
    assert_eq!(kernel.open(key), Err(NotScheduled::NoDestination));
}

/// Once: after clients that no destination took, `wrr` went on from where it had been before them.
/// The expected choices are those of Linux 7.3.4.
#[test]
fn wrr_goes_on_from_where_it_looked_for_nothing() {
    let (kernel, mut ipvs, key) = scheduled("wrr", &[]);
    let open = |expected: &[u8]| assert_eq!(chosen(&kernel, key, expected.len()), expected);
    let shaped = |last, weight, upper| backend(last).weight(weight).thresholds(upper, 0);
    ipvs.add_destination(key, &shaped(4, 1, 0)).unwrap();
    open(&[4, 4]);
    ipvs.add_destination(key, &shaped(3, 1, 3)).unwrap();
    open(&[3, 4, 3, 4, 3, 4]);
    ipvs.add_destination(key, &shaped(2, 100, 2)).unwrap();
    open(&[2]);
    ipvs.update_destination(key, &shaped(3, 2, 0)).unwrap();
    open(&[2, 3]);
    ipvs.update_destination(key, &shaped(3, 0, 3)).unwrap();
    open(&[4, 4]);
    ipvs.update_destination(key, &shaped(4, 6, 3)).unwrap();
    for _ in 0..2 {
        assert_eq!(kernel.open(key), Err(NotScheduled::NoDestination));
    }
    ipvs.update_destination(key, &shaped(3, 6, 0)).unwrap();
    open(&[3, 3]);
    ipvs.update_destination(key, &shaped(2, 4, 0)).unwrap();
    open(&[2]);
}

/// How many of `count` connections are refused, followed by how many each destination gets.
fn spread<const N: usize>(kernel: &Kernel, service: ServiceKey, count: usize) -> [usize; N] {
    let mut spread = [0; N];
    for _ in 0..count {
        let index = match kernel.open(service) {
            Ok(connection) => match connection.destination.address {
                IpAddr::V4(address) => usize::from(address.octets()[3]),
                IpAddr::V6(_) => unreachable!(),
            },
            Err(refused) => {
                assert_eq!(refused, NotScheduled::NoDestination);
                0
            }
        };
        spread[index] += 1;
    }
    spread
}

/// With three destinations of weight 1, real kernels refuse 65 of 200 clients once one weight is
/// set to 0.
#[test]
fn a_share_of_clients_is_refused_by_hash_where_a_weight_is_0() {
    // As many clients as the table of `sh` has places. The newest destination gets the first
    // places.
    for (name, weights, expected) in [
        ("sh", [1, 1, 1], [0, 85, 85, 86]),
        // A weight of 0 counts as 1.
        ("sh", [1, 0, 1], [85, 85, 0, 86]),
        ("sh", [3, 0, 4], [32, 96, 0, 128]),
        ("sh", [500, 500, 192], [0, 0, 64, 192]),
        ("sh", [0, 0, 0], [256, 0, 0, 0]),
        ("mh", [1, 3, 4], [0, 32, 96, 128]),
        ("mh", [100, 300, 400], [0, 32, 96, 128]),
        // A destination that never had a weight above 0 has no share.
        ("mh", [1, 0, 1], [0, 128, 0, 128]),
        ("mh", [0, 0, 0], [256, 0, 0, 0]),
    ] {
        let (kernel, _, key) = scheduled(name, &weights);
        assert_eq!(spread(&kernel, key, 256), expected, "{name} with weights {weights:?}");
    }
    for (name, expected) in [("sh", [32, 96, 0, 128]), ("mh", [96, 96, 0, 64])] {
        let (kernel, mut ipvs, key) = scheduled(name, &[3, 3, if name == "sh" { 4 } else { 2 }]);
        ipvs.update_destination(key, &backend(2).weight(0)).unwrap();
        assert_eq!(spread(&kernel, key, 256), expected, "{name}");
    }
    // Under `mh`, a destination that is removed and added again with weight 0 has no share.
    let (kernel, mut ipvs, key) = scheduled("mh", &[1, 1, 1]);
    ipvs.remove_destination(key, backend(2).key).unwrap();
    ipvs.add_destination(key, &backend(2).weight(0)).unwrap();
    assert_eq!(spread(&kernel, key, 30), [0, 15, 0, 15]);
}

#[test]
fn fallback_finds_another_destination_at_once() {
    for scheduler in [Scheduler::SOURCE_HASH, Scheduler::MAGLEV_HASH] {
        let (kernel, mut ipvs, key) = scheduled(scheduler.name(), &[1, 1, 1]);
        ipvs.update_destination(key, &backend(2).weight(0)).unwrap();
        assert_eq!(spread(&kernel, key, 30), [10, 10, 0, 10], "{scheduler}");
        let falls_back = scheduler.with_hash_options(HashOptions::default().fallback(true));
        ipvs.modify_service(key, |service| service.scheduler = falls_back).unwrap();
        assert_eq!(spread(&kernel, key, 30), [0, 20, 0, 10], "{scheduler}");
        ipvs.modify_service(key, |service| service.scheduler = scheduler).unwrap();
        assert_eq!(spread(&kernel, key, 30), [10, 10, 0, 10], "{scheduler}");
    }
}

#[test]
fn an_overloaded_destination_refuses_its_share_by_hash() {
    for name in ["sh", "mh"] {
        let (kernel, mut ipvs, key) = scheduled(name, &[1, 1, 1]);
        ipvs.update_destination(key, &backend(2).thresholds(5, 0)).unwrap();
        assert_eq!(spread(&kernel, key, 30), [5, 10, 5, 10], "{name}");
    }
}

/// Real kernels refuse a third of the addresses if one of three destinations has weight 0.
#[test]
fn destination_hash_refuses_all_clients_of_an_address_or_none() {
    let kernel = Kernel::new();
    let mut ipvs = kernel.connect().unwrap();
    let mut add = |key| {
        ipvs.add_service(&Service::new(key).scheduler(Scheduler::DestinationHash)).unwrap();
        for (last, weight) in [(1, 1), (2, 0), (3, 9)] {
            ipvs.add_destination(key, &backend(last).weight(weight)).unwrap();
        }
    };
    let mut refused = 0;
    for last in 1..=60 {
        let key = ServiceKey::tcp(Ipv4Addr::new(10, 0, 0, last), 80);
        add(key);
        let spread: [usize; 4] = spread(&kernel, key, 10);
        assert!(spread.contains(&10), "{key}: {spread:?}");
        refused += spread[0] / 10;
    }
    assert_eq!(refused, 20);
    // Clients of a mark come to many addresses.
    let mark = ServiceKey::mark(7, Family::V4).unwrap();
    add(mark);
    assert_eq!(spread(&kernel, mark, 30), [10, 10, 0, 10]);
}

/// The kernel counts SCTP as inactive until its handshake is over.
#[test]
fn a_connection_made_inactive_ends_as_an_inactive_one() {
    let kernel = Kernel::new();
    let mut ipvs = kernel.connect().unwrap();
    let services = [Protocol::UDP, Protocol::SCTP]
        .map(|protocol| Service::address(protocol, [10, 0, 0, 1], 53));
    for (service, active) in services.iter().zip([0, 1]) {
        ipvs.add_service(service).unwrap();
        ipvs.add_destination(service.key, &backend(1)).unwrap();
        let connection = kernel.open(service.key).unwrap();
        let mut counts = || {
            let entry = ipvs.destination(service.key, backend(1).key).unwrap();
            (entry.active_connections, entry.inactive_connections)
        };
        assert_eq!(counts(), (active, 1 - active));
        kernel.set_connections(service.key, backend(1).key, 0, 1, 0);
        kernel.close(connection);
        assert_eq!(counts(), (0, 0));
    }
}

#[test]
fn a_removed_destination_hands_its_turn_on() {
    let (kernel, mut ipvs, key) = scheduled("rr", &[1, 1, 1]);
    assert_eq!(chosen(&kernel, key, 2), [3, 2]);
    ipvs.remove_destination(key, backend(2).key).unwrap();
    assert_eq!(chosen(&kernel, key, 3), [1, 3, 1]);
}

#[test]
fn an_overloaded_destination_gets_no_connections_until_it_is_relieved() {
    let (kernel, mut ipvs, key) = scheduled("rr", &[1]);
    ipvs.update_destination(key, &backend(1).thresholds(4, 2)).unwrap();
    let connections: Vec<_> = (0..4).map(|_| kernel.open(key).unwrap()).collect();
    assert_eq!(kernel.open(key), Err(NotScheduled::NoDestination));
    for connection in &connections[..2] {
        kernel.close(*connection);
        assert_eq!(kernel.open(key), Err(NotScheduled::NoDestination));
    }
    kernel.close(connections[2]);
    kernel.open(key).unwrap();
}

/// A threshold is set that is lower than the number of connections.
#[test]
fn a_lower_threshold_shows_at_once_or_at_the_next_connection() {
    for (version, at_once) in [(Series::Linux5_10, false), (Series::Linux6_12, true)] {
        let (kernel, mut ipvs, key) = scheduled("rr", &[1]);
        kernel.configure(|host| *host = Host::of_series(version));
        for _ in 0..8 {
            kernel.open(key).unwrap();
        }
        ipvs.update_destination(key, &backend(1).thresholds(3, 0)).unwrap();
        assert_eq!(kernel.open(key).is_err(), at_once, "{version:?}");
        assert_eq!(kernel.open(key), Err(NotScheduled::NoDestination));
        ipvs.update_destination(key, &backend(1).thresholds(0, 0)).unwrap();
        kernel.open(key).unwrap();
    }
}

#[test]
fn a_destination_comes_back_from_the_trash_with_its_connections() {
    let (kernel, mut ipvs, key) = scheduled("rr", &[1]);
    let connection = kernel.open(key).unwrap();
    let removed = backend(1);
    ipvs.remove_destination(key, removed.key).unwrap();
    // The connection keeps the removed destination in the trash for any time, and the kernel does
    // not check its address again.
    kernel.advance(Duration::from_secs(3600));
    kernel.configure(|host| host.configured = false);
    ipvs.add_destination(key, &removed).unwrap();
    assert_eq!(ipvs.destination(key, removed.key).unwrap().active_connections, 1);

    ipvs.remove_destination(key, removed.key).unwrap();
    kernel.close(connection);
    kernel.advance(Duration::from_secs(119));
    ipvs.add_destination(key, &removed).unwrap();
    ipvs.remove_destination(key, removed.key).unwrap();
    kernel.advance(Duration::from_secs(240));
    let error = ipvs.add_destination(key, &removed).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL), "{error}");
}

/// The clock advances by any time in one step, whatever the trash holds, and stops at its end.
#[test]
fn the_trash_takes_an_age_as_it_takes_an_hour() {
    for age in [Duration::from_secs(1 << 33), Duration::from_secs(1 << 62), Duration::MAX] {
        let (kernel, mut ipvs, key) = scheduled("rr", &[1, 1]);
        let connection = kernel.open(key).unwrap();
        let (kept, idle) = (backend(1), backend(2));
        let busy = ipvs.destination(key, kept.key).unwrap().active_connections;
        let (kept, idle) = if busy == 1 { (kept, idle) } else { (idle, kept) };
        ipvs.remove_destination(key, kept.key).unwrap();
        ipvs.remove_destination(key, idle.key).unwrap();
        kernel.advance(age);
        kernel.advance(age);
        kernel.advance(age);
        // The kernel does not check the address of a destination that comes back from the trash.
        kernel.configure(|host| host.configured = false);
        ipvs.add_destination(key, &kept).unwrap();
        assert_eq!(ipvs.destination(key, kept.key).unwrap().active_connections, 1);
        assert_eq!(
            ipvs.add_destination(key, &idle).unwrap_err().errno(),
            Some(Errno::INVAL),
            "{age:?}"
        );
        kernel.close(connection);
    }
}

/// The kernel looks for removed destinations without regard to the family of marks, and by as many
/// bytes of an address as the asking service's family has.
#[test]
fn a_destination_comes_back_under_a_relative_of_its_service() {
    let mark = |family| Service::mark(7, family).unwrap();
    let tcp = |address: IpAddr| Service::tcp(address, 80);
    let v4 = tcp(Ipv4Addr::new(10, 0, 0, 1).into());
    let v6 = |last| tcp(Ipv6Addr::new(0x0a00, 1, 0, 0, 0, 0, 0, last).into());
    for (from, to, comes_back) in [
        (mark(Family::V4), mark(Family::V6), true),
        (mark(Family::V6), mark(Family::V4), true),
        (v4, v6(0), true),
        (v4, v6(7), false),
        (v6(7), v4, true),
        (v6(7), v6(0), false),
        (mark(Family::V4), v4, false),
    ] {
        let kernel = Kernel::new();
        let mut ipvs = kernel.connect().unwrap();
        let destination = Destination::tunnel(Ipv4Addr::new(10, 0, 1, 1), 80, Tunnel::Ipip);
        ipvs.add_service(&from).unwrap();
        ipvs.add_service(&to).unwrap();
        ipvs.add_destination(from.key, &destination).unwrap();
        kernel.set_connections(from.key, destination.key, 3, 0, 0);
        ipvs.remove_destination(from.key, destination.key).unwrap();
        kernel.configure(|host| host.broadcast.push(Ipv4Addr::new(10, 0, 1, 1)));
        let added = ipvs.add_destination(to.key, &destination).map_err(|error| error.errno());
        assert_eq!(
            added,
            if comes_back { Ok(()) } else { Err(Some(Errno::INVAL)) },
            "{from:?} {to:?}"
        );
        if comes_back {
            let entry = ipvs.destination(to.key, destination.key).unwrap();
            assert_eq!(entry.active_connections, 3);
        }
    }
}

/// The kernel remembers for each role whether it has listed the daemon.
#[test]
fn a_master_started_while_the_backup_is_listed_is_listed_too() {
    let kernel = Kernel::new();
    let mut ipvs = kernel.connect().unwrap();
    let daemon = |role| SyncDaemon::new(role, "eth0".parse().unwrap());
    ipvs.start_daemon(&daemon(DaemonRole::Backup)).unwrap();
    kernel.inject(
        2,
        Fault::meanwhile(move |kernel| {
            let mut other = Client::connect_with(kernel.observer()).unwrap();
            other.start_daemon(&daemon(DaemonRole::Master)).unwrap();
        }),
    );
    let roles: Vec<_> = ipvs.daemons().unwrap().into_iter().map(|daemon| daemon.role).collect();
    assert_eq!(roles, [DaemonRole::Backup, DaemonRole::Master]);
}

/// A group of IPv6 needs a route for multicast and an address to send from.
#[test]
fn a_master_of_an_ipv6_group_needs_an_address_and_a_route() {
    const EADDRNOTAVAIL: Option<Errno> = Some(Errno::ADDRNOTAVAIL);
    const ENETUNREACH: Option<Errno> = Some(Errno::NETUNREACH);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x81);
    let started = |name: &str, change: fn(&mut Host)| {
        let kernel = Kernel::new();
        kernel.configure(change);
        let mut ipvs = kernel.connect().unwrap();
        let master = SyncDaemon::new(DaemonRole::Master, name.parse().unwrap()).group(group);
        ipvs.start_daemon(&master).map_err(|error| error.errno())
    };
    assert_eq!(started("eth0", |_| {}), Ok(()));
    assert_eq!(started("eth0", |host| host.interfaces[1].has_address = false), Err(EADDRNOTAVAIL));
    assert_eq!(started("eth0", |host| host.interfaces[1].ipv6 = false), Err(ENETUNREACH));
    assert_eq!(started("eth0", |host| host.interfaces[1].mtu = 1279), Err(ENETUNREACH));
    assert_eq!(started("eth0", |host| host.interfaces[1].up = false), Err(ENETUNREACH));
    assert_eq!(started("lo", |_| {}), Err(ENETUNREACH));
    // As in a fresh network namespace.
    assert_eq!(started("lo", |host| host.local.clear()), Err(EADDRNOTAVAIL));
}

#[test]
fn connections_are_counted_at_the_next_tick() {
    let (kernel, mut ipvs, key) = scheduled("rr", &[1]);
    let mut counted = || {
        let entry = ipvs.destination(key, backend(1).key).unwrap();
        assert_eq!(ipvs.service(key).unwrap().stats, entry.stats);
        entry.stats.connections
    };
    kernel.open(key).unwrap();
    kernel.advance(Duration::from_millis(1999));
    assert_eq!(counted(), 0);
    kernel.advance(Duration::from_millis(1));
    assert_eq!(counted(), 1);
    kernel.open(key).unwrap();
    kernel.advance(Duration::from_millis(5999));
    assert_eq!(counted(), 2);
    kernel.configure(|host| host.counter_tick = Duration::ZERO);
    kernel.open(key).unwrap();
    assert_eq!(counted(), 3);
}

/// Connections that the counters did not show yet are not lost.
#[test]
fn zeroing_leaves_what_was_counted_since_the_tick() {
    let (kernel, mut ipvs, key) = scheduled("rr", &[1]);
    kernel.open(key).unwrap();
    kernel.advance(Duration::from_secs(2));
    kernel.open(key).unwrap();
    ipvs.zero().unwrap();
    assert_eq!(ipvs.service(key).unwrap().stats, Stats::default());
    kernel.advance(Duration::from_secs(2));
    assert_eq!(ipvs.service(key).unwrap().stats.connections, 1);
}

/// Each fact can be set alone, so that a kernel is like no release.
#[test]
fn what_differs_between_kernels_is_set_one_by_one() {
    let kernel = Kernel::new();
    let mut ipvs = kernel.connect().unwrap();
    let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80);
    ipvs.add_service(&web).unwrap();
    let many = backend(1).thresholds(u32::MAX, 0);
    assert_eq!(ipvs.add_destination(web.key, &many).unwrap_err().errno(), Some(Errno::INVAL));
    kernel.configure(|host| host.largest_threshold = u32::MAX);
    ipvs.add_destination(web.key, &many).unwrap();
}

/// Linux 7.1 and later resize the table. The expected sizes are those of 7.3.4 for these numbers of
/// connections.
#[test]
fn the_connection_table_grows_and_shrinks() {
    let kernel = Kernel::of_series(Series::Linux7_3);
    let mut ipvs = kernel.connect().unwrap();
    let size = |ipvs: &mut Client| ipvs.info().unwrap().connection_table_size;
    assert_eq!(size(&mut ipvs), 0);
    let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80);
    ipvs.add_service(&web).unwrap();
    assert_eq!(size(&mut ipvs), 256);
    ipvs.add_destination(web.key, &backend(1)).unwrap();
    for (connections, buckets) in [
        (16, 256),
        (17, 512),
        (32, 512),
        (33, 1024),
        (65, 2048),
        (129, 4096),
        (20_000, 4096),
        (129, 4096),
        (11, 512),
        (0, 256),
    ] {
        assert!(kernel.set_connections(web.key, backend(1).key, 0, connections, 0));
        assert_eq!(size(&mut ipvs), buckets, "{connections} connections");
    }
    ipvs.flush().unwrap();
    assert_eq!(size(&mut ipvs), 256);
}

#[test]
fn a_host_is_like_a_release() {
    let old = Host::of_release(&"6.1.0-48-cloud-amd64".parse().unwrap());
    assert_eq!(old.largest_threshold, u32::MAX);
    assert!(!old.schedulers.iter().any(|name| name == "twos"));
    assert_eq!(Host::of_release(&Series::Linux6_12.release()), Host::default());
}

#[test]
fn counters_are_what_a_test_says() {
    let (kernel, mut ipvs, key) = scheduled("rr", &[1]);
    let mut stats = Stats::default();
    (stats.incoming_bytes, stats.rates.connections) = (1 << 40, u64::from(u32::MAX) + 1);
    assert!(kernel.set_service_stats(key, stats));
    assert!(kernel.set_destination_stats(key, backend(1).key, stats));
    assert!(kernel.set_connections(key, backend(1).key, 1, 70_000, 3));
    assert!(!kernel.set_connections(key, backend(9).key, 1, 1, 1));
    assert_eq!(ipvs.service(key).unwrap().stats, stats);
    let entry = ipvs.destination(key, backend(1).key).unwrap();
    let counts =
        (entry.active_connections, entry.inactive_connections, entry.persistent_connections);
    assert_eq!((entry.stats, counts), (stats, (1, 70_000, 3)));
    ipvs.zero().unwrap();
    assert_eq!(ipvs.service(key).unwrap().stats, Stats::default());
}

#[test]
fn a_host_can_lack_things() {
    let kernel = Kernel::new();
    let mut ipvs = kernel.connect().unwrap();
    let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::MAGLEV_HASH);
    kernel.configure(|host| host.schedulers.retain(|name| name != "mh"));
    assert!(ipvs.add_service(&web).unwrap_err().is_module_not_found());
    kernel.configure(|host| host.privileged = false);
    assert!(ipvs.services().unwrap_err().is_permission_denied());
    kernel.configure(|host| host.family = None);
    assert!(kernel.connect().err().unwrap().is_ipvs_not_found());
    // The module is loaded again while a client is connected, and the family has another number.
    kernel.configure(|host| host.privileged = true);
    kernel.reload(0x2a);
    assert!(ipvs.services().unwrap().is_empty());
}

/// The request is a dump for a command that lists nothing.
#[test]
fn without_privilege_older_kernels_say_so_first() {
    for (version, wanted) in [
        (Series::Linux5_10, 1),
        (Series::Linux6_1, 1),
        (Series::Linux6_12, 95),
        (Series::Linux7_3, 95),
    ] {
        let kernel = Kernel::of_series(version);
        let mut link = kernel.link();
        kernel.configure(|host| host.privileged = false);
        let mut message = [0; 20];
        message[..4].copy_from_slice(&20_u32.to_ne_bytes());
        message[4..6].copy_from_slice(&0x1c_u16.to_ne_bytes());
        message[6..8].copy_from_slice(&0x305_u16.to_ne_bytes());
        message[16] = 1;
        link.send(&message).unwrap();
        let mut answer = Vec::with_capacity(4096);
        let now = Transport::now(&link);
        link.receive(&mut answer, now).unwrap();
        let errno = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
        assert_eq!(-errno, wanted, "{version:?}");
    }
}

#[test]
fn waiting_moves_the_clock_and_not_the_test() {
    let kernel = Kernel::new();
    // A client that waited in earnest would not come back today.
    let day = Duration::from_secs(86_400);
    let mut ipvs = Options::new().timeout(day).connect_with(kernel.link()).unwrap();
    let before = kernel.now();
    kernel.after(Duration::from_secs(5), |kernel| {
        let mut other = kernel.connect().unwrap();
        other.add_service(&Service::mark(7, Family::V4).unwrap()).unwrap();
    });
    kernel.inject(2, Fault::Delay(2 * day));
    assert!(ipvs.info().unwrap_err().is_timed_out());
    assert!(kernel.now() - before >= day);
    let mut other = kernel.connect().unwrap();
    assert_eq!(other.services().unwrap().len(), 1);
}

/// No reactor is needed: the fake kernel has answered before anybody waits.
#[test]
fn the_asynchronous_client_runs_on_any_executor() {
    let kernel = Kernel::new();
    smol::block_on(async {
        let ipvs = kernel.connect_async().await.unwrap();
        let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80);
        let add = [1, 2, 3].map(|last| Operation::AddDestination(web.key, backend(last)));
        let all = [Operation::AddService(web)].into_iter().chain(add);
        assert!(ipvs.batch(all).await.unwrap().iter().all(Result::is_ok));
        assert_eq!(ipvs.destinations(web.key).await.unwrap().len(), 3);
    });
}

/// A fault may have any error number.
#[test]
fn no_number_of_a_test_panics() {
    let forever = std::time::Duration::MAX;
    let kernel = Kernel::new();
    kernel.after(forever, |_| {});
    let mut client = kernel.connect().unwrap();
    for errno in [0, -1, 4096, 65_537, i32::MIN, i32::MAX] {
        kernel.inject(1, Fault::Refuse(errno));
        assert!(client.flush().is_err(), "{errno}");
    }
    kernel.inject(u64::MAX, Fault::Close);
    kernel.inject(2, Fault::Delay(forever));
    assert!(client.info().unwrap_err().is_timed_out());
    kernel.configure(|host| host.acknowledgement_size = usize::MAX);
    drop(kernel.connect());
    kernel.configure(|host| host.acknowledgement_size = 896);
    let mut other = kernel.connect().unwrap();
    let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin);
    let backend = Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 80);
    other.add_service(&web).unwrap();
    other.add_destination(web.key, &backend).unwrap();
    kernel.set_connections(web.key, backend.key, u32::MAX, 0, 0);
    let mut stats = Stats::default();
    stats.connections = u64::MAX;
    kernel.set_service_stats(web.key, stats);
    kernel.open(web.key).unwrap();
    kernel.advance(forever);
}
