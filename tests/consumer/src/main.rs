//! The program of somebody who depends on the crate: the front page's first one.

use ipvs_netlink::blocking::Client;

fn main() -> Result<(), ipvs_netlink::Error> {
    let mut ipvs = Client::connect()?;
    consumer::add(&mut ipvs)?;
    println!("{}", ipvs.ruleset()?);
    Ok(())
}
