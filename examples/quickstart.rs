//! A service with three destinations: added, listed, removed again.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::Parser;
use ipvs_netlink::{Destination, Error, Scheduler, Service, blocking::Client};

/// Adds a service with three destinations to the kernel's IPVS, lists it, and removes it again.
#[derive(Parser)]
struct Arguments {}

fn main() -> ExitCode {
    Arguments::parse();
    match quickstart() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn quickstart() -> Result<(), Error> {
    let mut ipvs = Client::connect()?;
    println!("IPVS {}", ipvs.info()?.version);

    let web = Service::tcp(Ipv4Addr::new(203, 0, 113, 1), 80).scheduler(Scheduler::RoundRobin);
    ipvs.add_service(&web)?;
    for host in 1..=3 {
        let server = Destination::masquerade(Ipv4Addr::new(10, 0, 0, host), 8080);
        ipvs.add_destination(web.key, &server.weight(host.into()))?;
    }

    println!("{}, scheduled by {}", web.key, ipvs.service(web.key)?.service.scheduler);
    for entry in ipvs.destinations(web.key)? {
        let server = entry.destination;
        println!("  {} {}, weight {}", server.key, server.forwarding, server.weight);
    }

    ipvs.remove_service(web.key)?;
    Ok(())
}
