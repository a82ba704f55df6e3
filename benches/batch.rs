//! Batches on a real kernel beside the floor: `cargo xtask vm bench batch`.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use ipvs_netlink::{Client, Destination, Error, Operation, Scheduler, Service, blocking};

use support::floor::Floor;
use support::namespace::Namespace;
use support::{Row, run, time};

const ROUNDS: usize = 15;
const WINDOWS: [usize; 7] = [16, 32, 64, 96, 128, 192, 256];

/// 1,000 services by rr with 10 destinations each.
fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    for n in 0..1000u16 {
        let [high, low] = n.to_be_bytes();
        let service =
            Service::tcp(Ipv4Addr::new(10, 0, high, low), 80).scheduler(Scheduler::RoundRobin);
        operations.push(Operation::AddService(service));
        for host in 1..=10 {
            let server = Destination::masquerade(Ipv4Addr::new(10, 1, 0, host), 8080);
            operations.push(Operation::AddDestination(service.key, server));
        }
    }
    operations
}

fn main() -> anyhow::Result<()> {
    let operations = &operations()[..];
    let all = || operations.iter().copied();

    println!("| window | floor, {} rules |\n|---|---|", operations.len());
    let mut rows = WINDOWS.map(|window| Row::new("floor", move || floor(operations, window)));
    let swept = run(&mut rows, 5)?;
    for (row, window) in WINDOWS.iter().enumerate() {
        println!("| {window} | {:.1?} |", swept.median(row));
    }
    let best = (0..WINDOWS.len()).min_by_key(|row| swept.median(*row)).map(|row| WINDOWS[row]);
    let best = best.unwrap();
    println!("\nthe best window of the floor: {best} operations\n");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = [
        Row::new("floor", || floor(operations, best)),
        Row::new("floor, one by one", || floor(operations, 1)),
        Row::new("batch, blocking", || {
            let _fresh = Namespace::fresh()?;
            let mut client = blocking::Client::connect()?;
            time(|| succeed(client.batch(all())))
        }),
        Row::new("batch, tokio", || {
            let _fresh = Namespace::fresh()?;
            let client = runtime.block_on(Client::connect_tokio())?;
            time(|| succeed(runtime.block_on(client.batch(all()))))
        }),
        Row::new("batch, smol", || {
            let _fresh = Namespace::fresh()?;
            let client = smol::block_on(Client::connect_smol())?;
            time(|| succeed(smol::block_on(client.batch(all()))))
        }),
        Row::new("one by one, blocking", || {
            let _fresh = Namespace::fresh()?;
            let mut client = blocking::Client::connect()?;
            time(|| one_by_one(&mut client, operations))
        }),
    ];
    let times = run(&mut rows, ROUNDS)?;
    println!("| row | {} rules, median of {ROUNDS} | each |\n|---|---|---|", operations.len());
    for (index, row) in rows.iter().enumerate() {
        let time = times.median(index);
        let each = time / u32::try_from(operations.len())?;
        println!("| {} | {time:.1?} | {each:.1?} |", row.name);
    }
    let _fresh = Namespace::fresh()?;
    let client = runtime.block_on(Client::connect_tokio())?;
    let held = longest_hold(&runtime, &client, operations)?;
    println!("\nthe longest that the executor was held by a batch on tokio: {held:.1?}\n");

    let [floor, floor_single, batch, tokio, smol, single] = [0, 1, 2, 3, 4, 5];
    times.print_ratio("batch/floor", batch, floor);
    times.print_ratio("one-by-one/floor-one-by-one", single, floor_single);
    times.print_ratio("tokio/blocking", tokio, batch);
    times.print_ratio("smol/blocking", smol, batch);
    times.print_ratio("batch/one-by-one", batch, single);
    Ok(())
}

fn floor(operations: &[Operation], window: usize) -> anyhow::Result<Duration> {
    let _fresh = Namespace::fresh()?;
    let mut floor = Floor::open()?;
    let encoded = floor.encode(operations, window);
    time(|| floor.run(&encoded))
}

fn one_by_one(client: &mut blocking::Client, operations: &[Operation]) -> anyhow::Result<()> {
    for operation in operations {
        match operation {
            Operation::AddService(service) => client.add_service(service)?,
            Operation::AddDestination(key, server) => client.add_destination(*key, server)?,
            _ => unreachable!("there are no others"),
        }
    }
    Ok(())
}

fn succeed(results: Result<Vec<Result<(), Error>>, Error>) -> anyhow::Result<()> {
    for result in results? {
        result?;
    }
    Ok(())
}

/// The longest that another task of the same thread had to wait for its turn.
fn longest_hold(
    runtime: &tokio::runtime::Runtime,
    client: &Client,
    operations: &[Operation],
) -> anyhow::Result<Duration> {
    runtime.block_on(async {
        let waiting = tokio::spawn(async {
            let mut longest = Duration::ZERO;
            let mut turns = 0_u32;
            loop {
                let before = Instant::now();
                tokio::task::yield_now().await;
                longest = longest.max(before.elapsed());
                turns += 1;
                if LAST_TURN.load(std::sync::atomic::Ordering::Relaxed) {
                    return (longest, turns);
                }
            }
        });
        let outcome = succeed(client.batch(operations.iter().copied()).await);
        LAST_TURN.store(true, std::sync::atomic::Ordering::Relaxed);
        let (longest, turns) = waiting.await?;
        outcome?;
        ensure!(turns > 10, "the other task had no turns");
        Ok(longest)
    })
}

static LAST_TURN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
