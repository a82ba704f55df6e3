//! The API as users guess it. Each of these guesses once did not compile, or failed.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Debug;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipvs_netlink::fake::Kernel;
use ipvs_netlink::proc::ConnectionState;
use ipvs_netlink::wire::Command;
use ipvs_netlink::*;

fn web() -> Service {
    Service::tcp([10, 0, 0, 1], 80)
}

fn backend() -> Destination {
    Destination::masquerade([10, 0, 1, 1], 8080)
}

#[test]
fn a_service_and_a_destination_stand_for_their_keys() {
    let kernel = Kernel::new();
    let mut ipvs = kernel.connect().unwrap();
    let (web, backend) = (web(), backend());
    ipvs.add_service(&web).unwrap();
    ipvs.add_destination(&web, &backend).unwrap();
    kernel.open(&web).unwrap();
    assert_eq!(ipvs.destination(&web, &backend).unwrap().active_connections, 1);
    ipvs.remove_destination(web.key, backend.key).unwrap();
    ipvs.remove_service(&web).unwrap();
    let mut rules = Ruleset::new();
    rules.insert_service(web).unwrap();
    rules.insert_destination(&web, backend).unwrap();
    assert!(rules.remove_destination(&web, &backend).is_some());
    assert!(rules.remove_service(&web).is_some());
}

#[test]
fn a_service_comes_of_what_people_have() {
    let address: SocketAddr = "10.0.0.1:80".parse().unwrap();
    assert_eq!(Service::at(Protocol::TCP, address), web());
    assert_eq!(Service::new("tcp 10.0.0.1:80".parse().unwrap()), web());
    assert_eq!(Destination::new(address, Forwarding::Masquerade).key.port, 80);
    let marked = Service::mark(7, Family::V4).unwrap();
    assert_eq!(marked.key, ServiceKey::from((NonZeroU32::new(7).unwrap(), Family::V4)));
    assert!(Service::mark(0, Family::V4).unwrap_err().to_string().contains("1 to 4294967295"));
    assert!(Tunnel::gue(0).unwrap_err().to_string().contains("1 to 65535"));
}

#[test]
fn a_key_tells_its_parts() {
    let (web, mark) = (web().key, ServiceKey::mark(7, Family::V6).unwrap());
    assert_eq!((web.protocol(), web.firewall_mark()), (Some(Protocol::TCP), None));
    assert_eq!(web.socket_address(), Some(([10, 0, 0, 1], 80).into()));
    assert_eq!((mark.protocol(), mark.socket_address()), (None, None));
    assert_eq!(mark.firewall_mark(), NonZeroU32::new(7));
    assert_eq!(Protocol::from_number(47).number(), 47);
    assert_eq!(Version::new(1, 2, 1).number(), 0x0001_0201);
}

#[test]
fn a_checksum_is_that_of_a_tunnel_which_has_one() {
    let full = |tunnel: Tunnel| tunnel.checksum(TunnelChecksum::Full).to_string();
    assert_eq!(full(Tunnel::gue(6080).unwrap()), "gue port 6080 checksum full");
    assert_eq!(full(Tunnel::gre()), "gre checksum full");
    assert_eq!(full(Tunnel::Ipip), "ipip");
}

#[test]
fn a_ruleset_is_collected_and_what_is_wrong_in_it_is_told() {
    let rules = |weight| -> Result<Ruleset, Invalid> {
        [80, 443]
            .map(|port| {
                ServiceRules::new(Service::tcp([10, 0, 0, 1], port), [backend().weight(weight)])
            })
            .into_iter()
            .collect()
    };
    assert_eq!(rules(1).unwrap().destination_count(), 2);
    assert!(rules(u32::MAX).is_err());
    assert!(ServiceRules::new(web().one_packet(true), []).is_err());
    let mut all = rules(1).unwrap();
    all.extend([ServiceRules::new(web(), []).unwrap()]);
    assert_eq!((all.services().len(), all.destination_count()), (2, 1));
}

#[test]
fn options_hold_for_a_fake_kernel() {
    let kernel = Kernel::new();
    let options = Options::new().timeout(Duration::from_secs(2)).window(1);
    let mut ipvs = options.connect_with(kernel.link()).unwrap();
    let before = kernel.steps();
    ipvs.batch([Operation::Zero; 3]).unwrap().into_result().unwrap();
    assert_eq!(kernel.steps() - before, 6, "each in a window of its own");
    let ipvs = smol::block_on(options.connect_async_with(kernel.link())).unwrap();
    assert!(smol::block_on(ipvs.services()).unwrap().is_empty());
    let ipvs = smol::block_on(kernel.connect_async()).unwrap();
    assert!(smol::block_on(ipvs.services()).unwrap().is_empty());
    assert!(kernel.diagnose(&Ruleset::new()).is_able());
    assert_eq!(kernel.proc().connections().unwrap().count(), 0);
}

#[test]
fn what_is_read_can_be_made_for_a_test() {
    let stats = Stats::default().connections(5).rates(Rates::default().incoming_bytes(9));
    let service = ServiceEntry::new(web()).stats(stats);
    let destination = DestinationEntry::new(backend())
        .active_connections(1)
        .inactive_connections(2)
        .persistent_connections(3)
        .stats(stats);
    let table: Table = [TableService::new(service, vec![destination])].into_iter().collect();
    assert_eq!(Ruleset::from(&table).destination_count(), 1);
    assert_eq!(table.services[0].entry.stats.rates.incoming_bytes, 9);
    assert_eq!(Info::new(Version::new(1, 2, 1), 4096).connection_table_size, 4096);

    // A new kernel has the default timeouts.
    let timeouts = Kernel::new().connect().unwrap().timeouts().unwrap();
    assert_eq!(timeouts, Timeouts::default());
    let minute = Duration::from_secs(60);
    let mut ipvs = Kernel::new().connect().unwrap();
    ipvs.set_timeouts(Timeouts::default().udp(minute)).unwrap();
    assert_eq!(ipvs.timeouts().unwrap(), Timeouts::default().udp(minute));
}

/// A loop has what `iter` has, of all that holds several.
#[test]
fn what_holds_several_is_looped_over() {
    let rules: Ruleset = [80, 443]
        .map(|port| ServiceRules::new(Service::tcp([10, 0, 0, 1], port), [backend()]).unwrap())
        .into_iter()
        .collect();
    let mut ports = Vec::new();
    for service in &rules {
        ports.push(service.key().socket_address().unwrap().port());
    }
    assert_eq!(ports, [80, 443]);
    assert_eq!(
        (rules.iter().len(), rules.iter().next_back().unwrap().destinations().len()),
        (2, 1)
    );

    let service = || TableService::new(ServiceEntry::new(web()), Vec::new());
    let mut table: Table = [service()].into_iter().collect();
    table.extend([service()]);
    for service in &table {
        assert_eq!(service.entry.service, web());
    }
    assert_eq!((table.iter().len(), table.into_iter().count()), (2, 2));

    let changes = ipvs_netlink::proc::SysctlChanges::default();
    assert_eq!((&changes).into_iter().count(), changes.iter().count());
}

#[test]
fn a_name_is_compared_with_text() {
    let daemon = SyncDaemon::new(DaemonRole::Master, "eth0".parse().unwrap());
    assert_eq!(daemon.interface, "eth0");
    assert!(daemon.interface != *"eth1");
}

#[test]
fn an_error_has_a_kind_to_match_on() {
    let mut ipvs = Kernel::new().connect().unwrap();
    let kinds = [
        ipvs.remove_service(&web()).unwrap_err().kind(),
        ipvs.stop_daemon(DaemonRole::Master).unwrap_err().kind(),
        ipvs.add_service(&web().one_packet(true)).unwrap_err().kind(),
        ipvs.add_service(&web().scheduler("nope".parse().unwrap())).unwrap_err().kind(),
    ];
    let wanted = [
        ErrorKind::ServiceNotFound,
        ErrorKind::DaemonNotFound,
        ErrorKind::Invalid,
        ErrorKind::ModuleNotFound,
    ];
    assert_eq!(kinds, wanted);
}

/// A struct with a client can derive `Debug`, and lists can grow.
#[test]
fn clients_are_debug_and_lists_are_slices() {
    fn debug<T: Debug>() {}
    fn slice<T>(list: &'static [T]) -> usize {
        list.len()
    }
    debug::<blocking::Client>();
    debug::<Client>();
    debug::<Syncer>();
    let text = format!("{:?}", Kernel::new().connect().unwrap());
    assert!(text.contains("timeout: 10s"), "{text}");
    assert!(slice(Scheduler::KNOWN) > 0 && slice(Command::ALL) > 0);
    assert!(slice(ConnectionState::KNOWN) > 0);
}

/// A setter of a `bool` takes the value.
#[test]
fn a_setting_is_handed_on() {
    for is_set in [false, true] {
        assert_eq!(Policy::new().detailed(is_set).verify(is_set).detailed, is_set);
        assert_eq!(BatchOptions::default().stop_at_first_error(is_set).stop_at_first_error, is_set);
        let draining = Draining::at_once().wait_for_inactive(is_set).drain_udp(is_set);
        assert_eq!(draining.drain_sctp(is_set).drain_sctp, is_set);
        assert_eq!(draining.wait_for_templates(is_set).wait_for_templates, is_set);
    }
}
