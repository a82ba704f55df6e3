//! The example `list` beside the real `ipvsadm -Ln`.

#[path = "../../examples/list/table.rs"]
mod table;

use std::collections::BTreeSet;

use ipvs_netlink::{Operation, Ruleset, Service};

use self::table::{Listing, View};
use crate::case::{Outcome, cases};
use crate::random::{Speaker, rulesets, samples};
use crate::rules::{backend, rich};
use crate::subject::{Subject, program};

cases![
    an_empty_table_is_an_empty_table,
    the_table_is_as_people_know_it,
    addresses_come_as_numbers,
    long_numbers_fit_their_columns,
];

const VIEWS: [(View, &[&str]); 4] = [
    (View::Connections, &["-L", "-n"]),
    (View::Stats, &["-L", "-n", "--stats"]),
    (View::Rate, &["-L", "-n", "--rate"]),
    (View::Thresholds, &["-L", "-n", "--thresholds"]),
];

async fn ours(subject: &mut Subject, view: View) -> anyhow::Result<String> {
    let (info, table) = (subject.client.info().await?, subject.client.table().await?);
    Ok(Listing { info, table, view, exact: false }.to_string())
}

/// The heading, and the services with their destinations, white space aside. Their order is not
/// compared, since ipvsadm sorts by a subtraction that overflows.
fn parts(text: &str) -> (Vec<String>, BTreeSet<(String, BTreeSet<String>)>) {
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = text.lines().map(squeezed);
    let head = lines.by_ref().take(3).collect();
    let mut services: Vec<(String, BTreeSet<String>)> = Vec::new();
    for line in lines {
        match services.last_mut() {
            Some((_, destinations)) if line.starts_with("->") => {
                destinations.insert(line);
            }
            _ => services.push((line, BTreeSet::new())),
        }
    }
    (head, services.into_iter().collect())
}

async fn same_as_ipvsadm(subject: &mut Subject) -> Outcome {
    for (view, arguments) in VIEWS {
        let theirs = program("ipvsadm", arguments)?;
        assert_eq!(parts(&ours(subject, view).await?), parts(&theirs));
    }
    Ok(())
}

async fn an_empty_table_is_an_empty_table(subject: &mut Subject) -> Outcome {
    for (view, arguments) in VIEWS {
        let listed = ours(subject, view).await?;
        assert_eq!(listed.lines().count(), 3, "{listed}");
        // White space counts here, except at the ends of lines.
        let theirs = program("ipvsadm", arguments)?;
        assert!(theirs.lines().map(str::trim_end).eq(listed.lines()), "{theirs}{listed}");
    }
    Ok(())
}

async fn the_table_is_as_people_know_it(subject: &mut Subject) -> Outcome {
    let random = samples(rulesets(Speaker::Ipvsadm, subject.schedulers()), 10);
    for rules in std::iter::once(rich()).chain(random) {
        subject.client.flush().await?;
        add(subject, &rules).await?;
        same_as_ipvsadm(subject).await?;
    }
    Ok(())
}

async fn add(subject: &mut Subject, rules: &Ruleset) -> Outcome {
    let mut operations = Vec::new();
    for rules in rules.services() {
        let key = rules.key();
        operations.push(Operation::AddService(*rules.service()));
        operations.extend(rules.destinations().map(|d| Operation::AddDestination(key, *d)));
    }
    for result in subject.client.batch(operations).await? {
        result?;
    }
    Ok(())
}

/// 192.168.0.1 came before 10.0.0.1, and 10.0.0.10 before 10.0.0.9.
async fn addresses_come_as_numbers(subject: &mut Subject) -> Outcome {
    for address in [[192, 168, 0, 1], [10, 0, 0, 10], [10, 0, 0, 9]] {
        let service = Service::tcp(address, 80);
        subject.client.add_service(&service).await?;
        for n in [300, 2, 10] {
            subject.client.add_destination(service.key, &backend(n)).await?;
        }
    }
    let listed = ours(subject, View::Connections).await?;
    let seen: Vec<_> =
        listed.lines().skip(3).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    let servers = ["10.1.0.2:8080", "10.1.0.10:8080", "10.1.1.44:8080"];
    let mut wanted = Vec::new();
    for service in ["10.0.0.9:80", "10.0.0.10:80", "192.168.0.1:80"] {
        wanted.push(service);
        wanted.extend(servers);
    }
    assert_eq!(seen, wanted);
    Ok(())
}

async fn long_numbers_fit_their_columns(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&Service::tcp([10, 0, 0, 1], 80)).await?;
    let (info, mut table) = (subject.client.info().await?, subject.client.table().await?);
    let stats = &mut table.services[0].entry.stats;
    stats.connections = 99_999_999;
    stats.incoming_packets = 100_000_000;
    stats.outgoing_packets = 123_456_789_012;
    stats.incoming_bytes = u64::MAX;
    let mut listing = Listing { info, table, view: View::Stats, exact: false };
    let wanted = "99999999 100000K 123456M 18446744T 0";
    assert!(parts(&listing.to_string()).1.first().unwrap().0.ends_with(wanted), "{listing}");
    listing.exact = true;
    let wanted = "99999999 100000000 123456789012 18446744073709551615 0";
    assert!(parts(&listing.to_string()).1.first().unwrap().0.ends_with(wanted), "{listing}");
    Ok(())
}
