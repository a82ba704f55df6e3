//! The speed of a client together with the fake kernel, on one core.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::Ipv4Addr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ipvs_netlink::fake::Kernel;
use ipvs_netlink::{Destination, Operation, Scheduler, Service};

const DESTINATIONS: u8 = 100;

fn service() -> Service {
    Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80).scheduler(Scheduler::RoundRobin)
}

fn destinations() -> Vec<Destination> {
    (0..DESTINATIONS)
        .map(|last| Destination::masquerade(Ipv4Addr::new(10, 0, 1, last), 8080))
        .collect()
}

fn operations_per_second(criterion: &mut Criterion) {
    let service = service();
    let destinations = destinations();
    let mut ipvs = Kernel::new().connect().unwrap();
    ipvs.add_service(&service).unwrap();
    for destination in &destinations {
        ipvs.add_destination(service.key, destination).unwrap();
    }

    let mut group = criterion.benchmark_group("operations");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one by one", |bencher| {
        bencher.iter(|| ipvs.update_destination(service.key, &destinations[50]).unwrap());
    });
    group.bench_function("read a service", |bencher| {
        bencher.iter(|| ipvs.service(service.key).unwrap());
    });

    let updates = destinations.iter().map(|d| Operation::UpdateDestination(service.key, *d));
    let updates: Vec<_> = updates.cycle().take(10_000).collect();
    group.throughput(Throughput::Elements(updates.len() as u64));
    group.bench_function("in batches", |bencher| {
        bencher.iter(|| {
            let results = ipvs.batch(updates.iter().copied()).unwrap();
            assert!(results.iter().all(Result::is_ok));
        });
    });
    group.throughput(Throughput::Elements(DESTINATIONS.into()));
    group.bench_function("list destinations", |bencher| {
        bencher.iter(|| {
            let listed = ipvs.destinations(service.key).unwrap();
            assert_eq!(listed.len(), destinations.len());
        });
    });
    group.finish();
}

criterion_group!(benches, operations_per_second);
criterion_main!(benches);
