//! The matrix: every combination that a user can write is read back equal.

mod daemons;
mod destinations;
mod scale;
mod schedulers;
mod services;

use std::net::IpAddr;

use anyhow::{Context, ensure};
use ipvs_netlink::{Destination, Family, Protocol, Scheduler, Service, ServiceKey};

use crate::case::{Case, Outcome};
use crate::rules::{vip, vip6};
use crate::subject::Subject;

pub(crate) fn cases() -> Vec<Case> {
    let groups = [
        schedulers::cases(),
        services::cases(),
        destinations::cases(),
        daemons::cases(),
        scale::cases(),
    ];
    groups.into_iter().flatten().map(Case::long).collect()
}

/// Another protocol for the kernel: generic routing encapsulation.
const GRE: Protocol = Protocol::from_number(47);
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The virtual address of a family.
fn virtual_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => vip(),
        Family::V6 => vip6(),
    }
}

/// A service of every kind: each protocol, a mark, both families of each.
fn keys() -> Vec<ServiceKey> {
    FAMILIES
        .into_iter()
        .flat_map(|family| {
            let address = virtual_address(family);
            [Protocol::TCP, Protocol::UDP, Protocol::SCTP, GRE]
                .map(|protocol| ServiceKey::address(protocol, address, 4433))
                .into_iter()
                .chain([ServiceKey::mark(77, family).unwrap()])
        })
        .collect()
}

/// The schedulers that the kernel has, and the absence of one.
fn schedulers(subject: &Subject) -> Vec<Scheduler> {
    let mut schedulers = subject.schedulers();
    schedulers.push(Scheduler::Unbound);
    schedulers
}

/// Asserts that the kernel has the service as it was written, and counts the combination.
async fn holds(subject: &mut Subject, service: &Service) -> Outcome {
    let read = subject.client.service(service.key).await?.service;
    ensure!(read == *service, "written {service:?}, read {read:?}");
    subject.combinations += 1;
    Ok(())
}

/// Adds a service, reads it back and removes it.
async fn add_and_remove(subject: &mut Subject, service: &Service) -> Outcome {
    let added = subject.client.add_service(service).await;
    added.with_context(|| format!("{service:?}"))?;
    holds(subject, service).await?;
    subject.client.remove_service(service.key).await?;
    Ok(())
}

/// Adds destinations in turn, reads them back in one go, and flushes the table.
async fn hold(subject: &mut Subject, service: &Service, wanted: &[Destination]) -> Outcome {
    subject.client.add_service(service).await?;
    for destination in wanted {
        let added = subject.client.add_destination(service.key, destination).await;
        added.with_context(|| format!("{destination:?}"))?;
    }
    let mut read: Vec<_> = subject.client.destinations(service.key).await?;
    read.reverse(); // The kernel gives the newest first.
    ensure!(read.len() == wanted.len(), "{} of {} were read", read.len(), wanted.len());
    for (read, wanted) in read.iter().zip(wanted) {
        ensure!(read.destination == *wanted, "written {wanted:?}, read {:?}", read.destination);
    }
    subject.combinations += wanted.len();
    subject.client.flush().await?;
    Ok(())
}
