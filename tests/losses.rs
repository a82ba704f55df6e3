//! Answers and sockets that are lost on the way: what is known of a batch then.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)] // Other tests use all of it.
mod support;

use std::net::Ipv4Addr;

use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::transport::Transport;
use ipvs_netlink::{Destination, Error, Operation, blocking};
use support::rules::{operations, rules_of, service, truth};
use support::{Client, KINDS};

/// A batch of three windows, whose second loses its answers: what the first and the third did is
/// known, and nothing of the second.
#[test]
fn lost_answers_leave_exactly_their_own_outcomes_unknown() {
    // As many as errors fit the receive buffer.
    const WINDOW: usize = 208;
    let kernel = Kernel::new();
    let mut client = blocking::Client::connect_to(&kernel).unwrap();
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
    // The kernel did it all the same.
    assert_eq!(truth(&kernel).destination_count(), 3 * WINDOW - 1);
}

/// The rest of a batch was given up when its socket broke, though the next request had a new one.
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
        assert!((1..=208).contains(&unknown), "{kind:?}: {unknown}");
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

/// More answers than the receive buffer has room for, as in no batch of the crate's: those that
/// fit come after the word of the loss, and all requests are done.
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
    assert_eq!(error.raw_os_error(), Some(105));
    let mut received = 0;
    while link.receive(&mut buffer, now).is_ok() {
        received += 1;
    }
    assert_eq!(received, 237);
}
