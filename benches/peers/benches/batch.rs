//! Batches on a real kernel beside the floor: `cargo xtask vm bench batch`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use ipvs_netlink::{Client, Ruleset, Scheduler};
use peers::measure::{Rounds, print_ratio, run};
use peers::namespace::Namespace;
use peers::rules::{self, Size};
use peers::writing::{self, all_succeeded, row};
use tokio::runtime::{Builder, Runtime};

fn main() -> anyhow::Result<()> {
    let rules = &rules::ruleset("1000x10".parse()?, Scheduler::RoundRobin, 0)?;
    let best = writing::best_window(rules, Rounds::of(5))?;
    let runtime = &Builder::new_current_thread().enable_all().build()?;
    let rows = vec![
        row("floor", rules, |rules| writing::floor(rules, best)),
        row("floor-one-by-one", rules, |rules| writing::floor(rules, 1)),
        row("batch", rules, writing::batch),
        row("tokio", rules, |rules| writing::tokio(runtime, rules)),
        row("smol", rules, writing::smol),
        row("one-by-one", rules, writing::one_by_one),
    ];
    let times = run("batches", rows, Rounds::of(15))?;
    times.print("Batches", Size::of(rules));
    let held = longest_hold(runtime, rules)?;
    println!("\nthe longest time for which a batch on tokio held the executor: {held:.1?}\n");

    print_ratio("batch/floor", times.ratio("batch", "floor")?);
    let single = times.ratio("one-by-one", "floor-one-by-one")?;
    print_ratio("one-by-one/floor-one-by-one", single);
    print_ratio("tokio/blocking", times.ratio("tokio", "batch")?);
    print_ratio("smol/blocking", times.ratio("smol", "batch")?);
    print_ratio("batch/one-by-one", times.ratio("batch", "one-by-one")?);
    Ok(())
}

/// The longest time that another task of the same thread waited for its turn.
fn longest_hold(runtime: &Runtime, rules: &Ruleset) -> anyhow::Result<Duration> {
    static LAST_TURN: AtomicBool = AtomicBool::new(false);
    let _fresh = Namespace::fresh()?;
    let operations = rules::operations(rules);
    runtime.block_on(async {
        let client = Client::connect_tokio().await?;
        let waiting = tokio::spawn(async {
            let mut longest = Duration::ZERO;
            let mut turns = 0_u32;
            loop {
                let before = Instant::now();
                tokio::task::yield_now().await;
                longest = longest.max(before.elapsed());
                turns += 1;
                if LAST_TURN.load(Ordering::Relaxed) {
                    return (longest, turns);
                }
            }
        });
        let outcome = all_succeeded(client.batch(operations.iter().copied()).await);
        LAST_TURN.store(true, Ordering::Relaxed);
        let (longest, turns) = waiting.await?;
        outcome?;
        ensure!(turns > 10, "the other task had no turns");
        Ok(longest)
    })
}
