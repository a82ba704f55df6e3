//! The tests of a package that depends on the crate: on the fake kernel, without root and IPVS.

use consumer::{add, replace};
use ipvs_netlink::fake::Kernel;

#[test]
fn a_service_is_added_once_and_updated_then() -> Result<(), Box<dyn std::error::Error>> {
    let mut ipvs = Kernel::new().connect()?;
    add(&mut ipvs)?;
    let rules = ipvs.ruleset()?.to_string();
    assert!(rules.contains("-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 3"), "{rules}");
    let again = add(&mut ipvs).unwrap_err();
    assert!(again.is_already_exists(), "{again}");
    Ok(())
}

#[test]
fn a_table_is_replaced() -> Result<(), Box<dyn std::error::Error>> {
    let kernel = Kernel::new();
    let mut ipvs = kernel.connect()?;
    add(&mut ipvs)?;
    let wanted = "-A -t [2001:db8::1]:443 -s wlc\n-a -t [2001:db8::1]:443 -r [2001:db8::2]:443 -g -w 1\n";
    replace(&mut ipvs, &wanted.parse()?)?;
    assert_eq!(ipvs.ruleset()?, wanted.parse()?);
    Ok(())
}
