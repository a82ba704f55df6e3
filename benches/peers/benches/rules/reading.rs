//! Rows that read a whole table.

use std::time::Duration;

use anyhow::ensure;
use ipvs_netlink::Ruleset;
use ipvs_netlink::blocking::Client;
use peers::Peer;
use peers::floor::Floor;
use peers::measure::{Rounds, Row, run, time};
use peers::namespace::filled;
use peers::peers::ipvsadm::Ipvsadm;
use peers::peers::netlink_packet_ipvs::NetlinkPacketIpvs;
use peers::peers::nlrs::Nlrs;
use peers::peers::ours::Ours;
use peers::rules::Size;

use crate::Figures;

/// Runs the rows over one table.
pub(crate) fn measure(
    rules: &Ruleset,
    rounds: Rounds,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    filled(rules, || {
        let took = Ours.write(rules)?;
        rows(rules, rounds, figures)?;
        Ok(took)
    })?;
    Ok(())
}

fn rows(rules: &Ruleset, rounds: Rounds, figures: &mut Figures) -> anyhow::Result<()> {
    let size = Size::of(rules);
    let rows = vec![
        Row::new("floor", || floor(rules)).note("raw dumps, nothing parsed"),
        row("read", size, &Ours).note("with counters"),
        Row::new("ruleset", || {
            let mut client = Client::connect()?;
            time(|| {
                ensure!(Size::of(&client.ruleset()?) == size, "rules are missing");
                Ok(())
            })
        })
        .note("and sorted into a ruleset"),
        row("ipvsadm-list", size, &Ipvsadm::Original)
            .note("`ipvsadm -Ln`, from its start to its end"),
        row("our-ipvsadm-list", size, &Ipvsadm::Ours).note("the same by our ipvsadm"),
        row("nlrs", size, &Nlrs).note("without counters"),
        row("netlink-packet-ipvs", size, &NetlinkPacketIpvs).note("with a plain loop of ours"),
    ];
    let times = run(&format!("reading {size}"), rows, rounds)?;
    times.print("Reading", size);

    let at = size.to_string();
    figures.ratio(&at, &times, "read", "floor");
    // The name of this ratio has the slower row first; its value is how many times as fast `read`
    // is.
    figures.named(format!("ipvsadm-list/read@{at}"), &times, "read", "ipvsadm-list");
    figures.ratio(&at, &times, "our-ipvsadm-list", "ipvsadm-list");
    figures.ratio(&at, &times, "read", "nlrs");
    figures.ratio(&at, &times, "read", "netlink-packet-ipvs");
    Ok(())
}

fn row<'a>(name: &'static str, size: Size, peer: &'a dyn Peer) -> Row<'a> {
    Row::new(name, move || {
        let (took, read) = peer.read()?;
        ensure!(read == size, "read {read:?} of {size:?}");
        Ok(took)
    })
}

fn floor(rules: &Ruleset) -> anyhow::Result<Duration> {
    let mut floor = Floor::open()?;
    let dumps = floor.encode_dumps(rules);
    time(|| {
        ensure!(floor.read(&dumps)? == Size::of(rules).rules(), "rules are missing");
        Ok(())
    })
}
