//! `/proc/net/ip_vs_conn` and `/proc/net/ip_vs_conn_sync`: the connection table as text.

use std::borrow::Cow;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::columns::{hexadecimal, protocol_name};
use super::destination::KernelDestination;
use super::key::{Key, ip};
use super::table::KernelTable;
use crate::uapi::ipvs::AF_INET;

/// How many ports a made-up client uses before the next client comes.
const PORTS: u64 = 60_000;
const FIRST_PORT: u64 = 1024;

const CONNECTIONS: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";
const WITH_ORIGIN: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n";

/// The text of the connection table, made as it is read: tests set millions of connections.
pub(super) struct Rows {
    groups: std::vec::IntoIter<Group>,
    group: Option<Group>,
    with_origin: bool,
    /// The number of rows so far, from which the next row's client is made up.
    count: u64,
    text: io::Cursor<String>,
}

/// Rows that differ only in the client.
#[derive(Clone)]
struct Group {
    protocol: Cow<'static, str>,
    family: u16,
    /// Whether the rows are templates.
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
    pub(super) fn new(table: &KernelTable, hz: u32, with_origin: bool) -> Self {
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
            [client, group.virtual_address, group.destination].map(hexadecimal);
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

/// A made-up client, in one of the networks that are reserved for tests and examples.
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
    destination: &KernelDestination,
    [established, fin, udp]: [u32; 3],
    persistence: u32,
) {
    let family = key.family();
    // Packets of a mark can have any address and protocol. These rows have an address reserved for
    // examples, and TCP.
    let (number, virtual_address, virtual_port) = match key {
        Key::Address { protocol, address, port, .. } => (protocol, ip(family, address), port),
        Key::Mark { .. } if family == AF_INET => (6, Ipv4Addr::new(192, 0, 2, 1).into(), 80),
        Key::Mark { .. } => (6, Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into(), 80),
    };
    let (inactive, expires) = match number {
        6 => ("TIME_WAIT", fin),
        17 => ("UDP", udp),
        132 => ("INIT", 30),
        _ => ("ERR!", 60),
    };
    let base = Group {
        protocol: protocol_name(number),
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
    // The templates of a service for all ports have no port.
    if templates.virtual_port == 0 {
        templates.destination_port = 0;
    }
    groups.extend([base, inactive, templates]);
}
