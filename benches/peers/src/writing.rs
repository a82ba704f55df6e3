//! Rows that write rules into an empty table: the floor, and each way that the crate offers.

use std::time::Duration;

use anyhow::Context;
use ipvs_netlink::{Client, Error, Operation, Policy, Results, Ruleset, blocking};

use crate::floor::Floor;
use crate::measure::{Rounds, Row, run, time};
use crate::namespace::filled;
use crate::rules::{Size, operations};

const WINDOWS: [usize; 7] = [16, 32, 64, 96, 128, 192, 256];

/// A row; `write` writes these rules once.
pub fn row<'a>(
    name: &'static str,
    rules: &'a Ruleset,
    mut write: impl FnMut(&Ruleset) -> anyhow::Result<Duration> + 'a,
) -> Row<'a> {
    Row::new(name, move || filled(rules, || write(rules)))
}

/// The floor, with `window` operations in each send.
///
/// # Errors
/// An operation failed.
pub fn floor(rules: &Ruleset, window: usize) -> anyhow::Result<Duration> {
    let mut floor = Floor::open()?;
    let encoded = floor.encode(&operations(rules), window);
    time(|| floor.run(&encoded))
}

/// A sync of a ruleset: reading the table, planning and writing.
///
/// # Errors
/// A change failed.
pub fn sync(rules: &Ruleset, policy: &Policy) -> anyhow::Result<Duration> {
    let mut client = blocking::Client::connect()?;
    time(|| Ok(client.sync(rules, policy).map(drop)?))
}

/// A batch of the blocking client.
///
/// # Errors
/// An operation failed.
pub fn batch(rules: &Ruleset) -> anyhow::Result<Duration> {
    let operations = operations(rules);
    let mut client = blocking::Client::connect()?;
    time(|| all_succeeded(client.batch(operations.iter().copied())))
}

/// A batch of the asynchronous client on tokio.
///
/// # Errors
/// An operation failed.
pub fn tokio(runtime: &tokio::runtime::Runtime, rules: &Ruleset) -> anyhow::Result<Duration> {
    let operations = operations(rules);
    let client = runtime.block_on(Client::connect_tokio())?;
    time(|| all_succeeded(runtime.block_on(client.batch(operations.iter().copied()))))
}

/// A batch of the asynchronous client on smol.
///
/// # Errors
/// An operation failed.
pub fn smol(rules: &Ruleset) -> anyhow::Result<Duration> {
    let operations = operations(rules);
    let client = smol::block_on(Client::connect_smol())?;
    time(|| all_succeeded(smol::block_on(client.batch(operations.iter().copied()))))
}

/// A method of the blocking client for each operation, one round trip each.
///
/// # Errors
/// An operation failed.
pub fn one_by_one(rules: &Ruleset) -> anyhow::Result<Duration> {
    let operations = operations(rules);
    let mut client = blocking::Client::connect()?;
    time(|| {
        for operation in &operations {
            match operation {
                Operation::AddService(service) => client.add_service(service)?,
                Operation::AddDestination(key, server) => client.add_destination(*key, server)?,
                _ => unreachable!("rules are written by no other operations"),
            }
        }
        Ok(())
    })
}

/// Turns a batch with a failed operation into an error.
///
/// # Errors
/// The error of the first operation that failed.
pub fn all_succeeded(results: Result<Results, Error>) -> anyhow::Result<()> {
    Ok(results?.into_result()?)
}

/// The window with which the floor is fastest, found by a sweep, whose times it prints.
///
/// # Errors
/// An operation failed.
pub fn best_window(rules: &Ruleset, rounds: Rounds) -> anyhow::Result<usize> {
    let row = |window| {
        let write = move |rules: &Ruleset| floor(rules, window);
        row("floor", rules, write).note(format!("{window} operations in a send"))
    };
    let times = run("windows of the floor", WINDOWS.map(row).into(), rounds)?;
    times.print("Windows of the floor", Size::of(rules));
    // A disturbance only adds to the time of a run, so the shortest time counts.
    let best = times.rows().iter().zip(WINDOWS).min_by_key(|(row, _)| row.spread().0);
    best.map(|(_, window)| window).context("no window was tried")
}
