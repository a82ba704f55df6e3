//! `-S`: the table as commands.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::{
    DestinationEntry, Family, Forwarding, Protocol, Service, ServiceKey, SyncDaemon, Timeouts,
    Tunnel, TunnelChecksum,
};

use crate::failure::Failure;
use crate::listing::{place, protocol, scheduler_flags};
use crate::names::Names;

/// What every kernel begins with.
const TIMEOUTS: [u64; 3] = [900, 120, 300];

/// Prints the commands that make the table anew, and the timeouts and daemons where there are others
/// than at the kernel's start.
pub(crate) fn save(
    ipvs: &mut Client,
    numeric: bool,
    names: &Names,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let not_listed = |error| Failure::not_listed(&error);
    let mut services = ipvs.table().map_err(not_listed)?.services;
    let timeouts = ipvs.timeouts().map_err(not_listed)?;
    let daemons = ipvs.daemons().map_err(not_listed)?;
    services.sort_by_key(|service| place(&service.entry.service.key));
    let mut saver = Saver { numeric, names, out };
    for mut service in services {
        let of_service = service.entry.service;
        saver.service(&of_service)?;
        service.destinations.sort_by_key(|entry| entry.destination.key);
        for entry in &service.destinations {
            saver.destination(&of_service.key, entry)?;
        }
    }
    saver.timeouts(timeouts)?;
    daemons.iter().try_for_each(|daemon| saver.daemon(daemon))?;
    Ok(())
}

struct Saver<'a, W> {
    numeric: bool,
    names: &'a Names,
    out: &'a mut W,
}

impl<W: Write> Saver<'_, W> {
    fn service(&mut self, service: &Service) -> io::Result<()> {
        write!(self.out, "-A {} -s {}", self.key(&service.key), service.scheduler.name())?;
        if let Some(persistence) = service.persistence {
            write!(self.out, " -p {}", persistence.seconds)?;
            if let Some(netmask) = persistence.netmask {
                write!(self.out, " -M {netmask}")?;
            }
            if let Some(engine) = persistence.engine {
                write!(self.out, " --pe {engine}")?;
            }
        }
        if service.one_packet {
            write!(self.out, " -o")?;
        }
        let flags = scheduler_flags(service);
        if !flags.is_empty() {
            write!(self.out, " -b {flags}")?;
        }
        writeln!(self.out)
    }

    fn destination(&mut self, service: &ServiceKey, entry: &DestinationEntry) -> io::Result<()> {
        let destination = &entry.destination;
        let address =
            self.address(destination.key.address, destination.key.port, protocol(service));
        write!(self.out, "-a {} -r {address}", self.key(service))?;
        let method = match destination.forwarding {
            Forwarding::Masquerade => "-m",
            Forwarding::Tunnel(_) => "-i",
            Forwarding::Local => "--local",
            Forwarding::Bypass => "--bypass",
            _ => "-g",
        };
        write!(self.out, " {method} -w {}", destination.weight)?;
        if let Some(tunnel) = destination.forwarding.tunnel() {
            write!(self.out, "{}", options(tunnel))?;
        }
        for (option, threshold) in
            [("-x", destination.upper_threshold), ("-y", destination.lower_threshold)]
        {
            if threshold > 0 {
                write!(self.out, " {option} {threshold}")?;
            }
        }
        writeln!(self.out)
    }

    fn timeouts(&mut self, timeouts: Timeouts) -> io::Result<()> {
        let Timeouts { tcp, tcp_fin, udp, .. } = timeouts;
        let timeouts = [tcp, tcp_fin, udp].map(|timeout: Duration| timeout.as_secs());
        if timeouts == TIMEOUTS {
            return Ok(());
        }
        let [tcp, tcp_fin, udp] = timeouts;
        writeln!(self.out, "--set {tcp} {tcp_fin} {udp}")
    }

    fn daemon(&mut self, daemon: &SyncDaemon) -> io::Result<()> {
        let (role, interface, id) = (daemon.role, daemon.interface, daemon.sync_id);
        write!(self.out, "--start-daemon {role} --mcast-interface {interface} --syncid {id}")?;
        let parts = [
            daemon.max_length.map(|length| format!("--sync-maxlen {length}")),
            daemon.group.map(|group| format!("--mcast-group {group}")),
            daemon.port.map(|port| format!("--mcast-port {port}")),
            daemon.ttl.map(|ttl| format!("--mcast-ttl {ttl}")),
        ];
        for part in parts.into_iter().flatten() {
            write!(self.out, " {part}")?;
        }
        writeln!(self.out)
    }

    fn key(&self, key: &ServiceKey) -> String {
        match *key {
            ServiceKey::Mark { mark, family: Family::V4, .. } => format!("-f {mark}"),
            ServiceKey::Mark { mark, family: Family::V6, .. } => format!("-f {mark} -6"),
            ServiceKey::Address { protocol, address, port, .. } => {
                let option = match protocol {
                    Protocol::UDP => "-u",
                    Protocol::SCTP => "--sctp-service",
                    Protocol::TCP => "-t",
                    // The original's word, which no program takes: another service would be wrong.
                    _ => "--xxx-service",
                };
                format!("{option} {}", self.address(address, port, protocol))
            }
            other => other.to_string(),
        }
    }

    fn address(&self, address: IpAddr, port: u16, protocol: Protocol) -> String {
        self.names.print(address, port, protocol, self.numeric)
    }
}

fn options(tunnel: Tunnel) -> String {
    let (kind, checksum) = match tunnel {
        Tunnel::Gue { port, checksum, .. } => (format!("gue --tun-port {port}"), checksum),
        Tunnel::Gre { checksum: true, .. } => ("gre".to_owned(), TunnelChecksum::Full),
        Tunnel::Gre { .. } => ("gre".to_owned(), TunnelChecksum::None),
        _ => return " --tun-type ipip".to_owned(),
    };
    let checksum = match checksum {
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
        _ => "--tun-nocsum",
    };
    format!(" --tun-type {kind} {checksum}")
}
