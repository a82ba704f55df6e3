//! Faults of exchanging: answers mixed up, lost, or waited for in vain.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipvs_netlink::blocking::Client;
use ipvs_netlink::{Errno, Service, TimeoutsUpdate};

use crate::case::trials;
use crate::rules::{backend, vip, vip6, web};
use crate::scripted::{Scripted, destination, service};

trials![
    a_missing_family_is_no_empty_table,
    a_missing_family_is_not_remembered,
    a_stale_success_is_not_this_requests,
    a_stale_listing_is_not_this_ones,
    silence_ends_at_the_deadline,
    stale_answers_do_not_prolong_the_wait,
    an_error_at_the_end_of_a_listing_counts,
    an_error_in_the_middle_of_a_listing_counts,
    a_change_whose_answer_cannot_be_read_is_not_certain,
    lost_answers_are_never_success,
    no_service_and_no_destination_are_two_things,
    nothing_is_sent_beyond_its_length,
    an_interrupted_receive_is_repeated,
];

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const EINTR: i32 = 4;
const ENOBUFS: i32 = 105;

/// A kernel without IPVS was shown as an empty table, and a controller went on adding to it.
fn a_missing_family_is_no_empty_table() {
    let (scripted, _) = Scripted::new(|request| vec![request.error(ENOENT)]);
    let error = Client::connect_with(scripted).err().unwrap();
    assert!(error.is_ipvs_not_found() && !error.is_not_found(), "{error}");
    assert!(error.to_string().contains("modprobe ip_vs"), "{error}");
}

/// The failure to find the family was cached for good: loading the module helped only after a
/// restart of the controller.
fn a_missing_family_is_not_remembered() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // The module is loaded, then gone for two requests, then loaded again.
    let (scripted, _) = Scripted::new(move |request| match request.is_family() {
        true => match count.fetch_add(1, Ordering::Relaxed) {
            1 | 2 => vec![request.error(ENOENT)],
            _ => request.family(),
        },
        false if matches!(count.load(Ordering::Relaxed), 1..=3) => vec![request.error(ENOENT)],
        false => vec![request.reply(1, &service(&[])), request.done(0)],
    });
    let mut client = Client::connect_with(scripted).unwrap();
    let error = client.services().unwrap_err();
    assert!(error.is_ipvs_not_found(), "{error}");
    assert!(client.services().is_err());
    let listed = client.services().or_else(|_| client.services()).unwrap();
    assert_eq!(listed.len(), 1);
    assert!(asked.load(Ordering::Relaxed) >= 4);
}

/// The acknowledgement of an earlier request was taken for that of the present one, which had
/// failed without anybody knowing.
fn a_stale_success_is_not_this_requests() {
    let mut client = Scripted::client(|request| {
        let stale = request.error_of(request.sequence() - 1, 0);
        let of_nobody = request.error_of(0, 0);
        vec![stale, of_nobody, request.error(EPERM)]
    });
    let error = client.add_service(&web()).unwrap_err();
    assert!(error.is_permission_denied(), "{error}");
}

/// Two users of a socket got each other's listings.
fn a_stale_listing_is_not_this_ones() {
    let mut client = Scripted::client(|request| {
        let mut other = request.reply(1, &service(&[])).unwrap();
        other[8..12].copy_from_slice(&99_999u32.to_ne_bytes());
        let own = request.reply(1, &service(&[]));
        let mut other_done = request.done(0).unwrap();
        other_done[8..12].copy_from_slice(&99_999u32.to_ne_bytes());
        vec![Ok(other.clone()), own, Ok(other_done), Ok(other), request.done(0)]
    });
    assert_eq!(client.services().unwrap().len(), 1);
}

/// A receive that timed out was repeated for ever.
fn silence_ends_at_the_deadline() {
    let mut client = Scripted::client(|_| Vec::new());
    let error = client.services().unwrap_err();
    assert!(error.is_timed_out() && !error.is_outcome_unknown(), "{error}");
    let error = client.add_service(&web()).unwrap_err();
    assert!(error.is_timed_out() && error.is_outcome_unknown(), "{error}");
    assert!(error.to_string().contains("read the state back"), "{error}");
}

/// Answers to another request that kept coming held off the deadline.
fn stale_answers_do_not_prolong_the_wait() {
    let mut client =
        Scripted::client(|request| (0..1000).map(|_| request.error_of(99_999, 0)).collect());
    assert!(client.add_service(&web()).unwrap_err().is_timed_out());
}

/// An error in the mark at the end was ignored: half a table passed for a whole one.
fn an_error_at_the_end_of_a_listing_counts() {
    let mut client =
        Scripted::client(|request| vec![request.reply(1, &service(&[])), request.done(ENOMEM)]);
    assert_eq!(client.services().unwrap_err().errno(), Some(Errno::NOMEM));
}

fn an_error_in_the_middle_of_a_listing_counts() {
    let mut client =
        Scripted::client(|request| vec![request.reply(1, &service(&[])), request.error(ENOMEM)]);
    assert_eq!(client.services().unwrap_err().errno(), Some(Errno::NOMEM));
}

/// A panic after the kernel had made the change ended the controller.
fn a_change_whose_answer_cannot_be_read_is_not_certain() {
    for broken in [vec![1, 2, 3], vec![0; 16], vec![0xff; 64], Vec::new()] {
        let mut client = Scripted::client(move |_| vec![Ok(broken.clone())]);
        let error = client.add_service(&web()).unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
    }
}

/// The kernel drops answers when the receive buffer is full, and carries out all requests: this
/// passed for a success.
fn lost_answers_are_never_success() {
    let lost = || Err(io::Error::from_raw_os_error(ENOBUFS));
    // Queued answers may be those of an earlier request.
    let mut client = Scripted::client(move |request| {
        vec![lost(), request.error_of(request.sequence().wrapping_sub(1), 0)]
    });
    let error = client.add_service(&web()).unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    assert!(client.update_service(&web()).unwrap_err().is_outcome_unknown());
    assert!(client.services().is_err());

    // The queued answer may also be that of this request, and then it counts.
    let mut client = Scripted::client(move |request| vec![lost(), request.error(0)]);
    client.add_service(&web()).unwrap();
    let mut client = Scripted::client(move |request| vec![lost(), request.error(ESRCH)]);
    assert!(client.update_service(&web()).unwrap_err().is_service_not_found());
}

/// Both were the same error, and controllers added services when a destination was missing.
fn no_service_and_no_destination_are_two_things() {
    for (errno, service, destination) in [(ESRCH, true, false), (ENOENT, false, true)] {
        let mut client = Scripted::client(move |request| vec![request.error(errno)]);
        for error in [
            client.update_destination(web().key, &backend(1)).unwrap_err(),
            client.remove_destination(web().key, backend(1).key).unwrap_err(),
        ] {
            assert_eq!(error.is_service_not_found(), service, "{error}");
            assert_eq!(error.is_destination_not_found(), destination, "{error}");
        }
    }
    // The listing lacks the destination that was asked for.
    let mut client =
        Scripted::client(|request| vec![request.reply(5, &destination(&[])), request.done(0)]);
    let error = client.destination(web().key, backend(2).key).unwrap_err();
    assert!(error.is_destination_not_found(), "{error}");
}

/// Bytes were written past the message's length, and the kernel took them for another message.
fn nothing_is_sent_beyond_its_length() {
    let (scripted, sent) =
        Scripted::new(
            |request| {
                if request.is_family() { request.family() } else { vec![request.error(0)] }
            },
        );
    let mut client = Client::connect_with(scripted).unwrap();
    let sip = ipvs_netlink::Persistence::new(Duration::from_secs(9)).engine("sip".parse().unwrap());
    for service in [web(), Service::tcp(vip6(), 80), Service::udp(vip(), 53).persistence(sip)] {
        client.add_service(&service).unwrap();
        client.remove_service(service.key).unwrap();
    }
    // The longest names that the kernel takes.
    let scheduler = "a23456789012345".parse().unwrap();
    let longest = ipvs_netlink::Persistence::new(Duration::from_secs(9));
    let longest = longest.engine("a234567890123456".parse().unwrap());
    let longest = Service::tcp(vip6(), 80).scheduler(scheduler).persistence(longest);
    client.add_service(&longest).unwrap();
    let tunnel = ipvs_netlink::Tunnel::gue(6080).unwrap();
    let destination = ipvs_netlink::Destination::tunnel(vip6(), 80, tunnel);
    client.add_destination(longest.key, &destination).unwrap();
    client.add_destination(web().key, &backend(1)).unwrap();
    client.remove_destination(web().key, backend(1).key).unwrap();
    client.set_timeouts(TimeoutsUpdate::default().tcp(Duration::from_secs(9))).unwrap();
    client.flush().unwrap();
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 13);
    for datagram in sent.iter() {
        let length = u32::from_ne_bytes(datagram[..4].try_into().unwrap());
        assert_eq!(datagram.len(), usize::try_from(length).unwrap());
        assert_eq!(datagram.len() % 4, 0);
    }
}

/// A signal in the middle of a wait was reported as a failed change.
fn an_interrupted_receive_is_repeated() {
    let mut client = Scripted::client(|request| {
        vec![Err(io::Error::from_raw_os_error(EINTR)), request.error(0)]
    });
    client.add_service(&web()).unwrap();
}
