//! Rows that change a table through the syncer that has filled it.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipvs_netlink::blocking::Client;
use ipvs_netlink::{Destination, Policy, Ruleset, Scheduler, Service, Syncer};
use peers::measure::{Rounds, Row, Times, run};
use peers::namespace::Namespace;
use peers::rules::{Size, ruleset};

use crate::Figures;
use crate::counting::{Calls, Counting};

/// How many changes are timed together: one is too short.
const CHANGES: u32 = 20;

/// Runs the rows over tables of all sizes.
pub(crate) fn measure(
    sizes: &[Size],
    scheduler: Scheduler,
    rounds: Rounds,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut tables = Vec::new();
    for size in sizes {
        eprintln!("filling {size}");
        tables.push(RefCell::new(Synced::filled(&ruleset(*size, scheduler, 0)?)?));
    }
    let mut rows = Vec::new();
    for (table, size) in tables.iter().zip(sizes) {
        rows.extend([
            row("change", *size, table, Synced::change_destination)
                .note("the weight of one destination: one send"),
            row("service", *size, table, Synced::change_service)
                .note("the persistence of one service: one send"),
            row("nothing", *size, table, Synced::change_nothing).note("no call"),
        ]);
    }
    let times = run("changing", rows, rounds)?;
    // The namespaces are left in the opposite order.
    while tables.pop().is_some() {}
    print("Changing, and passes without a change", &times);
    for other in &sizes[1..] {
        let [first, other] = [&sizes[0], other].map(|size| format!("change@{size}"));
        figures.named(format!("{first}/{other}"), &times, &first, &other);
    }

    let half = |size: &Size| {
        let size = *size;
        let changes = size.destinations / 2 * 2;
        Row::new(format!("half@{size}"), move || replace_half(size, scheduler))
            .note(format!("half of the destinations replaced: {changes} changes"))
    };
    let times = run("replacing half", sizes.iter().map(half).collect(), rounds)?;
    print("Replacing half", &times);
    Ok(())
}

fn print(title: &str, times: &Times) {
    println!("\n### {title}\n");
    println!("| row | median | lowest to highest | rounds | what |");
    println!("|---|---:|---:|---:|---|");
    for row in times.rows() {
        let (lowest, highest) = row.spread();
        let (median, rounds) = (row.median(), row.each.len());
        println!(
            "| {} | {median:.2?} | {lowest:.2?} to {highest:.2?} | {rounds} | {} |",
            row.name, row.note,
        );
    }
}

type Change = fn(&mut Synced) -> anyhow::Result<()>;

/// A row that makes a change several times over; its time is that of one change.
fn row<'a>(name: &str, size: Size, table: &'a RefCell<Synced>, change: Change) -> Row<'a> {
    Row::new(format!("{name}@{size}"), move || {
        let mut table = table.borrow_mut();
        let start = Instant::now();
        for _ in 0..CHANGES {
            change(&mut table)?;
        }
        Ok(start.elapsed() / CHANGES)
    })
}

fn replace_half(size: Size, scheduler: Scheduler) -> anyhow::Result<Duration> {
    let mut table = Synced::filled(&ruleset(size, scheduler, 0)?)?;
    let wanted = ruleset(size, scheduler, 1)?;
    let start = Instant::now();
    table.syncer.want(wanted);
    table.pass()?;
    let took = start.elapsed();
    ensure!(table.client.ruleset()? == *table.syncer.wanted(), "the table is not as wanted");
    table.client.flush()?;
    Ok(took)
}

/// A table in a namespace of its own, with the syncer that made it.
struct Synced {
    client: Client,
    syncer: Syncer,
    calls: Arc<Calls>,
    service: Service,
    destination: Destination,
    /// The number of changes so far, which gives each change another value than the one before.
    changes: u32,
    /// Dropped last: the other fields live in the namespace.
    _namespace: Namespace,
}

impl Synced {
    fn filled(rules: &Ruleset) -> anyhow::Result<Self> {
        let namespace = Namespace::fresh()?;
        let calls = Arc::new(Calls::default());
        let mut client = Client::connect_with(Counting::open(Arc::clone(&calls))?)?;
        let mut syncer = Syncer::new(Policy::new().verify(false));
        syncer.want(rules.clone());
        let _ = client.pass(&mut syncer).into_result()?;
        let middle = rules.services().len() / 2;
        let middle = rules.services().nth(middle).context("no service")?;
        let destination = middle.destinations().next().context("no destination")?;
        calls.take();
        Ok(Self {
            client,
            syncer,
            calls,
            service: *middle.service(),
            destination: *destination,
            changes: 0,
            _namespace: namespace,
        })
    }

    fn change_destination(&mut self) -> anyhow::Result<()> {
        self.changes += 1;
        let destination = self.destination.weight(1 + self.changes % 100);
        self.syncer.want_destination(self.service.key, destination)?;
        self.pass_in(1)
    }

    fn change_service(&mut self) -> anyhow::Result<()> {
        self.changes += 1;
        let timeout = Duration::from_secs(300 + u64::from(self.changes % 100));
        self.syncer.want_service(self.service.persistence(timeout))?;
        self.pass_in(1)
    }

    fn change_nothing(&mut self) -> anyhow::Result<()> {
        self.pass_in(0)
    }

    /// A pass that must take this many sends, and as many receives.
    fn pass_in(&mut self, sends: usize) -> anyhow::Result<()> {
        self.pass()?;
        let calls = self.calls.take();
        ensure!(calls == (sends, sends), "{calls:?} sends and receives, not {sends} each");
        Ok(())
    }

    fn pass(&mut self) -> anyhow::Result<()> {
        Ok(self.client.pass(&mut self.syncer).into_result().map(drop)?)
    }
}
