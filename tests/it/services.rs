//! Operations on services.

use std::time::Duration;

use ipvs_netlink::{HashOptions, Scheduler, Service, ServiceKey};

use crate::case::{Outcome, cases};
use crate::rules::{backend, vip, vip6, web};
use crate::subject::Subject;

cases![
    an_empty_table_is_empty,
    adds_a_service,
    lists_services,
    adding_twice_is_refused,
    updates_a_service,
    an_update_resets_what_it_leaves_out,
    modifies_a_service,
    removes_a_service,
    a_missing_service_is_not_found,
    a_missing_scheduler_is_named,
    flushes,
    the_scheduler_twos_is_there_in_newer_kernels,
];

async fn an_empty_table_is_empty(subject: &mut Subject) -> Outcome {
    assert!(subject.client.services().await?.is_empty());
    assert!(subject.client.ruleset().await?.is_empty());
    Ok(())
}

async fn adds_a_service(subject: &mut Subject) -> Outcome {
    let service = web().persistence(Duration::from_secs(300));
    subject.client.add_service(&service).await?;
    assert_eq!(subject.client.service(service.key).await?.service, service);
    Ok(())
}

async fn lists_services(subject: &mut Subject) -> Outcome {
    let wanted = [web(), Service::udp(vip(), 80), Service::tcp(vip6(), 80)];
    for service in &wanted {
        subject.client.add_service(service).await?;
    }
    let mut listed: Vec<_> =
        subject.client.services().await?.into_iter().map(|entry| entry.service).collect();
    listed.sort_by_key(|service| service.key);
    assert_eq!(listed, [wanted[0], wanted[2], wanted[1]]);
    Ok(())
}

async fn adding_twice_is_refused(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let again = web().scheduler(Scheduler::LeastConnection);
    let error = subject.client.add_service(&again).await.unwrap_err();
    assert!(error.is_already_exists() && !error.is_outcome_unknown(), "{error}");
    assert_eq!(subject.client.service(web().key).await?.service, web());
    Ok(())
}

async fn updates_a_service(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let options = HashOptions::default().fallback(true);
    let updated =
        web().scheduler(Scheduler::SourceHash(options)).persistence(Duration::from_secs(60));
    subject.client.update_service(&updated).await?;
    assert_eq!(subject.client.service(web().key).await?.service, updated);
    Ok(())
}

async fn an_update_resets_what_it_leaves_out(subject: &mut Subject) -> Outcome {
    let options = HashOptions::default().port(true);
    let after = Service::udp(vip(), 53);
    let before = after
        .scheduler(Scheduler::MaglevHash(options))
        .persistence(Duration::from_secs(60))
        .one_packet(true);
    subject.client.add_service(&before).await?;
    subject.client.update_service(&after).await?;
    assert_eq!(subject.client.service(after.key).await?.service, after);
    Ok(())
}

async fn modifies_a_service(subject: &mut Subject) -> Outcome {
    let before = Service::udp(vip(), 5060).persistence(
        ipvs_netlink::Persistence::new(Duration::from_secs(60)).engine("sip".parse()?),
    );
    subject.client.add_service(&before).await?;
    let written = subject
        .client
        .modify_service(before.key, |service| service.scheduler = Scheduler::RoundRobin)
        .await?;
    let wanted = before.scheduler(Scheduler::RoundRobin);
    assert_eq!(written, wanted);
    assert_eq!(subject.client.service(before.key).await?.service, wanted);
    Ok(())
}

async fn removes_a_service(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    subject.client.add_destination(web().key, &backend(1)).await?;
    subject.client.remove_service(web().key).await?;
    assert!(subject.client.services().await?.is_empty());
    Ok(())
}

async fn a_missing_service_is_not_found(subject: &mut Subject) -> Outcome {
    let missing = ServiceKey::tcp(vip(), 81);
    let client = &mut subject.client;
    for error in [
        client.service(missing).await.unwrap_err(),
        client.remove_service(missing).await.unwrap_err(),
        client.zero_service(missing).await.unwrap_err(),
        client.update_service(&Service::new(missing)).await.unwrap_err(),
        client.destinations(missing).await.unwrap_err(),
        client.add_destination(missing, &backend(1)).await.unwrap_err(),
        client.update_destination(missing, &backend(1)).await.unwrap_err(),
        client.remove_destination(missing, backend(1).key).await.unwrap_err(),
    ] {
        assert!(error.is_service_not_found() && error.is_not_found(), "{error}");
        assert!(!error.is_destination_not_found(), "{error}");
    }
    Ok(())
}

async fn a_missing_scheduler_is_named(subject: &mut Subject) -> Outcome {
    let service = web().scheduler("nosuch".parse()?);
    let error = subject.client.add_service(&service).await.unwrap_err();
    assert!(error.is_module_not_found(), "{error}");
    assert!(error.to_string().contains("modprobe ip_vs_nosuch"), "{error}");
    assert!(subject.client.services().await?.is_empty());
    Ok(())
}

async fn flushes(subject: &mut Subject) -> Outcome {
    subject.client.flush().await?;
    subject.client.add_service(&web()).await?;
    subject.client.add_service(&Service::tcp(vip6(), 80)).await?;
    subject.client.flush().await?;
    assert!(subject.client.services().await?.is_empty());
    Ok(())
}

async fn the_scheduler_twos_is_there_in_newer_kernels(subject: &mut Subject) -> Outcome {
    let service = web().scheduler(Scheduler::TwoChoices);
    let added = subject.client.add_service(&service).await;
    if subject.release.has_twos() {
        added?;
        assert_eq!(subject.client.service(service.key).await?.service, service);
    } else {
        assert!(added.unwrap_err().is_module_not_found());
    }
    Ok(())
}
