//! Each scheduler under each kind of service, changed to every other.

use anyhow::Context;
use ipvs_netlink::{HashOptions, Protocol, Scheduler, Service, ServiceFlags};

use super::{GRE, add_and_remove, holds, keys, schedulers};
use crate::case::{Outcome, cases};
use crate::rules::web;
use crate::subject::Subject;

cases![
    each_scheduler_under_tcp,
    each_scheduler_under_udp,
    each_scheduler_under_sctp,
    each_scheduler_under_another_protocol,
    each_scheduler_under_a_mark,
    each_option_of_each_hash,
    each_flag_under_each_scheduler,
];

async fn each_scheduler_under_tcp(subject: &mut Subject) -> Outcome {
    each_scheduler(subject, Some(Protocol::TCP)).await
}

async fn each_scheduler_under_udp(subject: &mut Subject) -> Outcome {
    each_scheduler(subject, Some(Protocol::UDP)).await
}

async fn each_scheduler_under_sctp(subject: &mut Subject) -> Outcome {
    each_scheduler(subject, Some(Protocol::SCTP)).await
}

async fn each_scheduler_under_another_protocol(subject: &mut Subject) -> Outcome {
    each_scheduler(subject, Some(GRE)).await
}

async fn each_scheduler_under_a_mark(subject: &mut Subject) -> Outcome {
    each_scheduler(subject, None).await
}

/// Both families of a protocol, or of a mark: every scheduler is created, and every one is changed
/// to every other.
async fn each_scheduler(subject: &mut Subject, wanted: Option<Protocol>) -> Outcome {
    let all = schedulers(subject);
    for key in keys() {
        if key.protocol() != wanted {
            continue;
        }
        let service = Service::new(key);
        for (index, &from) in all.iter().enumerate() {
            subject.client.add_service(&service.scheduler(from)).await?;
            holds(subject, &service.scheduler(from)).await?;
            // Change to each later scheduler and back, so that every pair is changed both ways.
            for &other in &all[index + 1..] {
                for to in [other, from] {
                    let changed = subject.client.update_service(&service.scheduler(to)).await;
                    changed.with_context(|| format!("{key}, {from} and {other}, to {to}"))?;
                    holds(subject, &service.scheduler(to)).await?;
                }
            }
            subject.client.remove_service(key).await?;
        }
    }
    assert!(subject.client.services().await?.is_empty());
    Ok(())
}

async fn each_option_of_each_hash(subject: &mut Subject) -> Outcome {
    for key in keys() {
        for fallback in [false, true] {
            for port in [false, true] {
                let options = HashOptions::default().fallback(fallback).port(port);
                for scheduler in [Scheduler::SourceHash(options), Scheduler::MaglevHash(options)] {
                    add_and_remove(subject, &Service::new(key).scheduler(scheduler)).await?;
                }
            }
        }
    }
    Ok(())
}

/// The kernel accepts every flag, so none may be lost, even if only newer kernels know it.
async fn each_flag_under_each_scheduler(subject: &mut Subject) -> Outcome {
    for scheduler in schedulers(subject) {
        for bit in 3..32 {
            let flags = ServiceFlags::from_bits_retain(1 << bit);
            let own = ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_2;
            if scheduler.hash_options().is_some() && own.contains(flags) {
                continue; // These flags are options of the scheduler.
            }
            add_and_remove(subject, &web().scheduler(scheduler).flags(flags)).await?;
        }
    }
    Ok(())
}
