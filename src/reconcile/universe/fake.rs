//! The universe's kernel, compared with the fake one operation by operation.

use std::net::{IpAddr, Ipv4Addr};

use super::super::Outcome;
use super::table::{
    Backend, DESTINATIONS, Kernel, Quirk, SERVICES, Table, destination_key, service, service_key,
};
use super::world::{OTHER_SCHEDULER, SCHEDULER};
use crate::error::Error;
use crate::fake;
use crate::protocol::Operation;
use crate::ruleset::ConnectionCounts;

/// Pseudo-random numbers, the same in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

#[test]
fn the_kernel_of_the_universe_answers_as_the_fake_one() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let real = fake::Kernel::new();
        let (number, refused) = (random.below(SERVICES), DESTINATIONS - 1);
        let IpAddr::V4(address) = destination_key(refused).address else { unreachable!() };
        let mut client = real.connect().unwrap();
        let mut kernel = Kernel::default();
        for step in 0..100 {
            let is_refused = random.below(2) == 0;
            kernel.quirk = if is_refused { Quirk::NoRoute((number, refused)) } else { Quirk::None };
            let operation = operation(&mut random);
            // The kernel adds a destination that it still remembers without a look at its route.
            let is_elsewhere = match operation {
                Operation::AddDestination(key, to) => {
                    to.key == destination_key(refused) && key != service_key(number)
                }
                _ => false,
            };
            if is_elsewhere {
                continue;
            }
            let broadcast: Vec<Ipv4Addr> = is_refused.then_some(address).into_iter().collect();
            real.configure(|host| host.broadcast = broadcast);
            if is_refused && matches!(operation, Operation::AddDestination(..)) {
                real.advance(std::time::Duration::from_secs(600));
            }
            let result = client.batch([operation]).unwrap().into_result();
            let outcome = result.as_ref().err().map_or(Outcome::Done, outcome);
            assert_eq!(kernel.run(&operation), outcome, "seed {seed}, step {step}: {operation}");
            assert_eq!(Table::from(&client.ruleset().unwrap()), kernel.table, "{operation}");
        }
    }
}

/// A destination that is removed and added again keeps its connections.
#[test]
fn the_connections_of_the_universe_are_counted_as_the_fake_ones() {
    let real = fake::Kernel::new();
    let mut client = real.connect().unwrap();
    let mut kernel = Kernel::default();
    let backend = Backend { weight: 1, is_other: false }.destination(0);
    let web = service(0, SCHEDULER);
    let mut run = |operation: Operation, kernel: &mut Kernel| {
        client.batch([operation]).unwrap().into_result().unwrap();
        assert_eq!(kernel.run(&operation), Outcome::Done);
        let listing = kernel.list(|_| true, |_| true);
        let counts = client.destinations(web.key).unwrap_or_default();
        let counts =
            counts.iter().map(|d| ((web.key, d.destination.key), ConnectionCounts::from(d)));
        assert_eq!(listing.connections, counts.collect(), "{operation}");
    };
    let add = [Operation::AddService(web), Operation::AddDestination(web.key, backend)];
    for operation in add {
        run(operation, &mut kernel);
    }
    real.set_connections(web.key, backend.key, 1, 0, 0);
    kernel.connections[0][0] = 1;
    run(Operation::UpdateDestination(web.key, backend.weight(0)), &mut kernel);
    run(Operation::RemoveDestination(web.key, backend.key), &mut kernel);
    run(Operation::AddDestination(web.key, backend), &mut kernel);
    run(Operation::RemoveService(web.key), &mut kernel);
    for operation in add {
        run(operation, &mut kernel);
    }
}

fn operation(random: &mut Random) -> Operation {
    let number = random.below(SERVICES);
    let scheduler = [SCHEDULER, OTHER_SCHEDULER][random.below(2)];
    let (service, key) = (service(number, scheduler), service_key(number));
    let number = random.below(DESTINATIONS);
    let weight = u8::try_from(random.below(3)).unwrap();
    let destination = Backend { weight, is_other: random.below(2) == 0 }.destination(number);
    match random.below(10) {
        0 | 1 => Operation::AddService(service),
        2 => Operation::UpdateService(service),
        3 => Operation::RemoveService(key),
        4..=6 => Operation::AddDestination(key, destination),
        7 | 8 => Operation::UpdateDestination(key, destination),
        _ => Operation::RemoveDestination(key, destination.key),
    }
}

fn outcome(error: &Error) -> Outcome {
    if error.is_already_exists() {
        Outcome::Exists
    } else if error.is_service_not_found() {
        Outcome::ServiceMissing
    } else if error.is_destination_not_found() {
        Outcome::DestinationMissing
    } else {
        Outcome::Refused
    }
}
