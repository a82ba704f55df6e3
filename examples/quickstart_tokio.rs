//! The quickstart on tokio: a service with three destinations, added, listed, removed again.

mod support;

use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::Parser;
use ipvs_netlink::{Client, Destination, Error, Scheduler, Service};
use support::output::say;

/// Adds a service with three destinations to IPVS, lists it, and removes it again.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    kernel: support::KernelOption,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = quickstart(&Arguments::parse()).await;
    support::end(outcome.inspect_err(|_| support::explain(&support::quickstart_rules())))
}

async fn quickstart(arguments: &Arguments) -> Result<(), Error> {
    // `Client::connect_tokio()`, or a client of a fake kernel.
    let ipvs = arguments.kernel.connect_async(Client::connect_tokio()).await?;
    say!("IPVS {}", ipvs.info().await?.version);

    let web = Service::tcp(Ipv4Addr::new(203, 0, 113, 1), 80).scheduler(Scheduler::RoundRobin);
    ipvs.add_service(&web).await?;
    for host in 1..=3 {
        let server = Destination::masquerade(Ipv4Addr::new(10, 0, 0, host), 8080);
        ipvs.add_destination(web.key, &server.weight(host.into())).await?;
    }

    say!("{}, scheduled by {}", web.key, ipvs.service(web.key).await?.service.scheduler);
    for entry in ipvs.destinations(web.key).await? {
        let server = entry.destination;
        say!("  {} {}, weight {}", server.key, server.forwarding, server.weight);
    }

    ipvs.remove_service(web.key).await?;
    Ok(())
}
