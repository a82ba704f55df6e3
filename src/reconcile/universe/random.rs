//! Random runs of the whole crate over the fake kernel, checked by the judge: a link records what
//! is read and acknowledged.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::fake::Random;
use super::judge::{Judge, Verdict};
use super::noting::{Notes, Noting, lock};
use super::table::{
    Backend, DESTINATIONS, Place, SERVICES, Table, destination_key, service, service_key,
};
use super::tables;
use super::world::{Mode, OTHER_SCHEDULER, SCHEDULER, Setting};
use crate::blocking::Client;
use crate::fake::{Fault, Kernel};
use crate::model::Scheduler;
use crate::ruleset::{Allowed, Draining, Policy, Ruleset};
use crate::sync::{Incomplete, Syncer};

/// A destination that the kernel always refuses.
pub(super) const REFUSED: Place = (0, DESTINATIONS - 1);
/// The environment variable that sets another number of runs.
const RUNS: &str = "IPVS_NETLINK_RANDOM_RUNS";
/// Faults strike within this many steps.
const STEPS: usize = 24;

#[test]
fn random_runs_over_the_fake_kernel_keep_to_the_rules() {
    let runs = runs();
    let tables: Vec<Table> = tables(SERVICES, 2, 1);
    let of = |scheduler| tables.iter().map(|table| table.scheduled_by(scheduler)).collect();
    let schedulers = [SCHEDULER, Scheduler::SOURCE_HASH, Scheduler::MAGLEV_HASH];
    let tables: Vec<Vec<Table>> = schedulers.into_iter().map(of).collect();
    for seed in 0..runs {
        let mut story = Vec::new();
        let tables = &tables[Random(seed).below(tables.len())];
        if let Err(fault) = run(seed, tables, &mut story) {
            panic!("seed {seed}: {fault}\n{}", story.join("\n"));
        }
    }
    println!("{runs} random runs");
}

/// The number of runs.
pub(super) fn runs() -> u64 {
    std::env::var(RUNS).map_or(3_000, |runs| runs.parse().unwrap())
}

fn run(seed: u64, tables: &[Table], story: &mut Vec<String>) -> Verdict {
    let mut random = Random(seed);
    let is_apply = random.below(2) == 0;
    let bits = u8::try_from(random.below(128)).unwrap();
    let draining = if random.below(2) == 0 {
        Draining::at_once()
    } else {
        Draining::within(Duration::from_secs(2))
    };
    let policy = Policy::new().allowed(Allowed::from_bits_truncate(bits)).draining(draining);
    let policy = policy.detailed(true);
    let mode = if is_apply { Mode::Apply } else { Mode::Passes };
    let setting = Setting {
        mode,
        policy: policy.clone(),
        services: SERVICES,
        destinations: DESTINATIONS,
        heaviest: 2,
        wishes: Vec::new(),
    };
    let kernel = Kernel::new();
    let std::net::IpAddr::V4(refused) = destination_key(REFUSED.1).address else { unreachable!() };
    let mut observer = Client::connect_with(kernel.observer()).unwrap();
    let actual = tables[random.below(tables.len())];
    let _ = observer.sync(&actual.rules(), &Policy::new()).unwrap();
    kernel.configure(|host| host.broadcast = vec![refused]);
    meddle(&kernel, &mut random);
    let notes = Arc::new(Mutex::new(Notes {
        judge: Judge::told(),
        setting,
        wanted: Table::default(),
        listed: Table::default(),
        asked: Vec::new(),
        cut: BTreeSet::new(),
        counts: [[0; DESTINATIONS]; SERVICES],
        faults: Vec::new(),
        story: Vec::new(),
        others: Vec::new(),
        sends: 0,
    }));
    let connect = || {
        let observer = Client::connect_with(kernel.observer()).unwrap();
        Client::connect_with(Noting { link: kernel.link(), observer, notes: Arc::clone(&notes) })
    };
    let mut client = connect().unwrap();
    let mut syncer = Syncer::new(policy.clone());
    let mut wanted = Ruleset::new();
    for round in 0..6 {
        let is_last = round >= 4;
        if round == 0 || !is_last && random.below(3) == 0 {
            let mut table = tables[random.below(tables.len())];
            if let (0, Some(vip)) = (random.below(4), &mut table.0[REFUSED.0]) {
                vip.backends[REFUSED.1] = Some(Backend { weight: 1, is_other: false });
            }
            wanted = table.rules();
            lock(&notes).wanted = table;
            syncer.want(wanted.clone());
        }
        if !is_last {
            disturb(&kernel, &mut random);
            let mut notes = lock(&notes);
            notes.sends = 0;
            notes.others = (0..random.below(3)).map(|_| random.later()).collect();
        }
        let report = if is_apply {
            client.sync(&wanted, &policy).unwrap_or_else(Incomplete::into_report)
        } else {
            if is_last || random.below(3) == 0 {
                syncer.resync();
            }
            client.pass(&mut syncer)
        };
        kernel.clear_faults();
        lock(&notes).others.clear();
        let mut notes_ = lock(&notes);
        story.append(&mut notes_.story);
        if let Some(fault) = notes_.faults.pop() {
            return Err(fault);
        }
        let judged = notes_.reported(&report);
        story.append(&mut notes_.story);
        story.push(format!("wanted:\n{wanted}"));
        judged?;
        if is_apply {
            notes_.judge = notes_.judge.restarted(false);
        } else if !is_last && random.below(4) == 0 {
            let drains = syncer.drains();
            let keeps_drains = random.below(2) == 0;
            syncer = Syncer::new(policy.clone());
            syncer.want(wanted.clone());
            if keeps_drains {
                syncer = syncer.resume(&drains);
            }
            notes_.judge = notes_.judge.restarted(keeps_drains);
        }
        drop(notes_);
        // A delayed answer arrives too late.
        kernel.advance(Duration::from_secs(
            random.below(3) as u64 + if round == 3 { 600 } else { 0 },
        ));
    }
    if is_apply {
        return Ok(());
    }
    let truth = Table::from(&observer.ruleset().unwrap());
    let known = lock(&notes).judge.known;
    if truth == known {
        Ok(())
    } else {
        Err(format!("known\n{}is\n{}", known.rules(), truth.rules()))
    }
}

/// Orders a fault at some steps.
fn disturb(kernel: &Kernel, random: &mut Random) {
    for _ in 0..random.below(2) {
        let step = u64::try_from(1 + random.below(STEPS)).unwrap();
        let fault = match random.below(6) {
            0 => Fault::Fail(12),
            1 => Fault::Refuse(12),
            2 => Fault::LoseAnswers,
            3 => Fault::NoBuffers,
            4 => Fault::Close,
            _ => Fault::Delay(Duration::from_secs(300)),
        };
        kernel.inject(step, fault);
    }
}

impl Random {
    /// The send before which others change the table, and their random numbers.
    fn later(&mut self) -> (usize, Self) {
        let sends = 1 + self.below(STEPS / 2);
        (sends, Self(self.0))
    }
}

/// Changes a service or a destination as others would, and lets connections come or end.
pub(super) fn meddle(kernel: &Kernel, random: &mut Random) {
    let mut other = Client::connect_with(kernel.observer()).unwrap();
    let (number, destination) = (random.below(SERVICES), random.below(2));
    let key = service_key(number);
    let weight = u8::try_from(random.below(3)).unwrap();
    let backend = Backend { weight, is_other: random.below(4) == 0 }.destination(destination);
    // The kernel may refuse the change, which then has no effect.
    let _ = match random.below(8) {
        0 => other.add_service(&service(number, OTHER_SCHEDULER)),
        1 => other.remove_service(key),
        2 | 3 => other.add_destination(key, &backend),
        4 => other.remove_destination(key, backend.key),
        _ => other.update_destination(key, &backend),
    };
    kernel.set_connections(key, backend.key, u32::from(weight > 0), 0, 0);
}
