//! All settings of a service except its scheduler.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipvs_netlink::{Family, Netmask, Persistence, Protocol, Service, ServiceKey, TimeoutsUpdate};

use super::{FAMILIES, add_and_remove, keys, virtual_address};
use crate::case::{Outcome, cases};
use crate::rules::{vip, vip6, web};
use crate::subject::Subject;

cases![
    each_address_and_port,
    each_protocol_number,
    each_mark,
    one_packet_under_each_kind,
    each_persistence_timeout,
    each_netmask,
    each_prefix_length,
    each_persistence_engine,
    port_0_with_persistence,
    each_timeout,
];

async fn each_address_and_port(subject: &mut Subject) -> Outcome {
    for port in [0, 1, 80, 255, 256, 0x0102, 32768, u16::MAX] {
        for address in ["0.0.0.0", "10.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            let address: Ipv4Addr = address.parse()?;
            add_and_remove(subject, &on_port(Service::tcp(address, port), port)).await?;
        }
        for address in ["::", "::1", "fe80::1", "ff02::1", "2001:db8::ffff:ffff:ffff:ffff"] {
            let address: std::net::Ipv6Addr = address.parse()?;
            add_and_remove(subject, &on_port(Service::udp(address, port), port)).await?;
        }
    }
    Ok(())
}

/// Puts a service on a port; port 0 needs persistence.
fn on_port(service: Service, port: u16) -> Service {
    if port == 0 { service.persistence(Duration::from_secs(60)) } else { service }
}

async fn each_protocol_number(subject: &mut Subject) -> Outcome {
    for number in (0..256).chain([256, 300, 0x0601, u16::MAX]) {
        add_and_remove(subject, &Service::address(Protocol::from_number(number), vip(), 80))
            .await?;
    }
    Ok(())
}

async fn each_mark(subject: &mut Subject) -> Outcome {
    for family in FAMILIES {
        for mark in [1, 255, 256, 65535, 65536, 0x0102_0304, 1 << 31, u32::MAX] {
            add_and_remove(subject, &Service::mark(mark, family).unwrap()).await?;
        }
    }
    Ok(())
}

async fn one_packet_under_each_kind(subject: &mut Subject) -> Outcome {
    for key in keys().into_iter().filter(takes_one_packet) {
        let service = Service::new(key).one_packet(true);
        add_and_remove(subject, &service).await?;
        add_and_remove(subject, &service.persistence(Duration::from_secs(60))).await?;
    }
    Ok(())
}

/// Whether a service can schedule each packet by itself: TCP and SCTP have connections.
fn takes_one_packet(key: &ServiceKey) -> bool {
    !matches!(key.protocol(), Some(Protocol::TCP | Protocol::SCTP))
}

async fn each_persistence_timeout(subject: &mut Subject) -> Outcome {
    for key in keys() {
        // The last timeout is the longest at 250 clock ticks a second.
        for seconds in [1, 360, 65535, 65536, 2_678_400, 17_179_868] {
            let timeout = Duration::from_secs(seconds);
            add_and_remove(subject, &Service::new(key).persistence(timeout)).await?;
        }
    }
    Ok(())
}

async fn each_netmask(subject: &mut Subject) -> Outcome {
    let prefixes = (0..=32u32).map(|length| u32::MAX.checked_shl(32 - length).unwrap_or(0));
    for bits in prefixes.chain([0x00ff_00ff, 1, 0x0102_0304]) {
        let mask = Netmask::V4(Ipv4Addr::from(bits));
        let minute = Persistence::new(Duration::from_secs(60)).netmask(mask);
        let marked = Service::mark(1, Family::V4).unwrap();
        for service in [web(), marked] {
            add_and_remove(subject, &service.persistence(minute).normalized()).await?;
        }
    }
    Ok(())
}

async fn each_prefix_length(subject: &mut Subject) -> Outcome {
    for length in 1..=128 {
        let minute = Persistence::new(Duration::from_secs(60)).netmask(Netmask::V6(length));
        let marked = Service::mark(1, Family::V6).unwrap();
        for service in [Service::tcp(vip6(), 80), marked] {
            add_and_remove(subject, &service.persistence(minute).normalized()).await?;
        }
    }
    Ok(())
}

async fn each_persistence_engine(subject: &mut Subject) -> Outcome {
    for key in keys() {
        for one_packet in [false, takes_one_packet(&key)] {
            let sip = Persistence::new(Duration::from_secs(60)).engine("sip".parse()?);
            let service = Service::new(key).persistence(sip).one_packet(one_packet);
            subject.client.add_service(&service).await?;
            // Persistence is set, changed, removed and set again.
            for persistence in [Some(sip), Some(Duration::from_secs(60).into()), None, Some(sip)] {
                let mut service = service;
                service.persistence = persistence;
                subject.client.update_service(&service).await?;
                super::holds(subject, &service).await?;
            }
            subject.client.remove_service(key).await?;
        }
    }
    Ok(())
}

async fn port_0_with_persistence(subject: &mut Subject) -> Outcome {
    for family in FAMILIES {
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            let key = ServiceKey::address(protocol, virtual_address(family), 0);
            let service = Service::new(key).persistence(Duration::from_secs(360));
            add_and_remove(subject, &service).await?;
        }
    }
    Ok(())
}

/// The longest timeouts here are the longest at 250 clock ticks a second.
async fn each_timeout(subject: &mut Subject) -> Outcome {
    for seconds in [1, 2, 60, 255, 256, 65536, 8_589_934] {
        let timeout = Duration::from_secs(seconds);
        let none = TimeoutsUpdate::default();
        for (index, update) in
            [none.tcp(timeout), none.tcp_fin(timeout), none.udp(timeout)].into_iter().enumerate()
        {
            let before = subject.client.timeouts().await?;
            let mut wanted = [before.tcp, before.tcp_fin, before.udp];
            wanted[index] = timeout;
            subject.client.set_timeouts(update).await?;
            let after = subject.client.timeouts().await?;
            assert_eq!([after.tcp, after.tcp_fin, after.udp], wanted);
            subject.combinations += 1;
        }
    }
    Ok(())
}
