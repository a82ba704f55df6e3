//! The time and the memory that planning takes on the host, by the size of the table: `cargo bench
//! --bench plan`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ipvs_netlink::{Destination, Plan, Policy, Ruleset, Scheduler, Service};

/// The system's allocator, with a count of what is allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DESTINATIONS: u32 = 10;
const ROUNDS: usize = 5;

fn rules(services: u32, weight: u32) -> Ruleset {
    let mut rules = Ruleset::new();
    for n in 0..services {
        let [_, a, b, c] = n.to_be_bytes();
        let service =
            Service::tcp(IpAddr::from([10, a, b, c]), 80).scheduler(Scheduler::RoundRobin);
        rules.insert_service(service).expect("a valid service");
        for host in 0..DESTINATIONS {
            let [.., d] = host.to_be_bytes();
            let server = Destination::masquerade(IpAddr::from([10, 1, 0, d]), 8080);
            let server = server.weight(if host == 0 { weight } else { 1 });
            rules.insert_destination(service.key, server).expect("a valid destination");
        }
    }
    rules
}

/// The median time of a run, and the bytes that its result keeps allocated.
fn measure<T>(mut run: impl FnMut() -> T) -> (Duration, usize) {
    let mut times = Vec::new();
    let mut kept = 0;
    for _ in 0..ROUNDS {
        let before = ALLOCATED.load(Ordering::Relaxed);
        let start = Instant::now();
        let result = black_box(run());
        times.push(start.elapsed());
        kept = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before);
        drop(result);
    }
    times.sort_unstable();
    (times[ROUNDS / 2], kept)
}

fn main() {
    println!("\n### Planning\n");
    println!(
        "| what | services x destinations | median | per destination | bytes per destination |"
    );
    println!("|---|---|---|---|---|");
    let mut each = Vec::new();
    for services in [10_000, 100_000] {
        let destinations = services * DESTINATIONS;
        let (empty, wanted, changed) = (Ruleset::new(), rules(services, 1), rules(services, 7));
        let policy = Policy::new();
        let rows = [
            ("a ruleset", measure(|| rules(services, 1))),
            ("plan, nothing differs", measure(|| Plan::new(&wanted, &wanted, &policy).is_empty())),
            ("plan, a weight of each service", measure(|| Plan::new(&wanted, &changed, &policy))),
            ("plan, everything is new", measure(|| Plan::new(&empty, &wanted, &policy))),
        ];
        for (what, (time, kept)) in rows {
            let per = time / destinations;
            let bytes = kept / destinations as usize;
            println!("| {what} | {services} x {DESTINATIONS} | {time:.1?} | {per:.0?} | {bytes} |");
        }
        each.push(rows.map(|(_, (time, _))| time.as_secs_f64() / f64::from(destinations)));
    }
    println!();
    let names = ["ruleset", "plan-unchanged", "plan-weights", "plan-new"];
    for (name, (small, large)) in names.iter().zip(each[0].iter().zip(each[1])) {
        println!("ratio {name}-per-destination@100000x10/@10000x10 {:.2}", large / small);
    }
}
