//! Lost answers and sockets: the results of a batch tell exactly what is known.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)] // Other tests use all of this module.
mod support;

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::transport::Transport;
use ipvs_netlink::{Destination, Errno, Error, Operation, Ruleset, blocking};
use support::noting::Noting;
use support::rules::{kernel_with, operations, rules_of, service, truth};
use support::{Client, KINDS};

/// The bytes that an acknowledgement takes of the receive buffer, as seen on real kernels: 768 to
/// 896 on x86-64; on s390x 1,280 with Linux 6.1, 1,536 with 6.12 and 1,024 with 7.2.
const SIZES: [usize; 5] = [768, 896, 1024, 1280, 1536];

/// Once: on s390x a batch with many failed operations lost answers, since the errors of one send
/// took more than the receive buffer.
#[test]
fn the_errors_of_a_window_fit_the_receive_buffer() {
    let (link, sends) = Noting::new(Kernel::new().link());
    let capacity = link.receive_capacity();
    let mut client = blocking::Client::connect_with(link).unwrap();
    let missing = Operation::RemoveService(service(80).key);
    for result in client.batch(vec![missing; 1000]).unwrap() {
        assert!(result.unwrap_err().is_service_not_found());
    }
    let most = sends.lock().unwrap().iter().map(Vec::len).max().unwrap();
    assert!(most >= 32, "{most} operations in a send are slow");
    for size in SIZES {
        assert!(most * size <= capacity, "{most} errors of {size} bytes in {capacity}");
    }
}

/// A batch of three windows, the second of which loses its answers: the outcomes of the first and
/// the third are known, and none of the second.
#[test]
fn lost_answers_leave_exactly_their_own_outcomes_unknown() {
    // As many operations as the receive buffer has room for errors.
    const WINDOW: usize = 104;
    let kernel = Kernel::new();
    let mut client = kernel.connect().unwrap();
    let key = service(80).key;
    let add = |port| {
        let there = Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), port);
        Operation::AddDestination(key, there)
    };
    let all: Vec<_> = std::iter::once(Operation::AddService(service(80)))
        .chain((1..).map(add).take(3 * WINDOW - 1))
        .collect();
    kernel.inject(3, Fault::LoseAnswers);
    let results = client.batch(all.iter().copied()).unwrap();
    for (index, result) in results.iter().enumerate() {
        match result {
            Ok(()) => assert!(!(WINDOW..2 * WINDOW).contains(&index), "{index}"),
            Err(error) => {
                assert!(error.is_outcome_unknown(), "{index}: {error}");
                assert!((WINDOW..2 * WINDOW).contains(&index), "{index}: {error}");
            }
        }
    }
    // The kernel has carried out the operations all the same.
    assert_eq!(truth(&kernel).destination_count(), 3 * WINDOW - 1);
}

/// Once: the rest of a batch was given up when its socket broke, although the next request got a
/// new socket.
#[test]
fn a_broken_socket_costs_a_batch_no_more_than_a_window() {
    let rules = rules_of([(80, 250), (443, 248)]);
    let operations = operations(&rules);
    for kind in KINDS {
        let kernel = Kernel::new();
        let mut client = Client::connect_to(&kernel, kind);
        // The first window is done, but its answers are lost with the socket.
        kernel.inject(2, Fault::Close);
        let results = client.batch(&operations).unwrap();
        let unknown = results.iter().take_while(|result| result.is_err()).count();
        assert!((1..=104).contains(&unknown), "{kind:?}: {unknown}");
        assert!(
            results[..unknown]
                .iter()
                .filter_map(|r| r.as_ref().err())
                .all(Error::is_outcome_unknown)
        );
        assert!(results[unknown..].iter().all(Result::is_ok), "{kind:?}");
        assert_eq!(truth(&kernel), rules, "{kind:?}");
    }
}

/// Once: after the module was unloaded, all later windows of a batch were messages of no family,
/// which the kernel acknowledges and does not run. They were reported as done.
#[test]
fn what_comes_after_the_module_was_unloaded_is_not_done() {
    let rules = rules_of([(80, 250), (443, 248)]);
    let operations = operations(&rules);
    for kind in KINDS {
        for step in [1, 3] {
            let kernel = Kernel::new();
            let mut client = Client::connect_to(&kernel, kind);
            kernel.inject(
                step,
                Fault::meanwhile(|kernel| kernel.configure(|host| host.family = None)),
            );
            let results = client.batch(&operations).unwrap();
            let done = results.iter().take_while(|result| result.is_ok()).count();
            assert!(done <= 104, "{kind:?}, step {step}: {done}");
            for result in &results[done..] {
                let error = result.as_ref().unwrap_err();
                assert!(error.is_ipvs_not_found(), "{kind:?}, step {step}: {error}");
            }
        }
    }
}

/// The module is loaded again at once, but the answer with the family's new number is lost.
#[test]
fn what_cannot_find_the_family_is_not_done() {
    let rules = rules_of([(80, 250), (443, 248)]);
    for kind in KINDS {
        for step in 1..12 {
            let kernel = Kernel::new();
            let mut client = Client::connect_to(&kernel, kind);
            kernel.inject(1, Fault::meanwhile(|kernel| kernel.reload(0x2a)));
            kernel.inject(step, Fault::LoseAnswers);
            let results = client.batch(&operations(&rules)).unwrap();
            let done = results.iter().filter(|result| result.is_ok()).count();
            let there = truth(&kernel);
            let there = there.services().count() + there.destination_count();
            let unknown = results.iter().filter_map(|r| r.as_ref().err());
            let unknown = unknown.filter(|error| error.is_outcome_unknown()).count();
            assert!((done..=done + unknown).contains(&there), "{kind:?}, step {step}: {done}");
        }
    }
}

/// Once: a long listing that failed was requested again, and its error lost.
#[test]
fn a_long_listing_that_fails_is_not_repeated() {
    let mut rules = Ruleset::new();
    for port in 1..=2000 {
        rules.insert_service(service(port)).unwrap();
    }
    let kernel = kernel_with(&rules);
    let mut client = kernel.connect().unwrap();
    kernel.inject(70, Fault::Interrupted);
    let error = client.services().unwrap_err();
    assert!(error.to_string().contains("changed while it was read"), "{error}");
    assert_eq!(client.services().unwrap().len(), 2000);
    assert_eq!(client.ruleset().unwrap(), rules);
}

/// Once: after a listing had failed, the next question took the listing's end, and the next listing
/// waited for that end until the deadline.
#[test]
fn a_listing_after_one_that_failed_waits_for_nothing() {
    let faults: [fn() -> Fault; 4] = [
        || Fault::NoBuffers,
        || Fault::Interrupted,
        || Fault::LoseAnswers,
        || Fault::Delay(Duration::from_secs(11)),
    ];
    for fault in faults {
        for step in 1..5 {
            let kernel = kernel_with(&rules_of([(80, 2)]));
            let mut client = kernel.connect().unwrap();
            kernel.inject(step, fault());
            let first = client.services().map(drop);
            kernel.clear_faults();
            let _ = client.info();
            let before = kernel.now();
            assert_eq!(client.services().unwrap().len(), 1, "{:?} at {step}: {first:?}", fault());
            assert_eq!(kernel.now(), before, "{:?} at {step}: {first:?}", fault());
        }
    }
}

/// Once: the table was resized during a listing, whose rest came in another order. Services that
/// the listing lacked counted as gone.
#[test]
fn a_listing_that_names_a_service_twice_is_read_again() {
    let rules = rules_of((1..=300).map(|port| (port, 1)));
    let resize = || Fault::meanwhile(Kernel::reorder_services);
    let kernel = kernel_with(&rules);
    let mut client = kernel.connect().unwrap();
    let before = kernel.steps();
    client.services().unwrap();
    let steps = kernel.steps() - before;
    for step in 1..=steps {
        kernel.inject(step, resize());
        assert_eq!(client.ruleset().unwrap(), rules, "step {step}");
        assert_eq!(client.table().unwrap().services.len(), 300, "step {step}");
    }
    for step in 1..=2 * steps {
        kernel.inject(step, resize());
        kernel.inject(step + steps / 2, resize());
        assert_eq!(client.services().unwrap().len(), 300, "step {step} and a half listing later");
    }
    kernel.clear_faults();

    // Reorder the table in the middle of each listing.
    for listing in 0..20 {
        kernel.inject(listing * steps + steps / 2, resize());
    }
    let error = client.services().map(drop).unwrap_err();
    assert!(error.to_string().contains("changed while it was read"), "{error}");
    kernel.clear_faults();
    assert_eq!(client.ruleset().unwrap(), rules);
}

/// A send has more answers than the receive buffer has room for, as no batch of the crate has. The
/// error of the loss comes first, then the answers that fit, and all requests are done.
#[test]
fn an_overflow_is_told_once_and_first() {
    let kernel = Kernel::new();
    let mut link = kernel.link();
    let family = 0x1c_u16;
    let mut datagram = Vec::new();
    for sequence in 0..300_u32 {
        datagram.extend(20_u32.to_ne_bytes());
        datagram.extend(family.to_ne_bytes());
        datagram.extend(5_u16.to_ne_bytes());
        datagram.extend(sequence.to_ne_bytes());
        datagram.extend([0, 0, 0, 0, 17, 1, 0, 0]);
    }
    link.send(&datagram).unwrap();
    let mut buffer = Vec::with_capacity(65536);
    let now = Transport::now(&link);
    let error = link.receive(&mut buffer, now).unwrap_err();
    assert_eq!(error.to_string(), io::Error::from(Errno::NOBUFS).to_string());
    let mut received = 0;
    while link.receive(&mut buffer, now).is_ok() {
        received += 1;
    }
    assert_eq!(received, 237);
}
