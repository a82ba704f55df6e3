//! All that can happen to a reconciler in a small universe, explored completely.
//!
//! A universe has a kernel's table of one or two services with a few destinations, others who
//! change it between any two steps, connections that come and end, faults, and restarts. A judge
//! checks each step and each end by what was last read and acknowledged.
//!
//! `cargo xtask soak reconciler` sets [`FURTHER`] and explores larger universes. `cargo xtask soak
//! mutants` sets [`FIRST_FAULT`] and explores no further once a fault is found.

mod coverage;
mod ends;
mod explore;
mod fake;
mod guard;
mod judge;
mod moves;
mod noting;
mod random;
mod rules;
mod table;
mod walks;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use self::coverage::Coverage;
use self::explore::Explorer;
use self::table::{Backend, DESTINATIONS, Kernel, Quirk, SERVICES, Table, Vip, service_key};
use self::world::{Budget, Mode, OTHER_SCHEDULER, SCHEDULER, Setting, World};
use crate::model::Scheduler;
use crate::ruleset::{Allowed, Draining, Policy, Scope};

/// The environment variable for universes in which more may happen.
const FURTHER: &str = "IPVS_NETLINK_SOAK_RECONCILER";
/// The environment variable for ending at the first fault.
const FIRST_FAULT: &str = "IPVS_NETLINK_FIRST_FAULT";

/// A universe: its setting, its first states, and the budget of disturbances.
struct Job {
    setting: Setting,
    starts: Vec<(Kernel, Table)>,
    budget: Budget,
}

impl Job {
    /// The same universe with services of another scheduler.
    fn scheduled_by(mut self, scheduler: Scheduler) -> Self {
        let Self { setting, starts, .. } = &mut self;
        let starts = starts.iter_mut().flat_map(|(kernel, wanted)| [&mut kernel.table, wanted]);
        for table in starts.chain(&mut setting.wishes) {
            *table = table.scheduled_by(scheduler);
        }
        self
    }
}

#[test]
fn whatever_happens_the_rules_are_kept() {
    let further = std::env::var_os(FURTHER).is_some();
    let mut coverage = Coverage::default();
    let universes = [
        ("one service with two destinations", two_destinations(further)),
        ("the same, and more disturbances", more_at_once(further)),
        ("one service with three destinations", three_destinations(further)),
        ("two services in one send", two_services(further)),
        ("schedulers by hash", by_hash(further)),
        ("others and kernels that never give in", obstinate()),
        ("passes before the controller tells what it wants", untold()),
        ("no more taken away than a share", guarded()),
    ];
    let mut faults = BTreeMap::new();
    for (name, jobs) in universes {
        let begin = Instant::now();
        let number = jobs.len();
        let (states, reached, found) = go_through(jobs);
        coverage.add(reached);
        faults.extend(found);
        if is_enough(&faults) {
            break;
        }
        println!("{name}: {states} states, {number} settings, {:.0?}", begin.elapsed());
    }
    println!("{coverage}");
    let stories: Vec<_> = faults.into_values().collect();
    assert!(stories.is_empty(), "{}", stories.join("\n\n"));
    assert_eq!(coverage.missing(), [""; 0], "never reached");
}

/// Explores universes, as many at once as the machine has processors.
fn go_through(jobs: Vec<Job>) -> (usize, Coverage, BTreeMap<String, String>) {
    let jobs = Mutex::new(jobs);
    let total = Mutex::new((0, Coverage::default(), BTreeMap::new()));
    let work = || {
        loop {
            if is_enough(&total.lock().unwrap().2) {
                return;
            }
            let Some(Job { setting, starts, budget }) = jobs.lock().unwrap().pop() else { return };
            let new = |(kernel, wanted)| World::new(kernel, wanted, budget, &setting);
            let starts: Vec<World> = starts.into_iter().map(new).collect();
            let mut explorer = Explorer::new(&setting);
            explorer.explore(&starts);
            let mut total = total.lock().unwrap();
            total.0 += explorer.states();
            total.1.add(explorer.coverage);
            total.2.extend(explorer.faults);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap()
}

/// Whether these faults are all that is asked for.
fn is_enough(faults: &BTreeMap<String, String>) -> bool {
    !faults.is_empty() && std::env::var_os(FIRST_FAULT).is_some()
}

/// The sets of changes that policies allow here.
fn classes() -> [Allowed; 16] {
    let all = Allowed::all();
    let adding = Allowed::ADD_SERVICES | Allowed::ADD_DESTINATIONS;
    let removing = Allowed::REMOVE_SERVICES | Allowed::REMOVE_DESTINATIONS;
    let updating = Allowed::UPDATE_SERVICES | Allowed::UPDATE_DESTINATIONS;
    let weights = Allowed::WEIGHTS;
    [
        all,
        Allowed::empty(),
        all - Allowed::ADD_SERVICES,
        all - Allowed::UPDATE_SERVICES,
        all - Allowed::REMOVE_SERVICES,
        all - Allowed::ADD_DESTINATIONS,
        all - Allowed::UPDATE_DESTINATIONS,
        all - Allowed::REMOVE_DESTINATIONS,
        all - weights,
        adding,
        removing,
        weights,
        adding | removing,
        adding | weights,
        removing | weights,
        updating | weights,
    ]
}

/// A budget in which each kind of disturbance may occur once (moves up to twice), and this many
/// altogether.
fn budget(all: u8) -> Budget {
    Budget { all, moves: all.min(2), faults: 1, restarts: 1, rereads: 1, retries: 1 }
}

fn policy(allowed: Allowed, drains: bool) -> Policy {
    let within = Draining::within(Duration::from_secs(2));
    let draining = if drains { within } else { Draining::at_once() };
    Policy::new().allowed(allowed).draining(draining).detailed(true)
}

/// Weights 0 to 2, all classes, and one disturbance; two in the soak.
fn two_destinations(further: bool) -> Vec<Job> {
    let mut jobs = Vec::new();
    for allowed in classes() {
        for mode in [Mode::Apply, Mode::Passes] {
            for drains in [false, true] {
                let budget = budget(if further { 2 } else { 1 });
                jobs.push(two_of_weights(2, mode, policy(allowed, drains), budget));
            }
        }
    }
    // The longest first: jobs are taken from the end.
    jobs.sort_by_key(|job| (job.setting.drains(), job.setting.mode == Mode::Passes));
    jobs
}

/// Weights 0 and 1, and two disturbances in one run; three in the soak.
fn more_at_once(further: bool) -> Vec<Job> {
    let all = Allowed::all();
    let some = [all, all - Allowed::WEIGHTS, all - Allowed::REMOVE_DESTINATIONS];
    let allowed = if further { classes().to_vec() } else { some.to_vec() };
    let budget = budget(if further { 3 } else { 2 });
    let job = |allowed| two_of_weights(1, Mode::Passes, policy(allowed, true), budget);
    let mut jobs: Vec<_> = allowed.into_iter().map(job).collect();
    jobs.push(two_of_weights(1, Mode::Apply, policy(all, true), budget));
    jobs
}

fn two_of_weights(heaviest: u8, mode: Mode, policy: Policy, budget: Budget) -> Job {
    let tables = tables(1, 2, heaviest);
    let is_sorted = |table: &&Table| {
        let weight = |number| table.backend((0, number)).map(|backend| backend.weight);
        weight(0) <= weight(1)
    };
    // The two destinations differ only by their keys, and all orders of weights are among the
    // actual tables.
    let wanted: Vec<Table> = tables.iter().filter(is_sorted).copied().collect();
    let wishes = wanted.iter().step_by(3).copied().collect();
    let setting = Setting { mode, policy, services: 1, destinations: 2, heaviest, wishes };
    let starts = starts(&tables, &wanted, &setting);
    Job { setting, starts, budget }
}

/// Weights 0 and 1, and one disturbance.
fn three_destinations(further: bool) -> Vec<Job> {
    let tables = tables(1, 3, 1);
    let mut jobs = Vec::new();
    for allowed in classes().into_iter().take(if further { 16 } else { 1 }) {
        for (mode, drains) in [(Mode::Apply, false), (Mode::Passes, true)] {
            let setting = Setting {
                mode,
                policy: policy(allowed, drains),
                services: 1,
                destinations: 3,
                heaviest: 1,
                wishes: Vec::new(),
            };
            let starts = starts(&tables, &tables, &setting);
            jobs.push(Job { setting, starts, budget: budget(1) });
        }
    }
    jobs
}

/// A service by `sh` or `mh`: both refuse clients while a destination has weight 0, and a new
/// service of `mh` gets its scheduler last.
fn by_hash(further: bool) -> Vec<Job> {
    let mut jobs = Vec::new();
    for scheduler in [Scheduler::SOURCE_HASH, Scheduler::MAGLEV_HASH] {
        for allowed in classes() {
            for (mode, drains) in [(Mode::Apply, false), (Mode::Apply, true), (Mode::Passes, true)]
            {
                let budget = budget(if further { 2 } else { 1 });
                let job = two_of_weights(1, mode, policy(allowed, drains), budget);
                jobs.push(job.scheduled_by(scheduler));
            }
        }
    }
    jobs
}

/// Two services of one destination each; a controller that owns both, or one.
fn two_services(further: bool) -> Vec<Job> {
    let tables = tables(2, 1, 1);
    let mut jobs = Vec::new();
    for allowed in classes().into_iter().take(if further { 16 } else { 1 }) {
        for scope in [Scope::all(), Scope::none().services([service_key(0)])] {
            for (mode, drains) in [(Mode::Apply, false), (Mode::Passes, true)] {
                let setting = Setting {
                    mode,
                    policy: policy(allowed, drains).scope(scope.clone()),
                    services: 2,
                    destinations: 1,
                    heaviest: 1,
                    wishes: Vec::new(),
                };
                let starts = starts(&tables, &tables, &setting);
                let most = if further { 3 } else { 1 };
                jobs.push(Job { setting, starts, budget: budget(most) });
            }
        }
    }
    jobs
}

/// A rival who removes a destination after each write; a kernel that keeps no weight of 2; and two
/// faults in one run.
fn obstinate() -> Vec<Job> {
    let tables = tables(1, 2, 2);
    let mut jobs = Vec::new();
    for (mode, drains) in [(Mode::Apply, false), (Mode::Apply, true), (Mode::Passes, true)] {
        let setting = Setting {
            mode,
            policy: policy(Allowed::all(), drains),
            services: 1,
            destinations: 2,
            heaviest: 2,
            wishes: Vec::new(),
        };
        let plain = starts(&tables, &tables, &setting);
        for quirk in [Quirk::Rival((0, 0)), Quirk::Keeps1, Quirk::None] {
            let with = |(kernel, wanted)| (Kernel { quirk, ..kernel }, wanted);
            let starts = plain.iter().copied().map(with).collect();
            let faults = if quirk == Quirk::None { 2 } else { 0 };
            let budget = Budget { all: faults, faults, ..Budget::default() };
            jobs.push(Job { setting: setting.clone(), starts, budget });
        }
    }
    jobs
}

/// Passes before the controller has told what it wants.
fn untold() -> Vec<Job> {
    let tables = tables(1, 2, 1);
    let setting = Setting {
        mode: Mode::Untold,
        policy: policy(Allowed::all(), true),
        services: 1,
        destinations: 2,
        heaviest: 1,
        wishes: tables.clone(),
    };
    let starts = starts(&tables, &[Table::default()], &setting);
    vec![Job { setting, starts, budget: budget(2) }]
}

/// Policies that take away at most a share of the destinations or services, and a controller that
/// confirms what they withhold.
fn guarded() -> Vec<Job> {
    let mut jobs = Vec::new();
    for (services, destinations) in [(1, 2), (2, 1)] {
        let tables = tables(services, destinations, 1);
        for share in [0.0, 0.5] {
            for (mode, drains) in [
                (Mode::Apply, false),
                (Mode::Apply, true),
                (Mode::Passes, false),
                (Mode::Passes, true),
            ] {
                let setting = Setting {
                    mode,
                    policy: policy(Allowed::all(), drains).at_most(share),
                    services,
                    destinations,
                    heaviest: 1,
                    wishes: tables.iter().step_by(3).copied().collect(),
                };
                let starts = starts(&tables, &tables, &setting);
                jobs.push(Job { setting, starts, budget: budget(1) });
            }
        }
    }
    jobs
}

/// All tables of at most `services` services with at most `destinations` destinations each, of
/// weights up to `heaviest`.
fn tables(services: usize, destinations: usize, heaviest: u8) -> Vec<Table> {
    let mut tables = vec![Table::default()];
    for service in 0..services {
        let mut vips = vec![Vip { scheduler: SCHEDULER, backends: [None; DESTINATIONS] }];
        for number in 0..destinations {
            for vip in vips.clone() {
                for weight in 0..=heaviest {
                    let mut with = vip;
                    with.backends[number] = Some(Backend { weight, is_other: false });
                    vips.push(with);
                }
            }
        }
        for table in tables.clone() {
            tables.extend(vips.iter().map(|vip| {
                let mut with = table;
                with.0[service] = Some(*vip);
                with
            }));
        }
    }
    tables
}

/// The first states: a kernel with each of the actual tables, with and without connections where
/// drains make them matter, and each of the wanted tables.
fn starts(actual: &[Table], wanted: &[Table], setting: &Setting) -> Vec<(Kernel, Table)> {
    let mut kernels = Vec::new();
    for table in actual {
        let mut kernel = Kernel { table: *table, ..Kernel::default() };
        kernels.push(kernel);
        if !setting.drains() {
            continue;
        }
        // Other combinations of connections arise by moves.
        for place in judge::places().filter(|place| table.backend(*place).is_some()) {
            kernel.connections[place.0][place.1] = 1;
            kernels.push(kernel);
        }
    }
    let mut starts = Vec::new();
    for wanted in wanted {
        starts.extend(kernels.iter().map(|kernel| (*kernel, *wanted)));
    }
    // Kernels whose service has another scheduler.
    let mut odd = Vec::new();
    for (kernel, wanted) in starts.iter().filter(|(kernel, _)| kernel.connections == [[0; 3]; 2]) {
        if let Some(vip) = kernel.table.0[0] {
            let mut other = *kernel;
            other.table.0[0] = Some(Vip { scheduler: OTHER_SCHEDULER, ..vip });
            odd.push((other, *wanted));
        }
    }
    starts.extend(odd);
    starts
}

const _: () = assert!(SERVICES == 2 && DESTINATIONS == 3);
