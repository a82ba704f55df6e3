//! Batches allocate nothing for an operation.
#![allow(missing_docs, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;

use ipvs_netlink::fake::Kernel;
use ipvs_netlink::{BatchOptions, Destination, Operation, Service};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count of each thread's allocations.
struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// This many updates of a destination, for which the fake kernel need not allocate.
fn updates(count: u32) -> impl Iterator<Item = Operation> + Send {
    let (service, destination) = (web(), backend());
    (0..count).map(move |n| Operation::UpdateDestination(service.key, destination.weight(n)))
}

fn web() -> Service {
    Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80)
}

fn backend() -> Destination {
    Destination::masquerade(Ipv4Addr::new(10, 0, 1, 1), 80)
}

/// Asserts that a larger batch allocates no more than a smaller one.
fn assert_flat(mut batch: impl FnMut(u32)) {
    // The buffers have their final size after the first batch.
    batch(1_000);
    let [small, large] = [1_000, 11_000].map(|count| {
        let before = ALLOCATIONS.get();
        batch(count);
        ALLOCATIONS.get() - before
    });
    assert_eq!(small, large);
}

#[test]
fn a_batch_allocates_nothing_for_an_operation() {
    let kernel = Kernel::new();
    let mut client = kernel.connect().unwrap();
    client.add_service(&web()).unwrap();
    client.add_destination(web().key, &backend()).unwrap();
    let each = |_: &_, result: Result<(), _>| result.unwrap();
    assert_flat(|count| {
        client.batch_each(updates(count), BatchOptions::default(), each).unwrap();
    });

    let client = smol::block_on(kernel.connect_async()).unwrap();
    assert_flat(|count| {
        smol::block_on(client.batch_each(updates(count), BatchOptions::default(), each)).unwrap();
    });
}
