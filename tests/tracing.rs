//! The spans and events of the feature `tracing`, as a log shows them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipvs_netlink::fake::Kernel;
use ipvs_netlink::{Destination, Operation, Scheduler, Service, blocking};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The logged text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `tracing` keeps the interests of subscribers for the whole process, so the tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lines that are logged up to this level while `act` runs, and the spans as they begin.
fn logged(level: LevelFilter, act: impl FnOnce()) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_span_events(FmtSpan::NEW)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .finish();
    let guard = subscriber.set_default();
    act();
    drop(guard);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(|line| line.trim().to_owned()).collect()
}

fn web() -> Service {
    Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin)
}

fn backend(last: u8) -> Destination {
    Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 8080)
}

/// A client of a kernel with one service.
fn connected() -> blocking::Client {
    let mut client = Kernel::new().connect().unwrap();
    client.add_service(&web()).unwrap();
    client
}

/// Two operations, of which the second fails.
fn two() -> [Operation; 2] {
    [1, 2].map(|last| match last {
        1 => Operation::AddDestination(web().key, backend(last)),
        _ => Operation::RemoveDestination(web().key, backend(last).key),
    })
}

/// The lines of this level and kind that begin with this span.
fn lines_in<'a>(lines: &'a [String], beginning: &str, kind: &str) -> Vec<&'a str> {
    let matches = |line: &&str| line.starts_with(beginning) && line.contains(kind);
    lines.iter().map(String::as_str).filter(matches).collect()
}

#[test]
fn every_operation_is_a_span_with_its_exchanges_in_it() {
    let _turn = turn();
    let expected = [
        r#"DEBUG ipvs{operation="add_destination"}: new"#,
        r#"DEBUG ipvs{operation="add_destination"}:exchange{request=add destination 10.0.1.1:8080 to tcp 10.0.0.1:80}: new"#,
        r#"DEBUG ipvs{operation="table"}: new"#,
        r#"DEBUG ipvs{operation="table"}:exchange{request=list services}: new"#,
        r#"DEBUG ipvs{operation="table"}:exchange{request=list destinations of tcp 10.0.0.1:80}: new"#,
    ];
    let mut client = connected();
    let lines = logged(LevelFilter::DEBUG, || {
        client.add_destination(web().key, &backend(1)).unwrap();
        client.table().unwrap();
    });
    assert_eq!(lines, expected);

    let kernel = Kernel::new();
    let client = smol::block_on(kernel.connect_async()).unwrap();
    smol::block_on(client.add_service(&web())).unwrap();
    let lines = logged(LevelFilter::DEBUG, || {
        smol::block_on(client.add_destination(web().key, &backend(1))).unwrap();
        smol::block_on(client.table()).unwrap();
    });
    assert_eq!(lines, expected);
}

#[test]
fn requests_and_replies_are_decoded_at_trace_level() {
    let _turn = turn();
    let mut client = connected();
    let lines = logged(LevelFilter::TRACE, || drop(client.services().unwrap()));
    let span = r#"TRACE ipvs{operation="services"}:exchange{request=list services}: "#;
    let sent = lines_in(&lines, span, "sent: ");
    assert_eq!(sent.len(), 1, "{lines:#?}");
    assert!(sent[0].contains("command: GetService"), "{lines:#?}");
    let received = lines_in(&lines, span, "received ");
    assert_eq!(received.len(), 1, "{lines:#?}");
    assert!(received[0].contains("command: NewService"), "{lines:#?}");
    assert!(received[0].contains(r#"scheduler: Some("rr")"#), "{lines:#?}");
}

#[test]
fn connecting_is_an_operation_too() {
    let _turn = turn();
    let lines = logged(LevelFilter::TRACE, || {
        Kernel::new().connect().unwrap();
        smol::block_on(Kernel::new().connect_async()).unwrap();
    });
    let span = r#"ipvs{operation="connect"}: "#;
    assert_eq!(lines_in(&lines, &format!("DEBUG {span}"), "new").len(), 2, "{lines:#?}");
    assert_eq!(lines_in(&lines, &format!("TRACE {span}"), "sent: find IPVS").len(), 2);
}

/// Once: the requests and failures of a batch were outside of any span, and did not show to which
/// operation they belong.
#[test]
fn each_request_of_a_batch_is_decoded_in_its_span() {
    let _turn = turn();
    let mut client = connected();
    let lines = logged(LevelFilter::TRACE, || {
        assert!(client.batch(two()).unwrap()[1].is_err());
    });
    let sent = lines_in(&lines, r#"TRACE ipvs{operation="batch"}"#, "Dest,");
    assert_eq!(sent.len(), 2, "{lines:#?}");
    assert!(sent[0].contains("command: NewDest") && sent[0].contains("port: Some(8080)"));
    assert!(sent[1].contains("command: DelDest"), "{lines:#?}");
}

#[test]
fn what_failed_is_told_at_debug_level_with_the_reason() {
    let _turn = turn();
    let mut client = connected();
    let lines = logged(LevelFilter::DEBUG, || {
        client.add_service(&web()).unwrap_err();
        assert!(client.batch(two()).unwrap()[1].is_err());
    });
    let failed: Vec<_> = lines.iter().filter(|line| line.contains("cannot")).collect();
    assert_eq!(failed.len(), 2, "{lines:#?}");
    assert!(failed[0].starts_with(r#"DEBUG ipvs{operation="add_service"}"#), "{lines:#?}");
    assert!(failed[0].contains("cannot add service tcp 10.0.0.1:80: "), "{lines:#?}");
    assert!(failed[1].starts_with(r#"DEBUG ipvs{operation="batch"}"#), "{lines:#?}");
    assert!(failed[1].contains("cannot remove destination 10.0.1.2:8080 from"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("Message {")), "{lines:#?}");
}
