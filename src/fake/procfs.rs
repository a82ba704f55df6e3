//! The files below `/proc`: the tables, counters and sysctls of IPVS, and the files of the host
//! that the crate reads.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::net::IpAddr;

use super::connection_list::Rows;
use super::destination::KernelDestination;
use super::host::Host;
use super::kernel::{Kernel, State};
use super::listing::listing;
use super::sysctls::Sysctls;
use super::table::KernelTable;
use crate::model::{Rates, Stats};
use crate::proc::{Files, ModuleIndex};
use crate::uapi::Errno;

impl Kernel {
    /// The text of a file below `/proc`, such as `net/ip_vs`, for programs with a parser of their
    /// own.
    ///
    /// # Errors
    /// The host has no such file, or no permission to read it.
    pub fn proc_file(&self, path: &str) -> io::Result<String> {
        io::read_to_string(Files::open(self, path)?)
    }
}

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
            "net/ip_vs" => {
                let buckets = table.connection_table_size(host);
                listing(table, buckets)
            }
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

    fn link(&self, path: &str) -> io::Result<String> {
        match path {
            "thread-self/ns/user" => Ok("user:[4026531837]".to_owned()),
            _ => Err(Errno::NOENT.into()),
        }
    }

    /// An empty index: the host can load no modules but those that it has already.
    fn modules(&self, _: &str) -> Option<ModuleIndex> {
        Some(ModuleIndex { dependencies: String::new(), builtin: String::new() })
    }

    fn is_program(&self, _: &str) -> Option<bool> {
        None
    }
}

/// The text of a file below `/proc` that belongs to another part of the kernel.
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
        "net/fib_trie" => Some(local_routes(host)),
        "net/fib_triestat" => Some(tables(host)),
        "net/if_inet6" => Some(addresses_of_ipv6(host)),
        "net/dev" => Some(devices(host, DEVICES, |_, name| format!("{name:>6}: 0 0 0 0\n"))),
        "net/igmp" => Some(devices(host, GROUPS, |index, name| {
            let all_hosts = u32::from_ne_bytes([224, 0, 0, 1]);
            format!(
                "{index}\t{name:<10}:     1      V3\n\t\t\t\t{all_hosts:08X}     1 0:00000000\t\t0\n"
            )
        })),
        "net/udp" | "net/udp6" => Some(SOCKETS.to_owned()),
        _ => None,
    }
}

const DEVICES: &str = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n";
const GROUPS: &str = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n";
const SOCKETS: &str = "  sl  local_address rem_address   st\n";

/// A table with a line for each interface; the table of groups has only interfaces that are up.
fn devices(host: &Host, heading: &str, line: impl Fn(usize, &str) -> String) -> String {
    let interfaces = (1..).zip(&host.interfaces);
    let interfaces = interfaces.filter(|(_, interface)| interface.up || heading != GROUPS);
    let lines = interfaces.map(|(index, interface)| line(index, &interface.name));
    [heading.to_owned()].into_iter().chain(lines).collect()
}

fn local_routes(host: &Host) -> String {
    if !host.configured {
        return String::new();
    }
    let of_host = host.local.iter().filter(|address| address.is_ipv4());
    let of_host = of_host.map(|address| (address.to_string(), "/32 host LOCAL"));
    let broadcast = host.broadcast.iter();
    let broadcast = broadcast.map(|address| (address.to_string(), "/32 link BROADCAST"));
    let lines = [("127.0.0.0", "/8 host LOCAL"), ("127.0.0.1", "/32 host LOCAL")]
        .map(|(address, route)| (address.to_owned(), route))
        .into_iter()
        .chain(of_host)
        .chain(broadcast)
        .map(|(address, route)| format!("           |-- {address}\n              {route}\n"));
    ["Local:\n".to_owned()].into_iter().chain(lines).collect()
}

/// The tables of IPv4 routes. The kernel makes that of local addresses with the first address.
fn tables(host: &Host) -> String {
    let local = if host.configured { "Main:\nLocal:\n" } else { "" };
    format!("Basic info: size of leaf: 48 bytes, size of tnode: 40 bytes.\n{local}")
}

fn addresses_of_ipv6(host: &Host) -> String {
    let line = |address: &IpAddr| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(format!("{:032x} 01 80 10 80       lo\n", v6.to_bits())),
    };
    host.local.iter().filter_map(line).collect()
}

/// The sums of all services' counters.
fn total(table: &KernelTable) -> Stats {
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

/// Each of the two CPUs has half of every counter; the first CPU has one more of an odd number.
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

fn status(table: &mut KernelTable, most: u32, [of_connections, of_services]: [i32; 2]) -> String {
    let live = table.services.values().flat_map(|service| &service.destinations);
    let entries: u64 = live.chain(table.trash.iter()).map(KernelDestination::entries).sum();
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
    use std::net::{IpAddr, Ipv6Addr};
    use std::time::Duration;

    use super::*;
    use crate::fake::{Host, Series};
    use crate::model::{Destination, Family, Persistence, Service, Timeouts};
    use crate::proc::{Connection, Proc, sysctl};

    fn table(proc: &Proc) -> Vec<Connection> {
        proc.connections().unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn the_table_has_what_the_counts_say() {
        let kernel = Kernel::new();
        let (mut ipvs, proc) = (kernel.connect().unwrap(), kernel.proc());
        assert_eq!(table(&proc), []);
        let persistence = Persistence::new(Duration::from_secs(77));
        let mark = 0x0102_0304;
        let services = [
            Service::tcp([10, 0, 0, 1], 80).persistence(persistence),
            Service::udp([10, 0, 0, 1], 53),
            Service::sctp(Ipv6Addr::LOCALHOST, 9),
            Service::mark(mark, Family::V4).unwrap().persistence(persistence),
            Service::mark(mark, Family::V6).unwrap().persistence(persistence),
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

        // Connections outlive their destinations.
        ipvs.flush().unwrap();
        assert_eq!(table(&proc).len(), entries.len());
        let with_origin = proc.connections_with_origin().unwrap();
        assert!(with_origin.map(Result::unwrap).all(|entry| entry.origin.is_some()));
    }

    #[test]
    fn counters_add_up() {
        let kernel = Kernel::new();
        let (mut ipvs, proc) = (kernel.connect().unwrap(), kernel.proc());
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
        let mut host = Host::of_series(Series::Linux7_3);
        host.privileged = false;
        let proc = Kernel::on(host).proc();
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
        let proc = kernel.proc();
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
        // Unloading the module loses the values of its sysctls.
        kernel.reload(0x1d);
        assert_eq!(proc.sysctl(&sysctl::SYNC_RETRIES).unwrap(), 0);
        assert_eq!(proc.sysctl_named("net.ipv4.ip_forward").unwrap(), "1");
    }
}
