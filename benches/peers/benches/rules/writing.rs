//! Rows that write rules into an empty table.

use ipvs_netlink::{Policy, Ruleset, Scheduler};
use peers::Peer;
use peers::measure::{Rounds, run};
use peers::peers::ipvsadm::Ipvsadm;
use peers::peers::netlink_packet_ipvs::NetlinkPacketIpvs;
use peers::peers::nlrs::Nlrs;
use peers::peers::ours::Ours;
use peers::rules::Size;
use peers::writing::{self, row};
use tokio::runtime::Builder;

use crate::Figures;

/// The peers that need a round trip for each rule.
const SLOW: [&dyn Peer; 3] = [&Ipvsadm::Original, &Nlrs, &NetlinkPacketIpvs];

/// Runs the rows for one ruleset: `all` of them, or only those that have a ratio to the floor.
pub(crate) fn measure(
    rules: &Ruleset,
    window: usize,
    all: bool,
    rounds: Rounds,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let size = Size::of(rules);
    let scheduler =
        rules.services().next().map(|rules| rules.service().scheduler).unwrap_or_default();
    let runtime = &Builder::new_current_thread().enable_all().build()?;
    let unverified = &Policy::new().verify(false);
    let verified = &Policy::new();
    let mut rows = vec![
        row("floor", rules, |rules| writing::floor(rules, window))
            .note(format!("encoded beforehand, {window} operations in a send")),
        row("apply", rules, |rules| Ours.write(rules)).note(Ours.note()),
        row("sync", rules, |rules| writing::sync(rules, unverified))
            .note("with reading and planning"),
        row("verified", rules, |rules| writing::sync(rules, verified))
            .note("with reading, planning and reading back"),
        row("batch", rules, writing::batch).note("blocking"),
    ];
    if all {
        rows.push(
            row("tokio", rules, |rules| writing::tokio(runtime, rules)).note("a batch on tokio"),
        );
        let program = Ipvsadm::Ours;
        rows.push(
            row(program.name(), rules, |rules| Ipvsadm::Ours.write(rules)).note(program.note()),
        );
        rows.push(row("one-by-one", rules, writing::one_by_one).note("a round trip each"));
        rows.extend(
            SLOW.map(|peer| row(peer.name(), rules, |rules| peer.write(rules)).note(peer.note())),
        );
    }
    let name = scheduler.name();
    let times = run(&format!("writing {size} by {name}"), rows, rounds)?;
    times.print(&format!("Writing by {name}"), size);

    let at = match scheduler {
        Scheduler::RoundRobin => size.to_string(),
        _ => format!("{size}-{name}"),
    };
    figures.rates(&at, &times, size);
    for ours in ["apply", "sync", "verified", "batch"] {
        figures.ratio(&at, &times, ours, "floor");
    }
    figures.ratio(&at, &times, Ipvsadm::Ours.name(), Ipvsadm::Original.name());
    for peer in SLOW {
        figures.ratio(&at, &times, "apply", peer.name());
    }
    Ok(())
}
