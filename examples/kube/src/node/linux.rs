//! This node: its kernel by netlink and `/proc`, its packet filter by nft, its ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use ipvs_netlink::diagnose::Severity;
use ipvs_netlink::proc::{Proc, Profile};
use ipvs_netlink::{Client, Ruleset};

use super::host::{Addresses, Host, Leftovers, NotDone};
use super::interface::Interface;
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
    pub async fn clean_up(&mut self) -> (Vec<String>, Vec<anyhow::Error>) {
        let (mut done, mut failures) = (Vec::new(), Vec::new());
        let interface = async {
            if !self.interface.exists().await? {
                return Ok(None);
            }
            for address in self.interface.addresses().await?.own {
                self.interface.unbind(address).await?;
            }
            self.interface.remove().await?;
            anyhow::Ok(Some(format!("{} removed", super::INTERFACE)))
        };
        match interface.await {
            Ok(what) => done.extend(what),
            Err(error) => failures.push(error),
        }
        let table = async {
            let was_there = filter::remove().await?;
            let what = || format!("table inet {} of nft removed", crate::nft::TABLE);
            anyhow::Ok(was_there.then(what))
        };
        match table.await {
            Ok(what) => done.extend(what),
            Err(error) => failures.push(error),
        }
        (done, failures)
    }
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

    async fn remove_leftovers(&mut self) -> Leftovers {
        leftovers::remove(&Programs::default()).await
    }
}
