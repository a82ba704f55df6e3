//! `/proc/net/ip_vs`: the whole table as text.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::columns::{hexadecimal, protocol_name};
use super::destination::KernelDestination;
use super::host::VERSION;
use super::key::{Key, ip};
use super::service::KernelService;
use super::table::KernelTable;
use crate::uapi::ipvs::service::{ONE_PACKET, PERSISTENT};

/// The names of the forwarding methods, by their numbers; any other number has the first name.
const METHODS: [&str; 4] = ["Masq", "Local", "Tunnel", "Route"];

pub(super) fn listing(table: &KernelTable, connection_buckets: u32) -> String {
    let [_, major, minor, patch] = VERSION.to_be_bytes();
    let mut text = format!(
        "IP Virtual Server version {major}.{minor}.{patch} (size={connection_buckets})\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
    );
    for (key, service) in &table.services {
        add_service(&mut text, *key, service);
    }
    text
}

fn add_service(text: &mut String, key: Key, service: &KernelService) {
    let scheduler = service.scheduler.as_deref().unwrap_or("none");
    let is = |flag| service.flags & flag != 0;
    let one_packet = if is(ONE_PACKET) { "ops " } else { "" };
    let named = match key {
        Key::Address { protocol, address, port, .. } => {
            let (protocol, address) = (protocol_name(protocol), ip(key.family(), address));
            let endpoint = endpoint(address, port);
            match address {
                IpAddr::V4(_) => format!("{protocol}  {endpoint} {scheduler} {one_packet} "),
                IpAddr::V6(_) => format!("{protocol}  {endpoint} {scheduler} "),
            }
        }
        Key::Mark { mark, .. } => format!("FWM  {mark:08X} {scheduler} {one_packet}"),
    };
    let persistent = if is(PERSISTENT) {
        let netmask = u32::from_be_bytes(service.netmask);
        format!("persistent {} {netmask:08X}", service.timeout.cast_signed())
    } else {
        String::new()
    };
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{named}{persistent}");
    for destination in service.destinations.iter().rev() {
        add_destination(text, destination);
    }
}

fn add_destination(text: &mut String, destination: &KernelDestination) {
    let KernelDestination { id, settings, active, inactive, .. } = destination;
    let endpoint = endpoint(ip(id.family, id.address), id.port);
    let method = usize::try_from(settings.forwarding).ok().and_then(|method| METHODS.get(method));
    let method = method.unwrap_or(&METHODS[0]);
    let weight = settings.weight.cast_signed();
    let _ =
        writeln!(text, "  -> {endpoint}      {method:7} {weight:<6} {active:<10} {inactive:<10}");
}

fn endpoint(address: IpAddr, port: u16) -> String {
    let text = hexadecimal(address);
    match address {
        IpAddr::V4(_) => format!("{text}:{port:04X}"),
        IpAddr::V6(_) => format!("[{text}]:{port:04X}"),
    }
}
