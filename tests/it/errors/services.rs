//! Services that the kernel refuses.

use std::time::Duration;

use ipvs_netlink::{Errno, Persistence, Scheduler, Service, ServiceKey};

use super::refused;
use crate::case::{Outcome, cases};
use crate::rules::{backend, vip, vip6, web};
use crate::subject::Subject;
use crate::tampered::{Tampered, attribute, is_command, set_attributes, set_value};

cases![
    an_unknown_service,
    a_service_that_is_there,
    an_unknown_scheduler,
    an_unknown_engine,
    a_scheduler_that_is_newer_than_the_kernel,
    an_unknown_address_family,
    a_missing_attribute,
    what_is_refused_before_sending_the_kernel_refuses_too,
];

async fn an_unknown_service(subject: &mut Subject) -> Outcome {
    let client = &mut subject.client;
    for key in [web().key, ServiceKey::udp(vip6(), 80), ServiceKey::mark(7, vip().into())?] {
        let says = "there is no such service";
        let broken = Service::new(key).scheduler("nosuch".parse()?);
        // This error precedes those for other faults of the request.
        let misplaced = ipvs_netlink::Destination::masquerade(vip6(), 80);
        let misplaced = if key.family() == vip().into() { backend(1) } else { misplaced };
        for error in [
            refused(client.service(key).await, Errno::SRCH, says),
            refused(client.update_service(&broken).await, Errno::SRCH, says),
            refused(client.remove_service(key).await, Errno::SRCH, says),
            refused(client.zero_service(key).await, Errno::SRCH, says),
            refused(client.destinations(key).await, Errno::SRCH, says),
            refused(client.add_destination(key, &misplaced).await, Errno::SRCH, says),
            refused(client.update_destination(key, &misplaced).await, Errno::SRCH, says),
            refused(client.remove_destination(key, misplaced.key).await, Errno::SRCH, says),
        ] {
            assert!(error.is_service_not_found() && error.is_not_found(), "{error}");
            assert!(!error.is_destination_not_found(), "{error}");
            assert!(error.to_string().contains(&key.to_string()), "{error}");
        }
    }
    Ok(())
}

/// The kernel finds this error before it looks up the scheduler.
async fn a_service_that_is_there(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let broken = web().scheduler("nosuch".parse()?);
    let error =
        refused(subject.client.add_service(&broken).await, Errno::EXIST, "update it instead");
    assert!(error.is_already_exists() && !error.is_module_not_found());
    Ok(())
}

async fn an_unknown_scheduler(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let says = "scheduler nosuch is not available; load it with modprobe ip_vs_nosuch";
    let other = Service::tcp(vip(), 81).scheduler("nosuch".parse()?);
    let update = web().scheduler("nosuch".parse()?);
    for error in [
        refused(subject.client.add_service(&other).await, Errno::NOENT, says),
        refused(subject.client.update_service(&update).await, Errno::NOENT, says),
    ] {
        assert!(error.is_module_not_found(), "{error}");
        assert!(!error.is_not_found() && !error.is_ipvs_not_found(), "{error}");
    }
    assert_eq!(subject.client.service(web().key).await?.service, web());
    Ok(())
}

async fn an_unknown_engine(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let engine = Persistence::new(Duration::from_secs(60)).engine("nosuch".parse()?);
    let unbound = Service::tcp(vip(), 81).scheduler(Scheduler::Unbound).persistence(engine);
    let says = "persistence engine nosuch is not available; load it with modprobe ip_vs_pe_nosuch";
    refused(subject.client.add_service(&unbound).await, Errno::NOENT, says);
    // The kernel does not tell whether the scheduler or the engine is missing.
    let update = web().persistence(engine);
    let says = "scheduler rr or persistence engine nosuch is not available";
    let error = refused(subject.client.update_service(&update).await, Errno::NOENT, says);
    assert!(error.is_module_not_found(), "{error}");
    Ok(())
}

async fn a_scheduler_that_is_newer_than_the_kernel(subject: &mut Subject) -> Outcome {
    let service = web().scheduler(Scheduler::TwoChoices);
    let added = subject.client.add_service(&service).await;
    if subject.release.has_twos() {
        added?;
    } else {
        let error = refused(added, Errno::NOENT, "scheduler twos is not available");
        assert!(error.is_module_not_found(), "{error}");
    }
    Ok(())
}

const ADDRESS_FAMILY: u16 = 1;
const NETMASK: u16 = 9;

/// The answer of a kernel without IPv6 to an IPv6 service, here provoked by a family that no kernel
/// has.
async fn an_unknown_address_family(subject: &mut Subject) -> Outcome {
    let mut client = Tampered::client(subject, |message| {
        if is_command(message, 1) {
            set_value(message, ADDRESS_FAMILY, &99u16.to_ne_bytes());
        }
    })?;
    refused(client.add_service(&web()), Errno::AFNOSUPPORT, "built without that address family");
    Ok(())
}

/// The answer of a kernel that needs an attribute unknown to this crate: the error keeps the
/// kernel's text.
async fn a_missing_attribute(subject: &mut Subject) -> Outcome {
    let family = attribute(ADDRESS_FAMILY, &2u16.to_ne_bytes());
    for attributes in [Vec::new(), attribute(1, &[]), attribute(1, &family)] {
        let mut client = Tampered::client(subject, move |message| {
            if is_command(message, 1) {
                set_attributes(message, &attributes);
            }
        })?;
        let error = refused(client.add_service(&web()), Errno::INVAL, "EINVAL, invalid argument");
        assert!(!error.is_not_found() && !error.is_module_not_found(), "{error}");
    }
    Ok(())
}

/// The crate may refuse without asking the kernel only what no kernel takes.
async fn what_is_refused_before_sending_the_kernel_refuses_too(subject: &mut Subject) -> Outcome {
    let prefix = |length: u32| {
        Tampered::client(subject, move |message| {
            if is_command(message, 1) {
                set_value(message, NETMASK, &length.to_ne_bytes());
            }
        })
    };
    for length in [0, 129, u32::MAX] {
        refused(prefix(length)?.add_service(&Service::tcp(vip6(), 80)), Errno::INVAL, "");
    }
    prefix(1)?.add_service(&Service::tcp(vip6(), 80))?;
    Ok(())
}
