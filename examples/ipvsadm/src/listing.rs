//! `-L`: the table, the timeouts and the sync daemons, in ipvsadm's columns.

use std::io::{self, Write};
use std::net::IpAddr;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::{
    DestinationEntry, Family, Forwarding, Info, Protocol, Service, ServiceEntry, ServiceFlags,
    ServiceKey, Stats, TableService, Timeouts, Tunnel, TunnelChecksum,
};

use crate::arguments::{View, cut};
use crate::failure::Failure;
use crate::names::Names;

/// Prints the whole table.
pub(crate) fn table(
    ipvs: &mut Client,
    view: View,
    names: &Names,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let Info { version, connection_table_size, .. } =
        ipvs.info().map_err(|error| Failure::not_listed(&error))?;
    let table = ipvs.table().map_err(|error| Failure::not_listed(&error))?;
    writeln!(out, "IP Virtual Server version {version} (size={connection_table_size})")?;
    let mut services = table.services;
    if !view.unsorted {
        services.sort_by_key(|service| place(&service.entry.service.key));
    }
    let mut listing = Listing { view, names, out };
    listing.heading()?;
    for service in services {
        let TableService { entry, destinations, .. } = service;
        listing.service(&entry, destinations)?;
    }
    Ok(())
}

/// Prints one service.
pub(crate) fn service(
    ipvs: &mut Client,
    key: ServiceKey,
    view: View,
    names: &Names,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let not_listed = |error| Failure::not_listed(&error);
    let service = ipvs.service(key).map_err(not_listed)?;
    let destinations = ipvs.destinations(key).map_err(not_listed)?;
    let mut listing = Listing { view, names, out };
    listing.heading()?;
    listing.service(&service, destinations)?;
    Ok(())
}

/// Prints the timeouts.
pub(crate) fn timeouts(ipvs: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let timeouts = ipvs.timeouts().map_err(|error| Failure::not_listed(&error))?;
    let Timeouts { tcp, tcp_fin, udp, .. } = timeouts;
    let [tcp, tcp_fin, udp] = [tcp, tcp_fin, udp].map(|timeout| timeout.as_secs());
    Ok(writeln!(out, "Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}")?)
}

/// Prints the sync daemons that run.
pub(crate) fn daemons(ipvs: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    for daemon in ipvs.daemons().map_err(|error| Failure::not_listed(&error))? {
        let (role, interface, id) = (daemon.role, daemon.interface, daemon.sync_id);
        write!(out, "{role} sync daemon (mcast={interface}, syncid={id}")?;
        let parts = [
            daemon.max_length.map(|length| format!("maxlen={length}")),
            daemon.group.map(|group| format!("group={group}")),
            daemon.port.map(|port| format!("port={port}")),
            daemon.ttl.map(|ttl| format!("ttl={ttl}")),
        ];
        for part in parts.into_iter().flatten() {
            write!(out, ", {part}")?;
        }
        writeln!(out, ")")?;
    }
    Ok(())
}

/// Where a service stands in a listing: IPv4 before IPv6 before marks.
pub(crate) fn place(key: &ServiceKey) -> (bool, Family, ServiceKey) {
    match key.firewall_mark() {
        None => (false, key.family(), *key),
        // A mark before the next one, whatever the family.
        Some(_) => (true, Family::V4, *key),
    }
}

/// The columns behind the addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Columns {
    Counters,
    Thresholds,
    Persistent,
    Tunnels,
    Connections,
}

impl Columns {
    /// Of several the first counts.
    fn of(view: View) -> Self {
        if view.stats || view.rate {
            Self::Counters
        } else if view.thresholds {
            Self::Thresholds
        } else if view.persistent {
            Self::Persistent
        } else if view.tunnels {
            Self::Tunnels
        } else {
            Self::Connections
        }
    }
}

struct Listing<'a, W> {
    view: View,
    names: &'a Names,
    out: &'a mut W,
}

impl<W: Write> Listing<'_, W> {
    fn heading(&mut self) -> io::Result<()> {
        let counters = if self.view.stats {
            "              Conns   InPkts  OutPkts  InBytes OutBytes"
        } else {
            "                CPS    InPPS   OutPPS    InBPS   OutBPS"
        };
        let (service, destination) = match Columns::of(self.view) {
            Columns::Counters => (counters, ""),
            Columns::Thresholds => ("           Uthreshold Lthreshold ActiveConn InActConn ", ""),
            Columns::Persistent => ("           Weight    PersistConn ActiveConn InActConn ", ""),
            Columns::Tunnels => {
                ("Scheduler Flags", "          Forward TunnelInfo    Weight ActiveConn InActConn")
            }
            Columns::Connections => {
                ("Scheduler Flags", "          Forward Weight ActiveConn InActConn")
            }
        };
        writeln!(self.out, "Prot LocalAddress:Port {service}")?;
        writeln!(self.out, "{}", format!("  -> RemoteAddress:Port {destination}").trim_end())
    }

    fn service(
        &mut self,
        entry: &ServiceEntry,
        mut destinations: Vec<DestinationEntry>,
    ) -> io::Result<()> {
        let name = self.service_name(&entry.service.key);
        if Columns::of(self.view) == Columns::Counters {
            write!(self.out, "{name:33}")?;
            self.counters(&entry.stats, self.view.exact)?;
        } else {
            writeln!(self.out, "{name} {}", configuration(&entry.service))?;
        }
        if !self.view.unsorted {
            destinations.sort_by_key(|entry| entry.destination.key);
        }
        let protocol = protocol(&entry.service.key);
        destinations.iter().try_for_each(|entry| self.destination(entry, protocol))
    }

    fn destination(&mut self, entry: &DestinationEntry, protocol: Protocol) -> io::Result<()> {
        let destination = &entry.destination;
        let name = self.address(destination.key.address, destination.key.port, protocol);
        write!(self.out, "  -> {name:28}")?;
        let (active, inactive) = (entry.active_connections, entry.inactive_connections);
        let weight = destination.weight;
        let method = method(destination.forwarding);
        match Columns::of(self.view) {
            Columns::Counters => {
                // The original never shortens the rates of destinations.
                let exact = self.view.exact || !self.view.stats;
                return self.counters(&entry.stats, exact);
            }
            Columns::Thresholds => {
                let (upper, lower) = (destination.upper_threshold, destination.lower_threshold);
                write!(self.out, " {upper:<10} {lower:<10}")?;
            }
            Columns::Persistent => {
                let persistent = entry.persistent_connections;
                write!(self.out, " {weight:<9} {persistent:<11}")?;
            }
            Columns::Tunnels => {
                let tunnel = tunnel(destination.forwarding);
                write!(self.out, " {method:7} {tunnel:13} {weight:<6}")?;
            }
            Columns::Connections => write!(self.out, " {method:7} {weight:<6}")?,
        }
        writeln!(self.out, " {active:<10} {inactive:<10}")
    }

    fn counters(&mut self, stats: &Stats, exact: bool) -> io::Result<()> {
        let rates = &stats.rates;
        let counters = if self.view.stats {
            [
                stats.connections,
                stats.incoming_packets,
                stats.outgoing_packets,
                stats.incoming_bytes,
                stats.outgoing_bytes,
            ]
        } else {
            [
                rates.connections,
                rates.incoming_packets,
                rates.outgoing_packets,
                rates.incoming_bytes,
                rates.outgoing_bytes,
            ]
        };
        for counter in counters {
            write!(self.out, "{}", count(counter, exact))?;
        }
        writeln!(self.out)
    }

    fn service_name(&self, key: &ServiceKey) -> String {
        match *key {
            ServiceKey::Mark { mark, family: Family::V4, .. } => format!("FWM  {mark}"),
            ServiceKey::Mark { mark, family: Family::V6, .. } => format!("FWM  {mark} IPv6"),
            ServiceKey::Address { protocol, address, port, .. } => {
                format!("{:4} {}", protocol_name(protocol), self.address(address, port, protocol))
            }
            other => other.to_string(),
        }
    }

    fn address(&self, address: IpAddr, port: u16, protocol: Protocol) -> String {
        column(self.names.print(address, port, protocol, self.view.numeric), address)
    }
}

/// A name as a listing shows it: those of IPv4 are cut to their column.
fn column(name: String, address: IpAddr) -> String {
    if address.is_ipv4() { cut(&name, 28).to_owned() } else { name }
}

/// The protocol that ports are named by; of a mark TCP.
pub(crate) fn protocol(key: &ServiceKey) -> Protocol {
    key.protocol().unwrap_or(Protocol::from_number(0))
}

pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::TCP => "TCP",
        Protocol::UDP => "UDP",
        Protocol::SCTP => "SCTP",
        _ => "?",
    }
}

/// A number in its column: in thousands, millions and so on where it would not fit.
fn count(count: u64, exact: bool) -> String {
    /// From where on another letter stands for how many.
    const LETTERS: [(u64, u64, &str); 4] = [
        (100_000_000_000_000, 1_000_000_000_000, "T"),
        (100_000_000_000, 1_000_000_000, "G"),
        (1_000_000_000, 1_000_000, "M"),
        (100_000_000, 1_000, "K"),
    ];
    if exact {
        return format!(" {count:>8}");
    }
    let letter = LETTERS.into_iter().find(|(from, ..)| count >= *from);
    let (_, unit, letter) = letter.unwrap_or((0, 1, ""));
    format!("{:>9}", format!("{}{letter}", count / unit))
}

/// The flags of a service's scheduler, with commas.
pub(crate) fn scheduler_flags(service: &Service) -> String {
    let Service { scheduler, flags, .. } = service;
    let options = scheduler.hash_options().unwrap_or_default();
    let names = [
        (options.fallback, format!("{}-fallback", scheduler.name())),
        (options.port, format!("{}-port", scheduler.name())),
        (flags.contains(ServiceFlags::SCHEDULER_1), "flag-1".to_owned()),
        (flags.contains(ServiceFlags::SCHEDULER_2), "flag-2".to_owned()),
        (flags.contains(ServiceFlags::SCHEDULER_3), "flag-3".to_owned()),
    ];
    let set: Vec<_> = names.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
    set.join(",")
}

fn configuration(service: &Service) -> String {
    let mut words = vec![service.scheduler.name().to_owned()];
    let flags = scheduler_flags(service);
    if !flags.is_empty() {
        words.push(format!("({flags})"));
    }
    if let Some(persistence) = service.persistence {
        words.push(format!("persistent {}", persistence.seconds));
        words.extend(persistence.netmask.map(|netmask| format!("mask {netmask}")));
        words.extend(persistence.engine.map(|engine| format!("pe {engine}")));
    }
    words.extend(service.one_packet.then(|| "ops".to_owned()));
    words.join(" ")
}

fn method(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Masquerade => "Masq",
        Forwarding::Local => "Local",
        Forwarding::Tunnel(_) => "Tunnel",
        Forwarding::DirectRoute => "Route",
        _ => "Bypass",
    }
}

fn tunnel(forwarding: Forwarding) -> String {
    let checksum = |checksum| match checksum {
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
        _ => "-c",
    };
    match forwarding.tunnel() {
        None => "n/a".to_owned(),
        Some(Tunnel::Ipip) => "ipip".to_owned(),
        Some(Tunnel::Gue { port, checksum: kind, .. }) => format!("gue:{port}:{}", checksum(kind)),
        Some(Tunnel::Gre { checksum: true, .. }) => "gre:+c".to_owned(),
        Some(Tunnel::Gre { .. }) => "gre:-c".to_owned(),
        Some(other) => format!("type {}", other.kind()),
    }
}
