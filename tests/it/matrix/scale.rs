//! Tables as large as those of large clusters are read and written completely.

use std::collections::BTreeSet;

use ipvs_netlink::{Destination, Ruleset, Service};

use crate::case::{Outcome, cases};
use crate::rules::{real, vip, vip6, web};
use crate::subject::Subject;

cases![three_thousand_destinations_are_complete, five_thousand_services_are_complete];

/// Other libraries collect a listing in 32 KiB, or receive into 4 KiB, and lose the rest.
async fn three_thousand_destinations_are_complete(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let wanted: Vec<_> =
        (0..3000).map(|n| Destination::masquerade(real(n), 80).weight(n.into())).collect();
    for destination in &wanted {
        subject.client.add_destination(web().key, destination).await?;
    }
    let mut read: Vec<_> = subject.client.destinations(web().key).await?;
    read.reverse();
    assert!(read.iter().map(|entry| &entry.destination).eq(&wanted));
    // Weights change one by one, and none is lost.
    for destination in &wanted {
        subject.client.update_destination(web().key, &destination.weight(7)).await?;
    }
    let read = subject.client.destinations(web().key).await?;
    assert_eq!(read.len(), wanted.len());
    assert!(read.iter().all(|entry| entry.destination.weight == 7));
    for destination in &wanted {
        subject.client.remove_destination(web().key, destination.key).await?;
    }
    assert!(subject.client.destinations(web().key).await?.is_empty());
    subject.combinations += wanted.len();
    Ok(())
}

/// Linux 7.1 and later resize the table meanwhile, which disorders listings under way.
async fn five_thousand_services_are_complete(subject: &mut Subject) -> Outcome {
    let mut wanted = Ruleset::new();
    for port in 1..=2500 {
        for address in [vip(), vip6()] {
            wanted.insert_service(Service::tcp(address, port))?;
        }
    }
    for (added, rules) in (1..).zip(wanted.services()) {
        subject.client.add_service(rules.service()).await?;
        if added % 50 == 0 {
            let read = subject.client.services().await?;
            let keys: BTreeSet<_> = read.iter().map(|entry| entry.service.key).collect();
            assert_eq!((read.len(), keys.len()), (added, added));
        }
    }
    assert_eq!(subject.client.ruleset().await?, wanted);
    subject.combinations += wanted.services().len();
    Ok(())
}
