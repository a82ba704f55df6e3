//! The connection table and the counters in `/proc`, compared with the connections that clients
//! have opened.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ipvs_netlink::diagnose::Problem;
use ipvs_netlink::proc::{Connection, ConnectionState, Connections, Origin, Proc};
use ipvs_netlink::{
    Destination, DestinationKey, Family, Netmask, Options, Persistence, Protocol, Ruleset,
    Scheduler, Service, ServiceKey, Stats,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::network::ALONE;
use super::{PATIENCE, wait_until};
use crate::case::{Outcome, cases};
use crate::client::Client;
use crate::subject::{Subject, program};

cases![
    proc_has_what_clients_have_opened,
    templates_of_marks_and_engines_are_told_apart,
    a_destination_for_all_ports_has_its_connections,
    a_namespace_that_takes_no_connection_is_found,
];

/// The clients of each of the four services.
const CLIENTS: u16 = 500;
const FIRST_PORT: u16 = 20_000;

/// The part of an entry that does not change with time: protocol, client, virtual address,
/// destination, state.
type Entry = (Protocol, SocketAddr, SocketAddr, DestinationKey, String);

/// The connections that clients have opened, and the sockets that keep them open.
#[derive(Default)]
struct Opened {
    entries: Vec<Entry>,
    streams: Vec<TcpStream>,
    datagrams: Vec<UdpSocket>,
}

async fn proc_has_what_clients_have_opened(subject: &mut Subject) -> Outcome {
    // Each connection takes two descriptors.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let _namespace = ALONE.add()?;
    let options = Options::new().namespace(ALONE.path());
    let mut client = Client::connect(subject.flavour, &options).await?;
    let proc = options.proc()?;
    assert_eq!(proc.connections()?.count(), 0);

    let local = |last| SocketAddr::from(([127, 0, 0, last], 8080));
    let local6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 8080));
    let mask = Netmask::V4([255, 255, 255, 0].into());
    let web = service(&mut client, Service::tcp([127, 0, 0, 1], 80), &[local(1), local(2)]).await?;
    let sticky = Persistence::new(Duration::from_secs(300)).netmask(mask);
    let sticky = Service::tcp([127, 0, 0, 1], 81).persistence(sticky);
    let sticky = service(&mut client, sticky, &[local(1), local(2)]).await?;
    let names = service(&mut client, Service::udp([127, 0, 0, 1], 53), &[local(1)]).await?;
    let web6 = service(&mut client, Service::tcp(Ipv6Addr::LOCALHOST, 80), &[local6]).await?;

    let opened = ALONE.run(|| {
        let listeners = [local(1), local(2), local6].map(TcpListener::bind);
        let listeners = listeners.into_iter().collect::<Result<Vec<_>, _>>()?;
        let names_server = UdpSocket::bind(local(1))?;
        let mut opened = Opened::default();
        for n in 0..CLIENTS {
            let (port, network) = (FIRST_PORT + n, u8::try_from(n % 5)?);
            let client = SocketAddr::from(([127, 1, network, 1], port));
            opened.tcp(&listeners, client, web)?;
            let client = SocketAddr::from(([127, 2, network, u8::try_from(n % 200)?], port));
            opened.tcp(&listeners, client, sticky)?;
            let client = SocketAddr::from(([127, 3, network, 1], port));
            opened.udp(&names_server, client, names)?;
            let client = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            opened.tcp(&listeners, client, web6)?;
        }
        Ok(opened)
    })?;
    assert_eq!(opened.entries.len(), 4 * usize::from(CLIENTS));
    let wanted = with_templates(&opened.entries, address_of(sticky));

    // While the kernel resizes its table, an entry can be listed twice.
    let mut read = Vec::new();
    let outcome = wait_until("the table is what was opened", || {
        read = entries(proc.connections()?)?;
        Ok(read == wanted)
    });
    ensure!(
        outcome.is_ok(),
        "of {} wanted, {} read: {:?}",
        wanted.len(),
        read.len(),
        differing(&wanted, &read)
    );

    for entry in proc.connections_with_origin()? {
        let entry = entry?;
        assert_eq!(entry.origin, Some(Origin::Local), "{entry:?}");
    }
    assert_eq!(entries(proc.connections_with_origin()?)?, wanted);
    filters(&proc, &wanted, [web, sticky, names, web6])?;
    if subject.release.series() >= (7, 1) {
        assert_eq!(proc.status()?.connections.entries, wanted.len() as u64);
    }
    counters(&proc)?;
    assert_eq!(Proc::new().connections()?.of_service(sticky).count(), 0, "another namespace's");
    Ok(())
}

async fn service(
    client: &mut Client,
    service: Service,
    destinations: &[SocketAddr],
) -> anyhow::Result<ServiceKey> {
    let service = service.scheduler(Scheduler::RoundRobin);
    client.add_service(&service).await?;
    for destination in destinations {
        let destination = Destination::masquerade(destination.ip(), destination.port());
        client.add_destination(service.key, &destination).await?;
    }
    Ok(service.key)
}

fn address_of(service: ServiceKey) -> SocketAddr {
    service.socket_address().expect("no service here is by mark")
}

impl Opened {
    fn tcp(
        &mut self,
        listeners: &[TcpListener],
        client: SocketAddr,
        service: ServiceKey,
    ) -> anyhow::Result<()> {
        let family = if client.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &client)?;
        let service = address_of(service);
        connect(&socket, &service).with_context(|| format!("{client} to {service}"))?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(b"?")?;
        // One of the destinations has the connection.
        for listener in listeners {
            listener.set_nonblocking(true)?;
        }
        let mut accepted = None;
        wait_until("a server accepts", || {
            accepted = listeners.iter().find_map(|listener| listener.accept().ok());
            Ok(accepted.is_some())
        })?;
        let (mut server, peer) = accepted.context("accepted")?;
        ensure!(peer == client, "{peer} instead of {client}");
        server.set_nonblocking(false)?;
        server.read_exact(&mut [0])?;
        let state = ConnectionState::Established.to_string();
        self.entries.push((Protocol::TCP, client, service, server.local_addr()?.into(), state));
        self.streams.extend([stream, server]);
        Ok(())
    }

    fn udp(
        &mut self,
        server: &UdpSocket,
        client: SocketAddr,
        service: ServiceKey,
    ) -> anyhow::Result<()> {
        let socket = UdpSocket::bind(client)?;
        socket.send_to(b"?", address_of(service))?;
        let (_, peer) = server.recv_from(&mut [0])?;
        ensure!(peer == client, "{peer} instead of {client}");
        let state = ConnectionState::Udp.to_string();
        let destination = server.local_addr()?.into();
        self.entries.push((Protocol::UDP, client, address_of(service), destination, state));
        self.datagrams.push(socket);
        Ok(())
    }
}

/// The entries with a template for each network of the persistent service's clients, sorted.
fn with_templates(opened: &[Entry], sticky: SocketAddr) -> Vec<Entry> {
    let mut networks = BTreeMap::new();
    for (_, client, service, destination, _) in opened {
        if *service == sticky
            && let IpAddr::V4(client) = client.ip()
        {
            let [a, b, c, _] = client.octets();
            // All connections of a network have one destination.
            let first = networks.entry([a, b, c, 0]).or_insert(*destination);
            assert_eq!(first, destination, "{client}");
        }
    }
    assert_eq!(networks.len(), 5);
    let templates = networks.into_iter().map(|(network, destination)| {
        // The templates are assured, since their connections are established.
        let state = ConnectionState::Assured.to_string();
        (Protocol::TCP, SocketAddr::from((network, 0)), sticky, destination, state)
    });
    let mut entries: Vec<_> = opened.iter().cloned().chain(templates).collect();
    entries.sort_unstable();
    entries
}

fn entries(table: Connections) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in table {
        let entry = entry?;
        let Connection { protocol, client, virtual_address, destination, state, .. } = entry;
        assert_eq!(entry.is_template(), client.port() == 0, "{entry:?}");
        assert!(entry.expires > Duration::ZERO && entry.expires <= Duration::from_secs(900));
        entries.push((protocol, client, virtual_address, destination, state.to_string()));
    }
    entries.sort_unstable();
    Ok(entries)
}

/// The first entries that only one of two tables has.
fn differing(wanted: &[Entry], read: &[Entry]) -> Vec<Entry> {
    let only = |one: &[Entry], other: &[Entry]| -> Vec<Entry> {
        one.iter().filter(|entry| other.binary_search(entry).is_err()).take(5).cloned().collect()
    };
    [only(wanted, read), only(read, wanted)].concat()
}

fn filters(proc: &Proc, wanted: &[Entry], services: [ServiceKey; 4]) -> Outcome {
    let of = |is_wanted: &dyn Fn(&Entry) -> bool| -> Vec<Entry> {
        wanted.iter().filter(|entry| is_wanted(entry)).cloned().collect()
    };
    for service in services {
        let address = address_of(service);
        let read = entries(proc.connections()?.of_service(service))?;
        assert_eq!(read, of(&|entry| entry.2 == address), "{service}");
        let destination = DestinationKey::new([127, 0, 0, 2], 8080);
        let table = proc.connections()?.of_service(service).of_destination(destination);
        assert_eq!(entries(table)?, of(&|entry| entry.2 == address && entry.3 == destination));
    }
    Ok(())
}

/// The CPUs' counters add up to the totals, which are those of all connections.
fn counters(proc: &Proc) -> Outcome {
    let counters = |stats: &Stats| {
        [
            stats.connections,
            stats.incoming_packets,
            stats.outgoing_packets,
            stats.incoming_bytes,
            stats.outgoing_bytes,
        ]
    };
    let (mut sum, mut total) = ([0; 5], [0; 5]);
    let outcome = wait_until("the counters add up", || {
        let stats = proc.stats_per_cpu()?;
        assert_eq!(stats.cpus.len(), std::thread::available_parallelism()?.get());
        sum = [0; 5];
        for cpu in &stats.cpus {
            sum.iter_mut().zip(counters(&cpu.stats)).for_each(|(sum, count)| *sum += count);
        }
        total = counters(&stats.total);
        Ok(sum == total && total == counters(&proc.stats()?))
    });
    ensure!(outcome.is_ok(), "the CPUs' counters are {sum:?}, the total {total:?}");
    assert_eq!(total[0], 4 * u64::from(CLIENTS));
    // Each connection of TCP takes three packets and more, one of UDP has one.
    assert!(total[1] >= 10 * u64::from(CLIENTS) && total[3] > total[1], "{total:?}");
    Ok(())
}

/// A template identifies its service as the table shows it: by a mark in the place of the address,
/// or by the data with which an engine identifies a call.
async fn templates_of_marks_and_engines_are_told_apart(subject: &mut Subject) -> Outcome {
    let _namespace = ALONE.add()?;
    let options = Options::new().namespace(ALONE.path());
    let mut client = Client::connect(subject.flavour, &options).await?;
    let proc = options.proc()?;
    let real = address([127, 0, 0, 1], 8080);
    // A mark is for all ports, and persistent connections keep their port.
    let [marked, marked6] =
        [[127, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into()].map(|it: IpAddr| address(it, 9000));
    let persistence = Persistence::new(Duration::from_secs(300));
    let v4 = Service::mark(0x0102_0304, Family::V4)?.persistence(persistence);
    let v4 = service(&mut client, v4, &[marked]).await?;
    let v6 = Service::mark(0x0102_0304, Family::V6)?.persistence(persistence);
    let v6 = service(&mut client, v6, &[marked6]).await?;
    let mark = v4.firewall_mark().context("a mark")?;
    let calls = persistence.engine("sip".parse()?);
    let calls = Service::udp([127, 0, 0, 1], 5060).persistence(calls);
    let calls = service(&mut client, calls, &[real]).await?;

    let to = address([127, 0, 0, 9], 9000);
    let clients = [address([127, 5, 0, 1], 20_000), address([127, 5, 0, 2], 20_000)];
    let six = address(Ipv6Addr::LOCALHOST, 20_000);
    let caller = [127, 6, 0, 1];
    let _sockets = ALONE.run(|| {
        let servers = [real, marked, marked6].map(UdpSocket::bind);
        let servers = servers.into_iter().collect::<Result<Vec<_>, _>>()?;
        for server in &servers {
            server.set_read_timeout(Some(PATIENCE))?;
        }
        let mut sockets = Vec::new();
        for (client, to, server) in [(clients[0], to, 1), (clients[1], to, 1), (six, marked6, 2)] {
            let socket = UdpSocket::bind(client)?;
            socket2::SockRef::from(&socket).set_mark(mark.get())?;
            socket.send_to(b"?", to)?;
            assert_eq!(servers[server].recv_from(&mut [0])?.1, client);
            sockets.push(socket);
        }
        // Each of a client's calls has a template, whichever port it comes from.
        for (port, call) in [(5060, "one@example"), (5061, "one@example"), (5062, "other@example")]
        {
            let socket = UdpSocket::bind(address(caller, port))?;
            let invite = format!("INVITE sip:b@example SIP/2.0\r\nCall-ID: {call}\r\n\r\n");
            socket.send_to(invite.as_bytes(), address([127, 0, 0, 1], 5060))?;
            assert_eq!(servers[0].recv_from(&mut [0; 200])?.1, socket.local_addr()?);
            sockets.push(socket);
        }
        Ok((sockets, servers))
    })?;

    let mut table = proc.connections()?.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(table.len(), 3 + 3 + 3 + 2, "{table:#?}");
    table.retain(Connection::is_template);
    let of = |service: ServiceKey| -> Vec<&Connection> {
        table.iter().filter(|entry| entry.is_of_service(service)).collect()
    };
    let mut of_mark: Vec<_> = of(v4).iter().map(|entry| entry.client).collect();
    of_mark.sort_unstable();
    assert_eq!(of_mark, clients.map(|client| SocketAddr::new(client.ip(), 0)), "{table:#?}");
    for entry in of(v4).into_iter().chain(of(v6)) {
        assert_eq!((entry.mark(), &entry.engine), (Some(mark), &None), "{entry:?}");
        assert_eq!(entry.protocol, Protocol::from_number(0));
    }
    let [entry] = of(v6)[..] else { panic!("{table:#?}") };
    assert_eq!(
        (entry.client.ip(), entry.destination),
        (six.ip(), address(Ipv6Addr::LOCALHOST, 0).into())
    );
    let mut known: Vec<_> = of(calls)
        .iter()
        .map(|entry| {
            let engine = entry.engine.as_ref().expect("an engine");
            assert_eq!((engine.engine.as_str(), entry.mark()), ("sip", None), "{entry:?}");
            (engine.data.as_str(), entry.client)
        })
        .collect();
    known.sort_unstable();
    let caller = address(caller, 0);
    assert_eq!(known, [("one@example", caller), ("other@example", caller)], "{table:#?}");
    assert_eq!(table.len(), 5);
    let mut all: Vec<_> = proc.connections_with_origin()?.collect::<Result<_, _>>()?;
    all.retain(Connection::is_template);
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|entry| entry.engine.is_none()));
    Ok(())
}

fn address(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// Once: of a destination with port 0, only the template was found, which has that port.
async fn a_destination_for_all_ports_has_its_connections(subject: &mut Subject) -> Outcome {
    let _namespace = ALONE.add()?;
    let options = Options::new().namespace(ALONE.path());
    let mut client = Client::connect(subject.flavour, &options).await?;
    let proc = options.proc()?;
    let sticky = Persistence::new(Duration::from_secs(300));
    let all = Service::udp([127, 0, 0, 1], 0).persistence(sticky);
    let real = address([127, 0, 0, 2], 0);
    let all = service(&mut client, all, &[real]).await?;
    let _sockets = ALONE.run(|| {
        let mut sockets = Vec::new();
        for port in [9000, 9001] {
            let server = UdpSocket::bind(address(real.ip(), port))?;
            server.set_read_timeout(Some(PATIENCE))?;
            let client = UdpSocket::bind(address([127, 5, 0, 1], port))?;
            client.send_to(b"?", address([127, 0, 0, 1], port))?;
            assert_eq!(server.recv_from(&mut [0])?.1, client.local_addr()?);
            sockets.extend([server, client]);
        }
        Ok(sockets)
    })?;
    let of_real = || proc.connections().map(|table| table.of_destination(real));
    let mut ports = of_real()?
        .map(|entry| entry.map(|entry| (entry.is_template(), entry.destination.port)))
        .collect::<Result<Vec<_>, _>>()?;
    ports.sort_unstable();
    assert_eq!(ports, [(false, 9000), (false, 9001), (true, 0)]);
    assert_eq!(of_real()?.of_service(all).count(), 3);
    assert_eq!(proc.connections()?.of_destination(address([127, 0, 0, 2], 9000)).count(), 1);
    assert_eq!(proc.connections()?.of_destination(address([127, 0, 0, 3], 0)).count(), 0);
    Ok(())
}

/// Only traffic shows that 0 means no connection at all, and not an absent limit.
async fn a_namespace_that_takes_no_connection_is_found(subject: &mut Subject) -> Outcome {
    let _namespace = ALONE.add()?;
    let options = Options::new().namespace(ALONE.path());
    let mut client = Client::connect(subject.flavour, &options).await?;
    let proc = options.proc()?;
    let names = Service::udp([127, 0, 0, 1], 53).scheduler(Scheduler::RoundRobin);
    let real = address([127, 0, 0, 1], 8080);
    let mut rules = Ruleset::new();
    rules.insert_service(names)?;
    rules.insert_destination(names.key, Destination::masquerade(real.ip(), real.port()))?;
    service(&mut client, names, &[real]).await?;
    if subject.release.series() < (7, 2) {
        assert_eq!(options.diagnose(&rules).finding(Problem::NoConnections), None);
        return Ok(());
    }
    let connections = || {
        ALONE.run(|| {
            let socket = UdpSocket::bind(address([127, 0, 0, 1], 0))?;
            // Whether the packet was refused or not, the table tells.
            let _ = socket.send_to(b"?", address([127, 0, 0, 1], 53));
            Ok(())
        })?;
        anyhow::Ok(proc.connections()?.count())
    };
    proc.set_sysctl_named("net.ipv4.vs.conn_max", "0")?;
    assert_eq!(connections()?, 0);
    let diagnosis = options.diagnose(&rules);
    let finding =
        diagnosis.finding(Problem::NoConnections).with_context(|| diagnosis.to_string())?;
    for command in &finding.commands {
        program("ip", &["netns", "exec", "alone", "sh", "-c", command])?;
    }
    assert_eq!(options.diagnose(&rules).finding(Problem::NoConnections), None);
    assert_eq!(connections()?, 1);
    Ok(())
}
