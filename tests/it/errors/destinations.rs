//! Destinations that the kernel refuses.

use std::net::IpAddr;

use ipvs_netlink::{DaemonRole, Destination, Errno, Service, SyncDaemon, Tunnel};

use super::refused;
use crate::case::{Outcome, cases};
use crate::rules::{backend, real, real6, vip6, web};
use crate::subject::Subject;
use crate::tampered::{Tampered, is_command, set_value};

cases![
    an_unknown_destination,
    a_destination_that_is_there,
    an_ipv4_address_of_no_host,
    an_ipv6_address_of_no_host,
    an_upper_threshold_of_32_bits,
    another_family_while_a_sync_daemon_runs,
    what_is_refused_before_sending_the_kernel_refuses_too,
];

async fn an_unknown_destination(subject: &mut Subject) -> Outcome {
    let client = &mut subject.client;
    client.add_service(&web()).await?;
    let says = "the service has no such destination";
    let unlisted = client.destination(web().key, backend(1).key).await.unwrap_err();
    assert!(unlisted.to_string().contains(says), "{unlisted}");
    assert_eq!(unlisted.errno(), None, "the kernel has not refused anything");
    for error in [
        unlisted,
        refused(client.update_destination(web().key, &backend(1)).await, Errno::NOENT, says),
        refused(client.remove_destination(web().key, backend(1).key).await, Errno::NOENT, says),
    ] {
        assert!(error.is_destination_not_found() && error.is_not_found(), "{error}");
        assert!(!error.is_service_not_found() && !error.is_module_not_found(), "{error}");
    }
    Ok(())
}

async fn a_destination_that_is_there(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    subject.client.add_destination(web().key, &backend(1)).await?;
    let again = backend(1).weight(9);
    let added = subject.client.add_destination(web().key, &again).await;
    let error = refused(added, Errno::EXIST, "the destination is there already; update it instead");
    assert!(error.is_already_exists(), "{error}");
    Ok(())
}

async fn an_ipv4_address_of_no_host(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let says = "the address must be local or unicast by the routing table";
    subject.add_network()?;
    for address in ["0.0.0.0", "224.0.0.1", "239.1.1.1", "255.255.255.255", "127.255.255.255"] {
        let nowhere = Destination::masquerade(address.parse::<IpAddr>()?, 80);
        refused(subject.client.add_destination(web().key, &nowhere).await, Errno::INVAL, says);
    }
    let broadcast = Destination::masquerade([10, 7, 7, 255], 80);
    let added = subject.client.add_destination(web().key, &broadcast).await;
    subject.remove_network()?;
    refused(added, Errno::INVAL, says);
    // The kernel takes these addresses, odd as they look.
    for address in ["0.0.0.1", "127.0.0.1", "240.0.0.1"] {
        let odd = Destination::masquerade(address.parse::<IpAddr>()?, 80);
        subject.client.add_destination(web().key, &odd).await?;
    }
    Ok(())
}

async fn an_ipv6_address_of_no_host(subject: &mut Subject) -> Outcome {
    let service = Service::tcp(vip6(), 80);
    subject.client.add_service(&service).await?;
    let says = "the address must be unicast, and not link-local unless it is this host's own";
    for address in ["::", "ff02::1", "::ffff:10.0.0.1", "fe80::1"] {
        let nowhere = Destination::masquerade(address.parse::<IpAddr>()?, 80);
        refused(subject.client.add_destination(service.key, &nowhere).await, Errno::INVAL, says);
    }
    for address in ["::1", "2001:db8::9", "fc00::1"] {
        let somewhere = Destination::masquerade(address.parse::<IpAddr>()?, 80);
        subject.client.add_destination(service.key, &somewhere).await?;
    }
    Ok(())
}

async fn an_upper_threshold_of_32_bits(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    subject.client.add_destination(web().key, &backend(1)).await?;
    if subject.release.largest_threshold() == u32::MAX {
        // This kernel takes the threshold, as `destinations` tests.
        return Ok(());
    }
    let says = "this kernel takes no upper threshold above 2147483647";
    for upper in [1 << 31, u32::MAX] {
        let more = backend(1).thresholds(upper, 1);
        refused(subject.client.update_destination(web().key, &more).await, Errno::INVAL, says);
        let more = backend(2).thresholds(upper, upper);
        refused(subject.client.add_destination(web().key, &more).await, Errno::INVAL, says);
    }
    Ok(())
}

async fn another_family_while_a_sync_daemon_runs(subject: &mut Subject) -> Outcome {
    let service = Service::tcp(vip6(), 80);
    let mixed = Destination::tunnel(real(1), 80, Tunnel::Ipip);
    subject.client.add_service(&service).await?;
    let daemon = SyncDaemon::new(DaemonRole::Backup, "lo".parse()?);
    subject.client.start_daemon(&daemon).await?;
    let says = "refused while a sync daemon runs; stop it first";
    refused(subject.client.add_destination(service.key, &mixed).await, Errno::INVAL, says);
    refused(subject.client.update_destination(service.key, &mixed).await, Errno::INVAL, says);
    let same = Destination::tunnel(real6(1), 80, Tunnel::Ipip);
    subject.client.add_destination(service.key, &same).await?;
    subject.client.stop_daemon(DaemonRole::Backup).await?;
    // The same in the other order.
    subject.client.add_destination(service.key, &mixed).await?;
    let says = "cannot run while a destination is of another address family than its service's";
    refused(subject.client.start_daemon(&daemon).await, Errno::INVAL, says);
    subject.client.remove_destination(service.key, mixed.key).await?;
    subject.client.start_daemon(&daemon).await?;
    Ok(())
}

const WEIGHT: u16 = 4;
const LOWER_THRESHOLD: u16 = 6;
const ADDRESS_FAMILY: u16 = 11;
const TUNNEL_PORT: u16 = 14;
const AF_INET6: u16 = 10;

/// The crate may refuse without asking the kernel only what no kernel takes.
async fn what_is_refused_before_sending_the_kernel_refuses_too(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let add = |kind: u16, value: u32| -> anyhow::Result<_> {
        let mut client = Tampered::client(subject, move |message| {
            if is_command(message, 5) {
                // The last attribute of the kind is the destination's: the service's attributes
                // come first.
                set_value(message, kind, &value.to_ne_bytes());
            }
        })?;
        Ok(client.add_destination(web().key, &backend(1)))
    };
    refused(add(WEIGHT, 1 << 31)?, Errno::RANGE, "");
    refused(add(WEIGHT, u32::MAX)?, Errno::RANGE, "");
    // The lower threshold is above the upper one, which is 0.
    refused(add(LOWER_THRESHOLD, 1)?, Errno::RANGE, "");
    // The destination is of another family, without a tunnel.
    let mut client = Tampered::client(subject, |message| {
        if is_command(message, 5) {
            set_value(message, ADDRESS_FAMILY, &AF_INET6.to_ne_bytes());
        }
    })?;
    refused(client.add_destination(web().key, &backend(1)), Errno::INVAL, "");
    let mut client = Tampered::client(subject, |message| {
        if is_command(message, 5) || is_command(message, 6) {
            set_value(message, TUNNEL_PORT, &[0, 0]);
        }
    })?;
    let gue = Destination::tunnel(real(1), 8080, Tunnel::gue(6080)?);
    refused(client.add_destination(web().key, &gue), Errno::INVAL, "");
    add(WEIGHT, 1)??;
    refused(client.update_destination(web().key, &gue), Errno::INVAL, "");
    Ok(())
}
