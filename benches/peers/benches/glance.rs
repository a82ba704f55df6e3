//! Reading the whole table from `/proc/net/ip_vs` compared with netlink, and single services by
//! their keys compared with the list of all, on a real kernel: `cargo xtask vm bench glance`.

use ipvs_netlink::ServiceRules;
use std::cell::RefCell;

use anyhow::ensure;
use ipvs_netlink::Scheduler;
use ipvs_netlink::blocking::Client;
use peers::measure::{Rounds, Row, run, time};
use peers::namespace::Namespace;
use peers::rules::{self, Size};

const SIZES: [&str; 3] = ["1000x10", "10000x10", "40000x2"];
/// How many services are read by their keys.
const SINGLE: usize = 1000;

fn main() -> anyhow::Result<()> {
    for size in SIZES {
        let size: Size = size.parse()?;
        let rules = rules::ruleset(size, Scheduler::RoundRobin, 0)?;
        let _fresh = Namespace::fresh()?;
        let mut ipvs = Client::connect()?;
        for result in ipvs.batch(rules::operations(&rules))? {
            result?;
        }
        let step = size.services / SINGLE;
        let keys: Vec<_> = rules.services().map(ServiceRules::key).step_by(step).collect();
        let ipvs = &RefCell::new(ipvs);
        let rows = vec![
            Row::new("glance", || time(|| glance(size))).note("`/proc/net/ip_vs`, whole"),
            Row::new("read", || time(|| Ok(ipvs.borrow_mut().table().map(drop)?)))
                .note("all services and all destinations"),
            Row::new("list", || time(|| Ok(ipvs.borrow_mut().services().map(drop)?)))
                .note("all services"),
            Row::new("by-key", || {
                time(|| {
                    for key in &keys {
                        ipvs.borrow_mut().service(*key)?;
                    }
                    Ok(())
                })
            })
            .note("1,000 of the services, one after the other"),
        ];
        run(&format!("{size}"), rows, Rounds::of(5))?.print("A glance", size);
    }
    Ok(())
}

/// Reads the file, and checks that it has all rules.
fn glance(size: Size) -> anyhow::Result<()> {
    let lines = std::fs::read_to_string("/proc/thread-self/net/ip_vs")?.lines().count();
    // Three lines are the heading.
    ensure!(lines == 3 + size.rules(), "{lines} lines of {} rules", size.rules());
    Ok(())
}
