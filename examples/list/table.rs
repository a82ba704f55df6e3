//! A table as text: a line for each service, followed by a line for each of its destinations, with
//! ipvsadm's columns.

use std::fmt;

use ipvs_netlink::{
    DestinationEntry, Forwarding, Info, Service, ServiceKey, Stats, Table, TableService,
};

/// The columns of a listing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// Forwarding method, weight and connections.
    Connections,
    /// The connections, packets and bytes carried so far.
    Stats,
    /// The connections, packets and bytes carried per second.
    Rate,
    /// Thresholds and connections.
    Thresholds,
}

/// A table that is printed in the numeric order of addresses.
pub(crate) struct Listing {
    /// The version of IPVS, and the size of the connection table.
    pub(crate) info: Info,
    /// The table itself.
    pub(crate) table: Table,
    /// The columns.
    pub(crate) view: View,
    /// Whether numbers are printed in full, however long.
    pub(crate) exact: bool,
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Info { version, connection_table_size, .. } = self.info;
        writeln!(f, "IP Virtual Server version {version} (size={connection_table_size})")?;
        let (of_services, of_destinations) = match self.view {
            View::Connections => ("Scheduler Flags", "Forward Weight ActiveConn InActConn"),
            View::Stats => ("   Conns   InPkts  OutPkts  InBytes OutBytes", ""),
            View::Rate => ("     CPS    InPPS   OutPPS    InBPS   OutBPS", ""),
            View::Thresholds => ("Uthreshold Lthreshold ActiveConn InActConn", ""),
        };
        let width = if self.view == View::Connections { 0 } else { 28 };
        writeln!(f, "Prot {:width$} {of_services}", "LocalAddress:Port")?;
        let server = "RemoteAddress:Port";
        writeln!(f, "{}", format!("  -> {server:28} {of_destinations}").trim_end())?;

        let mut services: Vec<&TableService> = self.table.services.iter().collect();
        services.sort_by_key(|service| service.entry.service.key);
        for service in services {
            self.service(&service.entry.service, &service.entry.stats, f)?;
            let mut destinations: Vec<&DestinationEntry> = service.destinations.iter().collect();
            destinations.sort_by_key(|entry| entry.destination.key);
            for destination in destinations {
                self.destination(destination, f)?;
            }
        }
        Ok(())
    }
}

impl Listing {
    fn service(&self, service: &Service, stats: &Stats, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = name(&service.key);
        match self.view {
            View::Connections | View::Thresholds => {
                writeln!(f, "{name} {}", configuration(service))
            }
            View::Stats | View::Rate => writeln!(f, "{name:33}{}", self.counters(stats)),
        }
    }

    fn destination(&self, entry: &DestinationEntry, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = entry.destination.key.to_string();
        let (active, inactive) = (entry.active_connections, entry.inactive_connections);
        let configuration = &entry.destination;
        write!(f, "  -> {server:28}")?;
        match self.view {
            View::Connections => {
                let (method, weight) = (method(configuration.forwarding), configuration.weight);
                writeln!(f, " {method:7} {weight:<6} {active:<10} {inactive:<10}")
            }
            View::Thresholds => {
                let (upper, lower) = (configuration.upper_threshold, configuration.lower_threshold);
                writeln!(f, " {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
            }
            View::Stats | View::Rate => writeln!(f, "{}", self.counters(&entry.stats)),
        }
    }

    fn counters(&self, stats: &Stats) -> String {
        let rates = &stats.rates;
        let counters = match self.view {
            View::Rate => [
                rates.connections,
                rates.incoming_packets,
                rates.outgoing_packets,
                rates.incoming_bytes,
                rates.outgoing_bytes,
            ],
            _ => [
                stats.connections,
                stats.incoming_packets,
                stats.outgoing_packets,
                stats.incoming_bytes,
                stats.outgoing_bytes,
            ],
        };
        counters.map(|count| format!(" {:>8}", self.number(count))).concat()
    }

    /// A number, in thousands, millions and so on if it would not fit its column.
    fn number(&self, count: u64) -> String {
        let mut rest = count;
        for unit in ["", "K", "M", "G", "T"] {
            if self.exact || rest < 100_000_000 {
                return format!("{rest}{unit}");
            }
            rest /= 1000;
        }
        format!("{rest}P")
    }
}

fn name(key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Mark { mark, family, .. } => match family {
            ipvs_netlink::Family::V4 => format!("FWM  {mark}"),
            ipvs_netlink::Family::V6 => format!("FWM  {mark} IPv6"),
        },
        ServiceKey::Address { protocol, address, port, .. } => {
            let protocol = protocol.to_string().to_uppercase();
            format!("{protocol:4} {}", std::net::SocketAddr::new(address, port))
        }
        other => other.to_string(),
    }
}

fn configuration(service: &Service) -> String {
    let Service { scheduler, persistence, one_packet, flags, .. } = service;
    let options = scheduler.hash_options().unwrap_or_default();
    let scheduler = scheduler.name();
    let mut names = Vec::new();
    names.extend(options.fallback.then(|| format!("{scheduler}-fallback")));
    names.extend(options.port.then(|| format!("{scheduler}-port")));
    names.extend(Some(flags.to_string()).filter(|text| !text.is_empty()));
    let mut words = vec![scheduler.to_owned()];
    if !names.is_empty() {
        words.push(format!("({})", names.join(",")));
    }
    if let Some(persistence) = persistence {
        words.push(format!("persistent {}", persistence.seconds));
        words.extend(persistence.netmask.map(|netmask| format!("mask {netmask}")));
        words.extend(persistence.engine.map(|engine| format!("pe {engine}")));
    }
    words.extend(one_packet.then(|| "ops".to_owned()));
    words.join(" ")
}

fn method(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Masquerade => "Masq",
        Forwarding::Local => "Local",
        Forwarding::Tunnel(_) => "Tunnel",
        Forwarding::DirectRoute => "Route",
        Forwarding::Bypass => "Bypass",
        _ => "Other",
    }
}
