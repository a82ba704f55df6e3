//! The findings of a diagnosis hold for real traffic, and its advice, followed to the letter, lets
//! clients through and breaks nothing else.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream};

use anyhow::{Context as _, ensure};
use ipvs_netlink::diagnose::{Diagnosis, Problem};
use ipvs_netlink::{Destination, Family, Options, Ruleset, Scheduler, Service};
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Socket, Type};

use super::network::{CLIENT, DIRECTOR, Namespace, Site};
use super::stream::Connection;
use super::{Lane, Method, PATIENCE, SERVERS, wait_until};
use crate::case::{Outcome, cases};
use crate::client::Client;
use crate::subject::{Subject, program};

cases![
    each_interface_forwards_by_itself,
    a_destination_of_weight_0_under_dh_refuses_clients,
    a_virtual_address_that_is_nowhere_is_brought_here,
    routes_by_router_advertisement_outlive_forwarding,
];

const MASQUERADE: Lane = Lane { method: Method::Masquerade, family: Family::V4 };

/// A lane's service on the director, and the rules that have it.
async fn serve(director: &mut Client, lane: Lane, scheduler: Scheduler) -> anyhow::Result<Ruleset> {
    let service = lane.service(scheduler);
    let mut rules = Ruleset::new();
    rules.insert_service(service)?;
    director.add_service(&service).await?;
    for server in SERVERS {
        rules.insert_destination(service.key, lane.destination(server))?;
        director.add_destination(service.key, &lane.destination(server)).await?;
    }
    Ok(rules)
}

fn diagnose(namespace: Namespace, rules: &Ruleset) -> Diagnosis {
    Options::new().namespace(namespace.path()).diagnose(rules)
}

/// Finds a problem, follows its advice, and finds it no more.
fn mend(namespace: Namespace, rules: &Ruleset, problem: Problem) -> anyhow::Result<Vec<String>> {
    let diagnosis = diagnose(namespace, rules);
    let finding = diagnosis.finding(problem).with_context(|| diagnosis.to_string())?;
    ensure!(!finding.commands.is_empty(), "{finding}");
    for command in &finding.commands {
        program("ip", &["netns", "exec", namespace.0, "sh", "-c", command])?;
    }
    let diagnosis = diagnose(namespace, rules);
    ensure!(diagnosis.finding(problem).is_none(), "{diagnosis}");
    Ok(finding.commands.clone())
}

fn answers(lane: Lane) -> anyhow::Result<u8> {
    CLIENT.run(|| Ok(Connection::open(lane, 1)?.server))
}

/// Once: forwarding was judged by the setting of the whole namespace, which decides for no packet.
async fn each_interface_forwards_by_itself(subject: &mut Subject) -> Outcome {
    let site = Site::build()?;
    let mut director = site.director(subject.flavour).await?;
    let rules = serve(&mut director, MASQUERADE, Scheduler::RoundRobin).await?;
    let proc = Options::new().namespace(DIRECTOR.path()).proc()?;
    let problem = Problem::Forwarding(Family::V4);

    proc.set_sysctl_named("net.ipv4.conf.eth0.forwarding", "0")?;
    assert_eq!(proc.sysctl_named("net.ipv4.ip_forward")?, "1");
    let commands = mend(DIRECTOR, &rules, problem)?;
    assert_eq!(commands, ["sysctl -w net.ipv4.conf.eth0.forwarding=1"]);
    answers(MASQUERADE)?;

    proc.set_sysctl_named("net.ipv4.ip_forward", "0")?;
    let diagnosis = diagnose(DIRECTOR, &rules);
    ensure!(diagnosis.finding(problem).is_some(), "{diagnosis}");
    proc.set_sysctl_named("net.ipv4.conf.eth0.forwarding", "1")?;
    let diagnosis = diagnose(DIRECTOR, &rules);
    ensure!(diagnosis.finding(problem).is_none(), "{diagnosis}");
    answers(MASQUERADE)?;

    // IPv6 has an equivalent since Linux 6.17, under another name.
    let lane = Lane { family: Family::V6, ..MASQUERADE };
    let rules = serve(&mut director, lane, Scheduler::RoundRobin).await?;
    let problem = Problem::Forwarding(Family::V6);
    proc.set_sysctl_named("net.ipv6.conf.all.forwarding", "0")?;
    ensure!(diagnose(DIRECTOR, &rules).finding(problem).is_some());
    match proc.set_sysctl_named("net.ipv6.conf.eth0.force_forwarding", "1") {
        Ok(()) => ensure!(diagnose(DIRECTOR, &rules).finding(problem).is_none()),
        Err(error) if error.is_not_found() => drop(mend(DIRECTOR, &rules, problem)?),
        Err(error) => return Err(error.into()),
    }
    answers(lane)?;
    Ok(())
}

/// Once: this was found under sh and mh alone.
async fn a_destination_of_weight_0_under_dh_refuses_clients(subject: &mut Subject) -> Outcome {
    let site = Site::build()?;
    let mut director = site.director(subject.flavour).await?;
    let mut rules = serve(&mut director, MASQUERADE, Scheduler::DestinationHash).await?;
    let key = MASQUERADE.service(Scheduler::DestinationHash).key;
    assert_eq!(diagnose(DIRECTOR, &rules).finding(Problem::WeightZero), None);
    let chosen = MASQUERADE.destination(answers(MASQUERADE)?).weight(0);
    director.update_destination(key, &chosen).await?;
    rules.insert_destination(key, chosen)?;

    let to = SocketAddr::from((MASQUERADE.virtual_address(), 80));
    let refused = CLIENT.run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)))?;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));
    let diagnosis = diagnose(DIRECTOR, &rules);
    let finding = diagnosis.finding(Problem::WeightZero).with_context(|| diagnosis.to_string())?;
    assert!(finding.advice.starts_with("Remove the destination"), "{finding}");
    director.remove_destination(key, chosen.key).await?;
    answers(MASQUERADE)?;
    Ok(())
}

async fn a_virtual_address_that_is_nowhere_is_brought_here(subject: &mut Subject) -> Outcome {
    let site = Site::build()?;
    let mut director = site.director(subject.flavour).await?;
    for lane in Lane::ALL {
        let rules = serve(&mut director, lane, Scheduler::RoundRobin).await?;
        let problem = Problem::VirtualAddress;
        assert_eq!(diagnose(DIRECTOR, &rules).finding(problem), None);
        let length = if lane.family == Family::V4 { 32 } else { 128 };
        let address = format!("{}/{length}", lane.virtual_address());
        DIRECTOR.ip(&[format!("address del {address} dev eth0")])?;
        let commands = mend(DIRECTOR, &rules, problem)?;
        assert_eq!(commands, [format!("ip address add {address} dev eth0")]);
        answers(lane)?;
    }
    Ok(())
}

const ROUTER: Namespace = Namespace("router");
const HOST: Namespace = Namespace("host");

/// Forwarding removes such routes unless the interface accepts advertisements all the same.
async fn routes_by_router_advertisement_outlive_forwarding(_: &mut Subject) -> Outcome {
    let _namespaces = [ROUTER.add()?, HOST.add()?];
    for namespace in [ROUTER, HOST] {
        let proc = Options::new().namespace(namespace.path()).proc()?;
        proc.set_sysctl_named("net.ipv6.conf.default.accept_dad", "0")?;
        proc.set_sysctl_named("net.ipv6.conf.default.accept_ra", "1")?;
        proc.set_sysctl_named("net.ipv6.conf.all.forwarding", "0")?;
    }
    let (router, host) = (ROUTER.0, HOST.0);
    program(
        "ip",
        &[
            "link", "add", "eth0", "netns", router, "type", "veth", "peer", "name", "eth0",
            "netns", host,
        ],
    )?;
    for namespace in [ROUTER, HOST] {
        namespace.ip(&["link set eth0 up".to_owned()])?;
    }
    let default = || program("ip", &["-netns", host, "-6", "route", "show", "default"]);
    let mut sent = Ok(());
    let outcome = wait_until("the host has its route", || {
        // The link may not be up yet.
        sent = ROUTER.run(advertise);
        Ok(default()?.contains("proto ra"))
    });
    outcome.with_context(|| format!("{sent:?}, {:?}", default()))?;

    let web = Service::tcp(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 80);
    let real = IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));
    let mut rules = Ruleset::new();
    rules.insert_service(web)?;
    rules.insert_destination(web.key, Destination::masquerade(real, 80))?;
    let commands = mend(HOST, &rules, Problem::Forwarding(Family::V6))?;
    assert_eq!(
        commands,
        ["sysctl -w net.ipv6.conf.eth0.accept_ra=2", "sysctl -w net.ipv6.conf.all.forwarding=1"]
    );
    let left = default()?;
    assert!(left.contains("proto ra"), "the route is gone: {left:?}");
    Ok(())
}

/// Advertises a router for half an hour.
fn advertise() -> Outcome {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(socket2::Protocol::ICMPV6))?;
    let interface = name_to_index(&socket, "eth0")?;
    socket.set_multicast_hops_v6(255)?;
    socket.set_multicast_if_v6(interface)?;
    // Type 134, hop limit 64, a lifetime of 1800 s; the kernel fills in the checksum.
    let mut message = [0; 16];
    (message[0], message[4]) = (134, 64);
    message[6..8].copy_from_slice(&1800u16.to_be_bytes());
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    socket.send_to(&message, &SocketAddrV6::new(all_nodes, 0, 0, interface).into())?;
    Ok(())
}
