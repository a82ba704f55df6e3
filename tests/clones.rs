//! Clones of an asynchronous client: they share a socket and their executor.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)] // Other tests use all of this module.
mod support;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use ipvs_netlink::fake::{Kernel, Link};
use ipvs_netlink::transport::{AsyncTransport, Received, Sleep};
use ipvs_netlink::*;
use support::Pausing;
use support::rules::{kernel_with, operations, rules_of, service, truth};

fn backend(last: u8) -> Destination {
    Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 80)
}

/// A link whose waits end when the test says so.
struct Held {
    link: Link,
    is_released: Arc<AtomicBool>,
}

impl AsyncTransport for Held {
    fn poll_send(&mut self, context: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<()>> {
        self.link.poll_send(context, datagram)
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        deadline: Instant,
    ) -> Poll<io::Result<Received>> {
        self.link.poll_receive(context, buffer, deadline)
    }

    fn sleep(&mut self, until: Instant) -> Sleep {
        let (sleep, is_released) = (self.link.sleep(until), Arc::clone(&self.is_released));
        Box::pin(async move {
            while !is_released.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
            sleep.await
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        AsyncTransport::reopen(&mut self.link)
    }

    fn now(&self) -> Instant {
        AsyncTransport::now(&self.link)
    }
}

/// Polls often enough for everything that need not wait.
fn poll_on<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    let mut polled = Poll::Pending;
    for _ in 0..1000 {
        polled = future.as_mut().poll(&mut context);
        if polled.is_ready() {
            break;
        }
    }
    polled
}

/// Once: the operations of a clone waited until all destinations had drained.
#[test]
fn a_clone_is_served_while_destinations_drain() {
    let rules = rules_of([(80, 2)]);
    let kernel = kernel_with(&rules);
    let first = rules.services().next().unwrap().destinations().next().unwrap().key;
    kernel.set_connections(service(80).key, first, 1, 0, 0);
    let is_released = Arc::new(AtomicBool::new(false));
    let held = Held { link: kernel.link(), is_released: Arc::clone(&is_released) };
    let client = smol::block_on(Client::connect_with(held)).unwrap();
    let mut wanted = rules.clone();
    wanted.remove_destination(service(80).key, first);
    let policy = Policy::new().draining(Draining::within(std::time::Duration::from_secs(60)));

    let mut sync = pin!(client.sync(&wanted, &policy));
    assert!(poll_on(sync.as_mut()).is_pending(), "it drains");
    assert!(poll_on(pin!(client.info())).is_ready(), "a clone waits for the drain");
    // Another sync gets its turn as well, and neither undoes the other's work.
    let mut other = rules.clone();
    other.insert_service(service(443)).unwrap();
    let policy = Policy::new().scope(Scope::none().services([service(443).key]));
    let Poll::Ready(report) = poll_on(pin!(client.sync(&other, &policy))) else {
        panic!("a sync waits for another's drain");
    };
    assert_eq!(report.unwrap().changed, 1);

    is_released.store(true, Ordering::Relaxed);
    let Poll::Ready(report) = poll_on(sync.as_mut()) else { panic!("it drains for ever") };
    assert_eq!(report.unwrap().cut_off, 1);
    other.remove_destination(service(80).key, first);
    assert_eq!(truth(&kernel), other);
}

/// As the documentation says, a clone that is used within a callback waits for the end of the
/// operation that calls the callback. A callback that waited for the clone would wait for ever.
/// After the callback the clone is served.
#[test]
fn a_clone_that_is_asked_within_a_callback_waits_for_its_end() {
    let kernel = kernel_with(&rules_of([(80, 1)]));
    let client = smol::block_on(kernel.connect_async()).unwrap();
    let clone = client.clone();
    let mut asked = Vec::new();
    let batch = client.batch_each([Operation::Zero; 2], BatchOptions::default(), |_, _| {
        let mut info = Box::pin(clone.info());
        assert!(poll_on(info.as_mut()).is_pending(), "the documentation can say less");
        asked.push(info);
    });
    smol::block_on(batch).unwrap();
    assert_eq!(asked.len(), 2);
    for info in asked {
        assert!(smol::block_on(info).is_ok());
    }
}

/// A future that is dropped while its destinations drain leaves the client to the other clones.
#[test]
fn a_dropped_drain_holds_nobody() {
    let rules = rules_of([(80, 2)]);
    let kernel = kernel_with(&rules);
    for rules in rules.services() {
        for destination in rules.destinations() {
            kernel.set_connections(rules.key(), destination.key, 1, 0, 0);
        }
    }
    let held = Held { link: kernel.link(), is_released: Arc::new(AtomicBool::new(false)) };
    let client = smol::block_on(Client::connect_with(held)).unwrap();
    let policy = Policy::new().draining(Draining::within(std::time::Duration::from_secs(60)));
    {
        let nothing = Ruleset::new();
        let mut sync = pin!(client.sync(&nothing, &policy));
        assert!(poll_on(sync.as_mut()).is_pending());
    }
    assert!(poll_on(pin!(client.flush())).is_ready());
    assert!(truth(&kernel).is_empty());
}

/// How many tasks share a client.
const TASKS: u16 = 64;

/// One of the tasks: it fills a service of its own, and now and then drops an operation before,
/// during or after the operation's turn.
async fn task(client: Client, number: u16) {
    let port = 1000 + number;
    let wanted = rules_of([(port, 8)]);
    let policy = Policy::new().scope(Scope::none().services([service(port).key]));
    let mut random = u32::from(number);
    for _ in 0..20 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (which, polls) = ((random >> 16) % 5, (random >> 24) % 40);
        let mut dropped: Pin<Box<dyn Future<Output = ()> + Send>> = match which {
            0 => Box::pin(async { drop(client.ruleset().await) }),
            1 => Box::pin(async { drop(client.sync(&wanted, &policy).await) }),
            2 => Box::pin(async { drop(client.batch(operations(&wanted)).await) }),
            3 => Box::pin(async { drop(client.remove_service(service(port).key).await) }),
            _ => Box::pin(async { drop(client.info().await) }),
        };
        for _ in 0..polls {
            if futures_util::poll!(dropped.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // Whatever the outcome of a dropped operation, an awaited sync is complete.
    let report = client.sync(&wanted, &policy).await.unwrap();
    assert_eq!(report.rounds, 0, "{report}");
    let found = client.destinations(service(port).key).await.unwrap();
    assert_eq!(found.len(), 8, "another's answer was taken for ours");
    let services = client.services().await.unwrap();
    let keys: BTreeSet<_> = services.iter().map(|entry| entry.service.key).collect();
    assert!(keys.contains(&service(port).key) && keys.len() == services.len());
}

/// A client of a kernel, and the check that all tasks have done what they were to do.
fn shared() -> (Client, impl FnOnce()) {
    let kernel = Kernel::new();
    let client = smol::block_on(Client::connect_with(Pausing::new(kernel.link()))).unwrap();
    let all = rules_of((0..TASKS).map(|number| (1000 + number, 8)));
    (client, move || assert_eq!(truth(&kernel), all))
}

fn on_tokio(mut builder: tokio::runtime::Builder) {
    let (client, check) = shared();
    builder.enable_all().build().unwrap().block_on(async {
        let tasks: Vec<_> =
            (0..TASKS).map(|number| tokio::spawn(task(client.clone(), number))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    check();
}

#[test]
fn many_tasks_share_a_client_on_one_thread_of_tokio() {
    on_tokio(tokio::runtime::Builder::new_current_thread());
}

#[test]
fn many_tasks_share_a_client_on_several_threads_of_tokio() {
    on_tokio(tokio::runtime::Builder::new_multi_thread());
}

#[test]
fn many_tasks_share_a_client_on_several_threads_of_smol() {
    let (client, check) = shared();
    let executor = smol::Executor::new();
    let tasks: Vec<_> =
        (0..TASKS).map(|number| executor.spawn(task(client.clone(), number))).collect();
    let (stop, stopped) = smol::channel::unbounded::<()>();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| smol::block_on(executor.run(stopped.recv())));
        }
        smol::block_on(async {
            for task in tasks {
                task.await;
            }
        });
        drop(stop);
    });
    check();
}

/// Once: a batch of such an iterator did not compile in a spawned task, since the compiler did not
/// find the method's future to be `Send`.
#[test]
fn a_lazy_iterator_that_borrows_is_batched_in_a_spawned_task() {
    let kernel = Kernel::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let rules = rules_of([(80, 0), (443, 0)]);
    let client = smol::block_on(kernel.connect_async()).unwrap();
    let wanted = rules.clone();
    let results = runtime.block_on(async move {
        let add = async move {
            client.batch(wanted.services().map(|it| Operation::AddService(*it.service()))).await
        };
        tokio::spawn(add).await.unwrap()
    });
    results.unwrap().into_result().unwrap();
    assert_eq!(truth(&kernel), rules);
}

/// How often other tasks have their turn while a batch runs.
fn turns(batch: impl Future<Output = Result<(), Error>>) -> usize {
    let mut batch = pin!(batch);
    let mut turns = 0;
    while batch.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        turns += 1;
    }
    turns
}

/// Once: only sockets let other tasks have their turn, and a batch of which nothing was sent never
/// did.
#[test]
fn others_have_their_turn_between_two_windows() {
    const WINDOW: usize = 64;
    let client = smol::block_on(Kernel::new().connect_async()).unwrap();
    let refused = Operation::AddDestination(service(80).key, backend(1).weight(u32::MAX));
    assert!(refused.check().is_err());
    for operation in [Operation::Zero, refused] {
        let batch =
            client.batch_each(vec![operation; 10 * WINDOW], BatchOptions::default(), |_, _| ());
        let turns = turns(batch);
        assert!((9..=11).contains(&turns), "{turns} for {operation}");
    }
}

/// Once: a batch that had stopped took the rest of its iterator all the same, and never ended if
/// the iterator was endless.
#[test]
fn a_batch_that_stops_takes_nothing_more() {
    let missing = Operation::RemoveService(service(1).key);
    let refused = Operation::AddDestination(service(80).key, backend(1).weight(u32::MAX));
    for failing in [missing, refused] {
        for end in [usize::MAX, 1000] {
            let given = AtomicUsize::new(0);
            let (mut told, mut failed) = (0, 0);
            let operations = (0..end).map(|_| {
                let number = given.fetch_add(1, Ordering::Relaxed);
                assert!(number < 1000, "it goes on");
                if number == 10 { failing } else { Operation::Zero }
            });
            let mut each = |_: &Operation, result: Result<(), Error>| {
                told += 1;
                failed += usize::from(result.is_err());
            };
            let stopping = BatchOptions::default().stop_at_first_error(true);
            let mut client = Kernel::new().connect().unwrap();
            client.batch_each(operations, stopping, &mut each).unwrap();
            let given = given.into_inner();
            // The operations that were sent together with the failed one have their results.
            assert!((11..=104).contains(&given) && told == given && failed == 1, "{given}, {told}");
        }
    }
}
