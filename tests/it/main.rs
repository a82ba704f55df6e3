//! The integration tests: one binary, whose cases run against a kernel.
//!
//! On a real kernel the cases take over its whole IPVS table, and therefore run only when told to:
//! `cargo xtask vm test` starts this binary in a guest and names the kernel in
//! `IPVS_NETLINK_TEST_KERNEL`. Elsewhere the cases run on the fake kernel, and those that it cannot
//! run are listed as ignored.
#![allow(clippy::unwrap_used)] // Tests fail by panics.

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
mod random;
mod readable;
mod recovery;
mod replacement;
mod rival;
mod rules;
mod scripted;
mod services;
mod subject;
mod sync;
mod system;
mod tampered;
#[path = "../support/terminal.rs"]
mod terminal;
mod traffic;

use libtest_mimic::{Arguments, Conclusion};

use crate::case::Case;
use crate::subject::release_from_environment;

fn main() {
    if errors::run_as_child() {
        return;
    }
    run().exit();
}

fn run() -> Conclusion {
    let mut arguments = Arguments::from_args();
    // The cases share the kernel's one table.
    arguments.test_threads = Some(1);
    let kernel = release_from_environment();
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
    ];
    let mut trials = host::trials();
    trials.extend(faults::trials());
    trials.extend(golden::trials());
    trials.extend(properties::trials());
    trials.extend(readable::trials());
    let cases: Vec<_> = cases.into_iter().flatten().collect();
    trials.push(case::each_exception_has_a_case(&cases));
    let cases = cases.into_iter().enumerate();
    trials.extend(cases.flat_map(|(index, case)| case.trials(index, kernel.as_ref())));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let (Some(kernel), combinations @ 1..) = (kernel, case::combinations()) {
        println!("{combinations} combinations of the matrix held on Linux {kernel}\n");
    }
    conclusion
}

/// Cases for which one client is enough, since they do not try the client.
fn once(cases: Vec<Case>) -> Vec<Case> {
    cases.into_iter().map(Case::long).collect()
}
