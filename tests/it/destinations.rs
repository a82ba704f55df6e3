//! Operations on destinations.

use ipvs_netlink::{Destination, Errno, Forwarding, Tunnel, TunnelChecksum};

use crate::case::{Outcome, cases};
use crate::rules::{backend, real, real6, web};
use crate::subject::Subject;

cases![
    adds_a_destination,
    lists_destinations_newest_first,
    adding_twice_is_refused,
    updates_a_destination,
    an_update_resets_what_it_leaves_out,
    modifies_a_destination,
    removes_a_destination,
    a_missing_destination_is_not_found,
    an_address_of_no_host_is_refused,
    what_no_kernel_takes_is_not_sent,
    an_upper_threshold_of_32_bits_is_taken_by_older_kernels,
];

async fn adds_a_destination(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let wanted = backend(1).weight(3).thresholds(100, 50);
    subject.client.add_destination(web().key, &wanted).await?;
    let entry = subject.client.destination(web().key, wanted.key).await?;
    assert_eq!(entry.destination, wanted);
    assert_eq!((entry.active_connections, entry.inactive_connections), (0, 0));
    Ok(())
}

async fn lists_destinations_newest_first(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    assert!(subject.client.destinations(web().key).await?.is_empty());
    for n in 1..=3 {
        subject.client.add_destination(web().key, &backend(n)).await?;
    }
    let listed = subject.client.destinations(web().key).await?;
    let listed: Vec<_> = listed.into_iter().map(|entry| entry.destination).collect();
    assert_eq!(listed, [backend(3), backend(2), backend(1)]);
    Ok(())
}

async fn adding_twice_is_refused(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    subject.client.add_destination(web().key, &backend(1)).await?;
    let error = subject.client.add_destination(web().key, &backend(1).weight(9)).await.unwrap_err();
    assert!(error.is_already_exists(), "{error}");
    let entry = subject.client.destination(web().key, backend(1).key).await?;
    assert_eq!(entry.destination, backend(1));
    Ok(())
}

async fn updates_a_destination(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    subject.client.add_destination(web().key, &backend(1)).await?;
    let updated = backend(1)
        .weight(7)
        .forwarding(Forwarding::Tunnel(Tunnel::gue(6080)?.checksum(TunnelChecksum::Full)))
        .thresholds(9, 3);
    subject.client.update_destination(web().key, &updated).await?;
    let entry = subject.client.destination(web().key, backend(1).key).await?;
    assert_eq!(entry.destination, updated);
    Ok(())
}

async fn an_update_resets_what_it_leaves_out(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let tunnel = Destination::tunnel(real(1), 8080, Tunnel::gue(6080)?);
    subject.client.add_destination(web().key, &tunnel.thresholds(9, 3)).await?;
    subject.client.update_destination(web().key, &backend(1)).await?;
    let entry = subject.client.destination(web().key, backend(1).key).await?;
    assert_eq!(entry.destination, backend(1));
    Ok(())
}

/// Other libraries lose the tunnel when they change a weight.
async fn modifies_a_destination(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let tunnel = Tunnel::gre().checksum(TunnelChecksum::Full);
    let before = Destination::tunnel(real(1), 8080, tunnel).thresholds(9, 3);
    subject.client.add_destination(web().key, &before).await?;
    let written =
        subject.client.modify_destination(web().key, before.key, |d| d.weight = 5).await?;
    assert_eq!(written, before.weight(5));
    let entry = subject.client.destination(web().key, before.key).await?;
    assert_eq!(entry.destination, before.weight(5));
    Ok(())
}

async fn removes_a_destination(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    subject.client.add_destination(web().key, &backend(1)).await?;
    subject.client.add_destination(web().key, &backend(2)).await?;
    subject.client.remove_destination(web().key, backend(1).key).await?;
    let listed = subject.client.destinations(web().key).await?;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].destination, backend(2));
    Ok(())
}

async fn a_missing_destination_is_not_found(subject: &mut Subject) -> Outcome {
    let client = &mut subject.client;
    client.add_service(&web()).await?;
    for error in [
        client.destination(web().key, backend(1).key).await.unwrap_err(),
        client.update_destination(web().key, &backend(1)).await.unwrap_err(),
        client.remove_destination(web().key, backend(1).key).await.unwrap_err(),
        client.modify_destination(web().key, backend(1).key, |_| ()).await.unwrap_err(),
    ] {
        assert!(error.is_destination_not_found() && error.is_not_found(), "{error}");
        assert!(!error.is_service_not_found(), "{error}");
    }
    Ok(())
}

async fn an_address_of_no_host_is_refused(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let broadcast = Destination::masquerade([255, 255, 255, 255], 80);
    let error = subject.client.add_destination(web().key, &broadcast).await.unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL), "{error}");
    assert!(error.to_string().contains("must be local or unicast"), "{error}");
    Ok(())
}

async fn what_no_kernel_takes_is_not_sent(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    for destination in [
        backend(1).weight(1 << 31),
        backend(1).thresholds(1, 2),
        Destination::masquerade(real6(1), 80),
    ] {
        let error = subject.client.add_destination(web().key, &destination).await.unwrap_err();
        assert!(error.is_invalid() && error.errno().is_none(), "{error}");
    }
    Ok(())
}

/// Older kernels take all thresholds, newer ones only those of 31 bits.
async fn an_upper_threshold_of_32_bits_is_taken_by_older_kernels(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let largest = subject.release.largest_threshold();
    let most = backend(1).thresholds(largest, 1);
    subject.client.add_destination(web().key, &most).await?;
    let read = subject.client.destination(web().key, most.key).await?;
    assert_eq!(read.destination, most);
    if let Some(more) = largest.checked_add(1) {
        let more = backend(2).thresholds(more, 1);
        let error = subject.client.add_destination(web().key, &more).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::INVAL), "{error}");
        assert!(error.to_string().contains("upper threshold"), "{error}");
    }
    Ok(())
}
