//! The integration tests: one binary, whose cases run against a kernel.
//!
//! On a real kernel the cases take over its whole IPVS table, and therefore run only when told to:
//! `cargo xtask vm test` starts this binary in a guest and names the kernel in
//! `IPVS_NETLINK_TEST_KERNEL`. Elsewhere the cases run on the fake kernel, and those that it cannot
//! run are listed as ignored.
#![allow(clippy::unwrap_used)] // Tests fail by panics.

#[path = "../support/api.rs"]
mod api;
mod asynchronous;
mod batches;
mod case;
mod client;
mod destinations;
mod diagnose;
mod errors;
mod family;
mod faults;
mod golden;
mod guide;
mod host;
mod listing;
mod matrix;
mod namespaces;
mod nft;
mod oracle;
mod proc;
#[path = "../support/program.rs"]
mod program;
mod properties;
mod proxy;
mod random;
mod readable;
mod recovery;
mod replacement;
mod rival;
mod rules;
mod scripted;
mod services;
mod standstill;
mod subject;
mod sync;
mod system;
mod tampered;
#[path = "../support/terminal.rs"]
mod terminal;
mod traffic;
mod worker;
#[path = "../support/writes.rs"]
mod writes;

use std::sync::Arc;

use ipvs_netlink::fake::Release;
use libtest_mimic::{Arguments, Conclusion};

use crate::case::Case;
use crate::subject::release_from_environment;
use crate::worker::Workers;

fn main() {
    if errors::run_as_child() {
        return;
    }
    let kernel = release_from_environment();
    let cases = cases();
    if worker::is_worker() {
        let kernel = kernel.expect("workers run on real kernels");
        worker::work(&cases, &kernel).expect("orders are understood");
        return;
    }
    run(&cases, kernel).exit();
}

fn run(cases: &[Case], kernel: Option<Release>) -> Conclusion {
    let mut arguments = Arguments::from_args();
    // The cases share the kernel's one table. A network namespace for each would not part them: before
    // Linux 7.1 a listing in one loses services when some are added in another meanwhile.
    arguments.test_threads = Some(1);
    let mut trials = vec![case::each_exception_has_a_case(cases)];
    let workers = kernel.map(|kernel| Arc::new(Workers::new(kernel)));
    let cases = cases.iter().enumerate();
    trials.extend(cases.flat_map(|(index, case)| match &workers {
        Some(workers) => case.real_trials(index, workers),
        None => case.fake_trials(),
    }));
    trials.extend(host::trials());
    trials.extend(standstill::trials());
    if workers.is_none() {
        // They are the same over every kernel, and take long in a guest.
        trials.extend(faults::trials());
        trials.extend(golden::trials());
        trials.extend(properties::trials());
        trials.extend(readable::trials());
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let (Some(workers), combinations @ 1..) = (&workers, case::combinations()) {
        println!("{combinations} combinations of the matrix held on Linux {}\n", workers.release());
    }
    if let Some(workers) = workers {
        println!("{}", workers.slowest());
    }
    conclusion
}

fn cases() -> Vec<Case> {
    let cases = [
        services::cases(),
        destinations::cases(),
        batches::cases(),
        system::cases(),
        rules::cases(),
        once(oracle::cases()),
        recovery::cases(),
        namespaces::cases(),
        once(asynchronous::cases()),
        family::cases(),
        matrix::cases(),
        sync::cases(),
        errors::cases(),
        faults::cases(),
        once(golden::cases()),
        once(listing::cases()),
        once(proc::cases()),
        once(diagnose::cases()),
        once(replacement::cases()),
        traffic::cases(),
        once(nft::cases()),
        once(guide::cases()),
        once(proxy::cases()),
        once(proxy::watched::cases()),
    ];
    cases.into_iter().flatten().collect()
}

/// Cases for which one client is enough, since they do not try the client.
fn once(cases: Vec<Case>) -> Vec<Case> {
    cases.into_iter().map(Case::long).collect()
}
