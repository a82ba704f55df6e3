//! The files below `/proc`, in the kernel's words: the connection table, counters, sysctls.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use super::host::Host;
use super::kernel::{Kernel, State};
use super::sysctls::Sysctls;
use super::table::{Destination, Key, Table, ip};
use crate::model::{Rates, Stats};
use crate::proc::{Files, ModuleIndex};
use crate::wire::uapi::AF_INET;

/// How many CPUs the host has.
pub(super) const CPUS: usize = 2;

/// How many ports a made-up client uses before the next comes.
const PORTS: u64 = 60_000;
const FIRST_PORT: u64 = 1024;

const CONNECTIONS: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";
const WITH_ORIGIN: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n";

impl Files for Kernel {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
        let mut state = self.lock();
        let State { host, table, sysctls, .. } = &mut *state;
        if let Some(text) = sysctls.read(path, host) {
            return Ok(Box::new(io::Cursor::new(text)));
        }
        if let Some(text) = of_host(path, host) {
            return Ok(Box::new(io::Cursor::new(text)));
        }
        if host.family.is_none() {
            return Err(Errno::NOENT.into());
        }
        let text = match path {
            "net/ip_vs_conn" => return Ok(Box::new(Rows::new(table, host.hz, false))),
            "net/ip_vs_conn_sync" => return Ok(Box::new(Rows::new(table, host.hz, true))),
            "net/ip_vs_stats" => stats(&total(table)),
            "net/ip_vs_stats_percpu" => stats_per_cpu(&total(table)),
            "net/ip_vs_status" if host.resizes_connection_table => {
                if !host.privileged {
                    return Err(Errno::ACCESS.into());
                }
                let factors =
                    ["conn_lfactor", "svc_lfactor"].map(|name| sysctls.number(name, host));
                status(table, host.connection_table_size, factors)
            }
            _ => return Err(Errno::NOENT.into()),
        };
        Ok(Box::new(io::Cursor::new(text)))
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let mut state = self.lock();
        let State { host, sysctls, .. } = &mut *state;
        Ok(sysctls.write(path, text, host)?)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        Sysctls::list(folder, &self.lock().host).ok_or_else(|| Errno::NOENT.into())
    }

    /// None can be loaded besides those that are at hand.
    fn modules(&self, _: &str) -> Option<ModuleIndex> {
        Some(ModuleIndex { dependencies: String::new(), builtin: String::new() })
    }
}

/// What the files say that are not of IPVS.
fn of_host(path: &str, host: &Host) -> Option<String> {
    match path {
        "modules" => {
            let ip_vs = host.family.map(|_| "ip_vs".to_owned());
            let schedulers = host.schedulers.iter().map(|name| format!("ip_vs_{name}"));
            let engines = host.engines.iter().map(|name| format!("ip_vs_pe_{name}"));
            let modules: Vec<_> = ip_vs.into_iter().chain(schedulers).chain(engines).collect();
            Some(modules.join(" 16384 0 - Live 0x0000000000000000\n"))
        }
        "thread-self/status" => {
            let effective = if host.privileged { "000001ffffffffff" } else { "0000000000000000" };
            Some(format!("CapEff:\t{effective}\n"))
        }
        "thread-self/uid_map" => Some("         0          0 4294967295\n".to_owned()),
        "net/fib_trie" if host.configured => {
            Some("Local:\n           |-- 127.0.0.1\n              /32 host LOCAL\n".to_owned())
        }
        "net/fib_trie" | "net/if_inet6" => Some(String::new()),
        _ => None,
    }
}

/// The text of the connection table, made as it is read: tests set millions of connections.
struct Rows {
    groups: std::vec::IntoIter<Group>,
    group: Option<Group>,
    with_origin: bool,
    /// How many rows there were, by which clients differ.
    count: u64,
    text: io::Cursor<String>,
}

/// Rows that differ in the client alone.
#[derive(Clone)]
struct Group {
    protocol: Cow<'static, str>,
    family: u16,
    /// Whether they are templates.
    are_templates: bool,
    virtual_address: IpAddr,
    virtual_port: u16,
    destination: IpAddr,
    destination_port: u16,
    state: &'static str,
    expires: u32,
    left: u32,
}

impl Rows {
    fn new(table: &Table, hz: u32, with_origin: bool) -> Self {
        let mut groups = Vec::new();
        for (key, service) in &table.services {
            let persistence = service.timeout / hz.max(1);
            for destination in service.destinations.iter().rev() {
                add_groups(&mut groups, *key, destination, table.timeouts, persistence);
            }
        }
        for destination in table.trash.iter() {
            let persistence = table.services.get(&destination.origin).map_or(0, |s| s.timeout);
            let persistence = persistence / hz.max(1);
            add_groups(&mut groups, destination.origin, destination, table.timeouts, persistence);
        }
        let heading = if with_origin { WITH_ORIGIN } else { CONNECTIONS };
        let text = io::Cursor::new(heading.to_owned());
        Self { groups: groups.into_iter(), group: None, with_origin, count: 0, text }
    }

    fn next_row(&mut self) -> Option<String> {
        while self.group.as_ref().is_none_or(|group| group.left == 0) {
            self.group = Some(self.groups.next()?);
        }
        let group = self.group.as_mut()?;
        group.left -= 1;
        let (client, port) = client(group, self.count);
        self.count += 1;
        let Group { protocol, virtual_port, destination_port, state, expires, .. } = group;
        let [client, virtual_address, destination] =
            [client, group.virtual_address, group.destination].map(address);
        let origin = if self.with_origin { "LOCAL  " } else { "" };
        Some(format!(
            "{protocol:3} {client} {port:04X} {virtual_address} {virtual_port:04X} {destination} \
             {destination_port:04X} {state:11} {origin}{expires:7}\n"
        ))
    }
}

impl Read for Rows {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.text.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.next_row() {
                Some(row) => self.text = io::Cursor::new(row),
                None => return Ok(0),
            }
        }
    }
}

/// A client of one of the networks that are set aside for tests and examples.
fn client(group: &Group, row: u64) -> (IpAddr, u16) {
    let (number, port) = if group.are_templates {
        (row, 0)
    } else {
        (row / PORTS, u16::try_from(FIRST_PORT + row % PORTS).unwrap_or(0))
    };
    let address = if group.family == AF_INET {
        let first = Ipv4Addr::new(198, 18, 0, 1).to_bits();
        Ipv4Addr::from_bits(first.wrapping_add(u32::try_from(number).unwrap_or(0))).into()
    } else {
        let first = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).to_bits();
        Ipv6Addr::from_bits(first + u128::from(number)).into()
    };
    (address, port)
}

fn add_groups(
    groups: &mut Vec<Group>,
    key: Key,
    destination: &Destination,
    [established, fin, udp]: [u32; 3],
    persistence: u32,
) {
    let family = key.family();
    // What comes by a mark can have any address and protocol: an example's, and TCP.
    let (number, virtual_address, virtual_port) = match key {
        Key::Address { protocol, address, port, .. } => (protocol, ip(family, address), port),
        Key::Mark { .. } if family == AF_INET => (6, Ipv4Addr::new(192, 0, 2, 1).into(), 80),
        Key::Mark { .. } => (6, Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into(), 80),
    };
    let protocol = match number {
        6 => "TCP".into(),
        17 => "UDP".into(),
        132 => "SCTP".into(),
        other => format!("IP_{other}").into(),
    };
    let (inactive, expires) = match number {
        6 => ("TIME_WAIT", fin),
        17 => ("UDP", udp),
        132 => ("INIT", 30),
        _ => ("ERR!", 60),
    };
    let base = Group {
        protocol,
        family,
        are_templates: false,
        virtual_address,
        virtual_port,
        destination: ip(destination.id.family, destination.id.address),
        destination_port: destination.id.port,
        state: "ESTABLISHED",
        expires: established,
        left: destination.active,
    };
    let inactive = Group { state: inactive, expires, left: destination.inactive, ..base.clone() };
    let mut templates = Group {
        are_templates: true,
        state: "NONE",
        expires: persistence,
        left: destination.persistent,
        ..base.clone()
    };
    if let Key::Mark { mark, .. } = key {
        templates.protocol = "IP".into();
        templates.virtual_port = 0;
        templates.virtual_address = match family {
            AF_INET => Ipv4Addr::from_bits(mark).into(),
            _ => Ipv6Addr::from_bits(u128::from(mark) << 96).into(),
        };
    }
    groups.extend([base, inactive, templates]);
}

/// As `%08X` and `%pI6` print it.
fn address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08X}", v4.to_bits()),
        IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:04x}")).join(":"),
    }
}

/// The counters of all services together.
fn total(table: &Table) -> Stats {
    table.services.values().map(|service| service.stats.shown()).fold(Stats::default(), sum)
}

fn sum(a: Stats, b: Stats) -> Stats {
    let add = u64::wrapping_add;
    Stats {
        connections: add(a.connections, b.connections),
        incoming_packets: add(a.incoming_packets, b.incoming_packets),
        outgoing_packets: add(a.outgoing_packets, b.outgoing_packets),
        incoming_bytes: add(a.incoming_bytes, b.incoming_bytes),
        outgoing_bytes: add(a.outgoing_bytes, b.outgoing_bytes),
        rates: Rates {
            connections: add(a.rates.connections, b.rates.connections),
            incoming_packets: add(a.rates.incoming_packets, b.rates.incoming_packets),
            outgoing_packets: add(a.rates.outgoing_packets, b.rates.outgoing_packets),
            incoming_bytes: add(a.rates.incoming_bytes, b.rates.incoming_bytes),
            outgoing_bytes: add(a.rates.outgoing_bytes, b.rates.outgoing_bytes),
        },
    }
}

fn counters(stats: &Stats) -> [u64; 5] {
    [
        stats.connections,
        stats.incoming_packets,
        stats.outgoing_packets,
        stats.incoming_bytes,
        stats.outgoing_bytes,
    ]
}

fn rates(stats: &Stats) -> [u64; 5] {
    let Rates { connections, incoming_packets, outgoing_packets, incoming_bytes, outgoing_bytes } =
        stats.rates;
    [connections, incoming_packets, outgoing_packets, incoming_bytes, outgoing_bytes]
}

fn row([connections, in_packets, out_packets, in_bytes, out_bytes]: [u64; 5]) -> String {
    format!("{connections:8X} {in_packets:8X} {out_packets:8X} {in_bytes:16X} {out_bytes:16X}\n")
}

fn stats(total: &Stats) -> String {
    format!(
        "   Total Incoming Outgoing         Incoming         Outgoing\n   \
         Conns  Packets  Packets            Bytes            Bytes\n{}\n \
         Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n{}",
        row(counters(total)),
        row(rates(total))
    )
}

/// The CPUs have half of everything each, the first one what is odd.
fn stats_per_cpu(total: &Stats) -> String {
    let all = counters(total);
    format!(
        "       Total Incoming Outgoing         Incoming         Outgoing\n\
         CPU    Conns  Packets  Packets            Bytes            Bytes\n  \
         0 {}  1 {}  ~ {}\n     \
         Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n    {}",
        row(all.map(|count| count - count / 2)),
        row(all.map(|count| count / 2)),
        row(all),
        row(rates(total))
    )
}

fn status(table: &mut Table, most: u32, [of_connections, of_services]: [i32; 2]) -> String {
    let live = table.services.values().flat_map(|service| &service.destinations);
    let entries: u64 = live.chain(table.trash.iter()).map(Destination::entries).sum();
    let services = table.services.len();
    let service_buckets = if services == 0 {
        0
    } else {
        services.saturating_mul(8).clamp(16, 1 << 20).next_power_of_two()
    };
    let mut text = String::new();
    let mut table_of = |name: &str, plural: &str, entries: u64, buckets: u64, factor: i32| {
        let (bits, factor) = match buckets {
            0 => (0, 0),
            _ => (buckets.ilog2(), factor),
        };
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "{plural}:\t{entries}\n{name} buckets:\t{buckets} ({bits} bits, lfactor {factor})\n"
        );
    };
    let buckets = u64::from(table.connection_buckets(most));
    table_of("Conn", "Conns", entries, buckets, of_connections);
    table_of("Service", "Services", services as u64, service_buckets as u64, of_services);
    let [threads, chain, estimators] = if services == 0 { [0; 3] } else { [8, 86, 206_400] };
    let _ = write!(
        text,
        "Stats thread slots:\t1 (max {threads})\nStats chain max len:\t{chain}\n\
         Stats thread ests:\t{estimators}\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::blocking::Client;
    use crate::fake::{Host, Version};
    use crate::model::{Destination, Family, Persistence, Service, Timeouts};
    use crate::proc::{Connection, Proc, sysctl};

    fn table(proc: &Proc) -> Vec<Connection> {
        proc.connections().unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn the_table_has_what_the_counts_say() {
        let kernel = Kernel::new();
        let (mut ipvs, proc) = (Client::connect_to(&kernel).unwrap(), Proc::of(&kernel));
        assert_eq!(table(&proc), []);
        let persistence = Persistence::new(Duration::from_secs(77));
        let mark = NonZeroU32::new(0x0102_0304).unwrap();
        let services = [
            Service::tcp([10, 0, 0, 1], 80).persistent(persistence),
            Service::udp([10, 0, 0, 1], 53),
            Service::sctp(Ipv6Addr::LOCALHOST, 9),
            Service::mark(mark, Family::V4).persistent(persistence),
            Service::mark(mark, Family::V6).persistent(persistence),
        ];
        for service in &services {
            ipvs.add_service(service).unwrap();
            let address: IpAddr = match service.key.family() {
                Family::V4 => [10, 0, 1, 1].into(),
                Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).into(),
            };
            let destination = Destination::masquerade(address, 8080);
            ipvs.add_destination(service.key, &destination).unwrap();
            assert!(kernel.set_connections(service.key, destination.key, 3, 2, 1));
        }
        let entries = table(&proc);
        assert_eq!(entries.len(), services.len() * 6);
        assert_eq!(entries.iter().filter(|entry| entry.is_template()).count(), services.len());
        let clients: std::collections::BTreeSet<_> = entries.iter().map(|e| e.client).collect();
        assert_eq!(clients.len(), entries.len());
        for service in &services {
            let of_service = || entries.iter().filter(|entry| entry.is_of_service(service.key));
            let is_mark = matches!(service.key, crate::model::ServiceKey::Mark { .. });
            assert_eq!(of_service().count(), if is_mark { 1 } else { 6 }, "{}", service.key);
        }
        let of = |key| entries.iter().filter(move |entry| entry.is_of_service(key));
        let web: Vec<_> = of(services[0].key).collect();
        assert!(web.iter().all(|entry| entry.virtual_address.port() == 80));
        let states: Vec<_> = web.iter().map(|entry| entry.state.name()).collect();
        assert_eq!(
            states,
            ["ESTABLISHED", "ESTABLISHED", "ESTABLISHED", "TIME_WAIT", "TIME_WAIT", "NONE"]
        );
        let Timeouts { tcp, tcp_fin, .. } = ipvs.timeouts().unwrap();
        let expires: Vec<_> = web.iter().map(|entry| entry.expires).collect();
        assert_eq!(expires, [tcp, tcp, tcp, tcp_fin, tcp_fin, Duration::from_secs(77)]);

        // Connections outlive their destination.
        ipvs.flush().unwrap();
        assert_eq!(table(&proc).len(), entries.len());
        let with_origin = proc.connections_with_origin().unwrap();
        assert!(with_origin.map(Result::unwrap).all(|entry| entry.origin.is_some()));
    }

    #[test]
    fn counters_add_up() {
        let kernel = Kernel::new();
        let (mut ipvs, proc) = (Client::connect_to(&kernel).unwrap(), Proc::of(&kernel));
        for (port, connections) in [(80, 3), (81, 4)] {
            let service = Service::tcp([10, 0, 0, 1], port);
            ipvs.add_service(&service).unwrap();
            let rates = Rates { incoming_bytes: 5, ..Rates::default() };
            let stats = Stats { connections, outgoing_bytes: 1 << 40, rates, ..Stats::default() };
            assert!(kernel.set_service_stats(service.key, stats));
        }
        let rates = Rates { incoming_bytes: 10, ..Rates::default() };
        let wanted = Stats { connections: 7, outgoing_bytes: 1 << 41, rates, ..Stats::default() };
        assert_eq!(proc.stats().unwrap(), wanted);
        let read = proc.stats_per_cpu().unwrap();
        assert_eq!(read.total, wanted);
        let connections: Vec<_> = read.cpus.iter().map(|cpu| cpu.stats.connections).collect();
        assert_eq!(connections, [4, 3]);
    }

    #[test]
    fn a_host_without_permission_reads_and_sets_nothing() {
        let mut host = Host::new(Version::Linux7_3);
        host.privileged = false;
        let proc = Proc::of(&Kernel::on(host));
        assert!(!proc.sysctl(&sysctl::CONNTRACK).unwrap());
        assert_eq!(table(&proc), []);
        let refused =
            [proc.set_sysctl(&sysctl::CONNTRACK, true).unwrap_err(), proc.status().unwrap_err()];
        for error in refused {
            assert!(error.is_permission_denied(), "{error}");
            assert!(error.to_string().contains("this needs root"), "{error}");
        }
    }

    #[test]
    fn a_host_without_ipvs_has_no_files_of_it() {
        let kernel = Kernel::new();
        let proc = Proc::of(&kernel);
        proc.set_sysctl(&sysctl::SYNC_RETRIES, 3).unwrap();
        proc.set_sysctl_named("net.ipv4.ip_forward", "1").unwrap();
        kernel.configure(|host| host.family = None);
        let errors = [
            proc.connections().map(drop).unwrap_err(),
            proc.stats().map(drop).unwrap_err(),
            proc.sysctls().map(drop).unwrap_err(),
            proc.sysctl(&sysctl::SYNC_RETRIES).map(drop).unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_not_found(), "{error}");
            assert!(error.to_string().contains("modprobe ip_vs"), "{error}");
        }
        // The module's values are lost with it.
        kernel.reload(0x1d);
        assert_eq!(proc.sysctl(&sysctl::SYNC_RETRIES).unwrap(), 0);
        assert_eq!(proc.sysctl_named("net.ipv4.ip_forward").unwrap(), "1");
    }
}
