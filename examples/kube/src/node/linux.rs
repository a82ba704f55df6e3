//! This node: its kernel by netlink and `/proc`, its packet filter by nft, its ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Error, Result, anyhow};
use ipvs_netlink::diagnose::Severity;
use ipvs_netlink::proc::{Proc, Profile};
use ipvs_netlink::{Client, Ruleset};

use super::host::{Addresses, Host, Leftovers, NotDone};
use super::interface::{INTERFACE, Interface};
use super::programs::Programs;
use super::server::HealthChecks;
use super::status::Status;
use super::{conntrack, filter, leftovers};
use crate::health::HealthCheck;
use crate::options::Options;

/// This node, in the network namespace of the program.
pub struct Linux {
    interface: Interface,
    health_checks: HealthChecks,
    profile: Profile,
}

impl Linux {
    /// This node. The status is what health checks tell of the proxy.
    pub fn new(options: &Options, status: Arc<Status>) -> Self {
        let excluded = options.clone();
        Self {
            interface: Interface::new(move |address| excluded.is_excluded(address)),
            health_checks: HealthChecks::new(status),
            // Without it other hosts would be told that this one has every virtual address.
            profile: Profile::node_proxy().strict_arp(),
        }
    }

    /// Takes away what the proxy owns but the rules: the interface and the table of nft. The sysctls stay, since others
    /// may rely on them by now.
    pub async fn clean_up(&mut self) -> (Vec<String>, Vec<Error>) {
        let interface = &mut self.interface;
        let unbound = unbind_all(interface).await;
        let remove_interface = async || {
            let was_there = interface.exists().await?;
            interface.remove().await.map(|()| was_there)
        };
        clean_up(unbound, remove_interface, filter::remove).await
    }
}

/// Takes all addresses of the proxy from the interface; gives those that stay.
async fn unbind_all(interface: &mut Interface) -> Result<Vec<Error>> {
    let mut failures = Vec::new();
    if interface.exists().await? {
        for address in interface.addresses().await?.own {
            failures.extend(interface.unbind(address).await.err());
        }
    }
    Ok(failures)
}

/// The table goes last: while an address stays, the table is what closes the ports of the host at this address. Both
/// functions tell whether there was something to remove.
async fn clean_up(
    unbound: Result<Vec<Error>>,
    remove_interface: impl AsyncFnOnce() -> Result<bool>,
    remove_table: impl AsyncFnOnce() -> Result<bool>,
) -> (Vec<String>, Vec<Error>) {
    let table = format!("table inet {} of nft", crate::nft::TABLE);
    let (mut done, mut failures) = (Vec::new(), unbound.unwrap_or_else(|error| vec![error]));
    if !failures.is_empty() {
        failures.push(anyhow!(
            "{INTERFACE} and the {table} stay, since addresses may be left there: try --cleanup again"
        ));
        return (done, failures);
    }
    for (what, removed) in
        [(INTERFACE.to_owned(), remove_interface().await), (table, remove_table().await)]
    {
        match removed {
            Ok(was_there) => done.extend(was_there.then(|| format!("{what} removed"))),
            Err(error) => failures.push(error),
        }
    }
    (done, failures)
}

impl Host for Linux {
    async fn connect(&mut self) -> Result<Client> {
        Client::connect_tokio().await.context("IPVS cannot be reached")
    }

    async fn diagnose(&mut self, rules: &Ruleset) -> Vec<String> {
        let rules = rules.clone();
        let diagnosis =
            tokio::task::spawn_blocking(move || ipvs_netlink::Options::new().diagnose(&rules));
        let Ok(diagnosis) = diagnosis.await else { return Vec::new() };
        let findings = diagnosis.findings.iter();
        findings
            .filter(|finding| finding.severity != Severity::Limited)
            .map(ToString::to_string)
            .collect()
    }

    fn set_sysctls(&mut self) -> Result<Vec<String>> {
        let changes = Proc::new().apply(&self.profile).context("a sysctl cannot be set")?;
        Ok(changes.to_string().lines().map(str::to_owned).collect())
    }

    async fn addresses(&mut self) -> Result<Addresses> {
        self.interface.addresses().await
    }

    async fn bind(&mut self, address: IpAddr) -> Result<()> {
        self.interface.bind(address).await
    }

    async fn unbind(&mut self, address: IpAddr) -> Result<()> {
        self.interface.unbind(address).await
    }

    async fn has_filter(&mut self) -> Result<bool> {
        filter::is_loaded().await
    }

    async fn load_filter(&mut self, script: &str) -> Result<()> {
        filter::load(script).await
    }

    async fn remove_filter(&mut self) -> Result<bool> {
        filter::remove().await
    }

    async fn answer(&mut self, checks: &BTreeMap<u16, HealthCheck>) -> Vec<NotDone<u16>> {
        self.health_checks.answer(checks)
    }

    async fn forget(
        &mut self,
        stale: &BTreeSet<(SocketAddr, Option<SocketAddr>)>,
    ) -> Result<usize> {
        conntrack::forget(stale).await
    }

    async fn find_leftovers(&mut self) -> Vec<String> {
        leftovers::find(&Programs::default()).await
    }

    async fn remove_leftovers(&mut self) -> Leftovers {
        leftovers::remove(&Programs::default()).await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Once: the packet filter was removed though an address stayed bound, and the ports of the host answered there.
    #[tokio::test]
    async fn the_table_stays_while_an_address_of_the_proxys_is_bound() {
        for unbound in [Ok(vec![anyhow!("10.96.0.1 is busy")]), Err(anyhow!("no socket"))] {
            let removed = Cell::new(0);
            let remove = async || {
                removed.set(removed.get() + 1);
                Ok(true)
            };
            let (done, failures) = clean_up(unbound, remove, remove).await;
            assert!(done.is_empty() && removed.get() == 0, "{done:?}");
            assert_eq!(failures.len(), 2);
            assert!(failures[1].to_string().contains("stay"), "{failures:?}");
        }
        // Addresses of others on the interface keep the interface alone.
        let others = async || Err(anyhow!("kube-ipvs0 stays"));
        let (done, failures) = clean_up(Ok(Vec::new()), others, async || Ok(true)).await;
        assert_eq!(
            (&*done, failures.len()),
            (&["table inet ipvs-kube of nft removed".to_owned()][..], 1)
        );
    }
}
