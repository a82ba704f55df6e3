//! All settings of a destination, under each kind of service.

use std::net::IpAddr;

use anyhow::ensure;
use ipvs_netlink::{
    Destination, DestinationKey, Family, Forwarding, Service, ServiceKey, Tunnel, TunnelChecksum,
};

use super::{FAMILIES, hold, keys};
use crate::case::{Outcome, cases};
use crate::rules::{backend, real, real6, web};
use crate::subject::Subject;

cases![
    each_forwarding_method_under_each_kind,
    each_tunnel_of_both_families,
    each_weight,
    each_threshold,
    each_port,
    each_method_is_changed_to_every_other,
];

/// The n-th real server of a family.
fn server(family: Family, n: usize) -> IpAddr {
    let n = u16::try_from(n).unwrap();
    match family {
        Family::V4 => real(n),
        Family::V6 => real6(n),
    }
}

/// Every shape of tunnel, and numbers that only newer kernels may know.
fn tunnels() -> Vec<Tunnel> {
    let mut tunnels = Vec::new();
    for kind in [0, 1, 2, 3, 255] {
        for port in [0, 1, 6080, 0x0102, u16::MAX] {
            for flags in [0, 1, 2, 3, 0x0102, u16::MAX] {
                // A gue tunnel needs a port.
                if (kind, port) != (1, 0) {
                    tunnels.push(Tunnel::from_numbers(kind, port, flags));
                }
            }
        }
    }
    let shapes = [TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote]
        .map(|checksum| Tunnel::gue(6080).unwrap().checksum(checksum));
    assert!(shapes.iter().all(|shape| tunnels.contains(shape)));
    tunnels
}

/// Every forwarding method, with the three kinds of tunnels.
fn methods() -> Vec<Forwarding> {
    let tunnels = [Tunnel::Ipip, Tunnel::gue(6080).unwrap(), Tunnel::gre()];
    (0..8)
        .filter(|&number| number != 2)
        .map(|number| Forwarding::from_number(number, Tunnel::Ipip))
        .chain(tunnels.map(Forwarding::Tunnel))
        .collect()
}

async fn each_forwarding_method_under_each_kind(subject: &mut Subject) -> Outcome {
    for key in keys() {
        let wanted: Vec<_> = methods()
            .into_iter()
            .enumerate()
            .map(|(n, method)| Destination::new((server(key.family(), n), 80), method))
            .collect();
        hold(subject, &Service::new(key), &wanted).await?;
    }
    Ok(())
}

/// A destination behind a tunnel may be of another family than its service.
async fn each_tunnel_of_both_families(subject: &mut Subject) -> Outcome {
    for key in keys() {
        for family in FAMILIES {
            let wanted: Vec<_> = tunnels()
                .into_iter()
                .enumerate()
                .map(|(n, tunnel)| Destination::tunnel(server(family, n), 80, tunnel))
                .collect();
            hold(subject, &Service::new(key), &wanted).await?;
        }
    }
    Ok(())
}

async fn each_weight(subject: &mut Subject) -> Outcome {
    let weights = [0, 1, 255, 256, 65535, 65536, 0x0102_0304, i32::MAX.cast_unsigned()];
    for key in keys() {
        let wanted: Vec<_> = weights
            .into_iter()
            .enumerate()
            .map(|(n, weight)| Destination::masquerade(server(key.family(), n), 80).weight(weight))
            .collect();
        hold(subject, &Service::new(key), &wanted).await?;
    }
    Ok(())
}

async fn each_threshold(subject: &mut Subject) -> Outcome {
    let limits = [0, 1, 65535, 65536, 0x0102_0304, i32::MAX.cast_unsigned()];
    for key in keys() {
        let mut wanted = Vec::new();
        for upper in limits {
            for lower in limits.into_iter().filter(|&lower| lower <= upper) {
                let address = server(key.family(), wanted.len());
                wanted.push(Destination::masquerade(address, 80).thresholds(upper, lower));
            }
        }
        hold(subject, &Service::new(key), &wanted).await?;
    }
    Ok(())
}

/// One address with many ports, among them ports whose bytes would show if they were swapped.
async fn each_port(subject: &mut Subject) -> Outcome {
    for key in keys() {
        let wanted: Vec<_> = [0, 1, 80, 255, 256, 0x0102, 32768, u16::MAX]
            .into_iter()
            .map(|port| Destination::masquerade(server(key.family(), 1), port))
            .collect();
        hold(subject, &Service::new(key), &wanted).await?;
    }
    Ok(())
}

async fn each_method_is_changed_to_every_other(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    subject.client.add_destination(web().key, &backend(1)).await?;
    for from in methods() {
        for to in methods() {
            for method in [from, to] {
                change(subject, web().key, &backend(1).forwarding(method)).await?;
            }
            subject.combinations += 1;
        }
    }
    Ok(())
}

async fn change(subject: &mut Subject, service: ServiceKey, wanted: &Destination) -> Outcome {
    subject.client.update_destination(service, wanted).await?;
    let key: DestinationKey = wanted.key;
    let read = subject.client.destination(service, key).await?.destination;
    ensure!(read == *wanted, "written {wanted:?}, read {read:?}");
    Ok(())
}
