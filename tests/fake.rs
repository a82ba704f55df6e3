//! The fake kernel as a client sees it: its table, its life, its host.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::{Ipv4Addr, Ipv6Addr};

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::Kernel;
use ipvs_netlink::*;

fn backend(last: u8) -> Destination {
    Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 8080)
}

#[test]
fn several_clients_share_one_table() {
    let kernel = Kernel::new();
    let mut one = Client::connect_to(&kernel).unwrap();
    let mut other = Client::connect_to(&kernel).unwrap();
    let web = Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80);
    one.add_service(&web).unwrap();
    for last in 1..=3 {
        one.add_destination(web.key, &backend(last)).unwrap();
    }
    assert!(other.add_service(&web).unwrap_err().is_already_exists());
    let listed: Vec<_> =
        other.destinations(web.key).unwrap().into_iter().map(|d| d.destination).collect();
    assert_eq!(listed, [backend(3), backend(2), backend(1)], "newest first");
    let info = other.info().unwrap();
    assert_eq!((info.version.to_string().as_str(), info.connection_table_size), ("1.2.1", 4096));
    other.flush().unwrap();
    assert!(one.services().unwrap().is_empty());
    let v6 = Service::udp(Ipv6Addr::LOCALHOST, 53);
    one.add_service(&v6).unwrap();
    assert_eq!(other.service(v6.key).unwrap().service, v6);
}
