//! The first program of the README, in a package that depends on the crate.

use ipvs_netlink::blocking::Client;

fn main() -> Result<(), ipvs_netlink::Error> {
    let mut ipvs = Client::connect()?;
    consumer::add(&mut ipvs)?;
    println!("{}", ipvs.ruleset()?);
    Ok(())
}
