//! The node: a pass makes it as [`Desired`] says, in an order in which nothing is open that is to be closed, and nothing
//! that serves is taken away before its replacement is there.

mod conntrack;
mod filter;
mod host;
mod interface;
mod leftovers;
mod linux;
mod metrics;
mod server;
mod status;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use ipvs_netlink::{Change, Client, Protocol, Report, Ruleset, ServiceKey, Syncer};

use crate::desired::Desired;
use crate::nft::{Script, Sets};
use crate::options::Options;

pub use host::{Host, NotDone};
pub use interface::INTERFACE;
pub use linux::Linux;
pub use server::{serve_health, serve_metrics};
pub use status::Status;

/// After how long the whole node is looked at again, as kube-proxy does it: others change it without a word.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The first wait after a part of the node could not be made as desired, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = CHECK_INTERVAL;

/// Keeps a node as desired.
///
/// It owns every service of IPVS by address but those of excluded networks, the interface `kube-ipvs0`, and the table
/// `inet ipvs-kube` of nft. All of it stays when the proxy ends, and the next one goes on from there.
pub struct Proxy<H> {
    host: H,
    ipvs: Option<Client>,
    syncer: Syncer,
    /// The proxy's addresses on the interface; `None` before they were read.
    bound: Option<BTreeSet<IpAddr>>,
    /// The script that the packet filter has; `None` where that is not known.
    filter: Option<Script>,
    /// When the whole node is looked at again.
    check: Option<Instant>,
    check_interval: Duration,
    /// How many passes in a row had failures of the node's.
    failures: u32,
    is_first: bool,
    /// What kube-proxy left is to be removed once all is as desired.
    takes_over: bool,
    status: Arc<Status>,
}

/// What came of a pass.
#[derive(Debug, Default)]
#[must_use = "what failed is in it"]
pub struct Pass {
    /// What was changed, in words, without the rules.
    pub done: Vec<String>,
    /// What became of the rules; `None` where IPVS could not be reached.
    pub report: Option<Report>,
    /// What is not as desired, and why.
    pub failures: Vec<Failure>,
    /// What limits the node or stands in its way, with advice: at the first pass, and where IPVS could not be reached.
    pub advice: Vec<String>,
    /// After how long the next pass has something to do.
    pub next: Duration,
}

/// A part of the node that is not as desired.
#[derive(Debug)]
pub struct Failure {
    /// Whether the rest of the node does not work without it.
    pub extent: Extent,
    /// What failed, and why.
    pub error: Error,
}

/// How much of the node does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Changes do not come through at all: the node is not in sync.
    Node,
    /// One thing among others.
    Part,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl Pass {
    /// Whether the node is in sync, but for parts.
    pub fn is_in_sync(&self) -> bool {
        self.failures.iter().all(|failure| failure.extent == Extent::Part)
    }

    /// Whether all is as desired.
    pub fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    /// Whether anything was changed.
    pub fn is_quiet(&self) -> bool {
        self.done.is_empty() && self.report.as_ref().is_none_or(|report| report.changed == 0)
    }

    fn fail(&mut self, extent: Extent, error: impl Into<Error>) {
        self.failures.push(Failure { extent, error: error.into() });
    }

    /// Notes what was done, or that it failed.
    fn note<T>(&mut self, extent: Extent, outcome: Result<T>) -> Option<T> {
        outcome.map_err(|error| self.fail(extent, error)).ok()
    }
}

/// A few lines: what was done, what failed, what limits.
impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.done.clone();
        if let Some(report) = &self.report {
            lines.push(format!("rules: {report}"));
        }
        lines.extend(self.failures.iter().map(|failure| format!("failed: {failure}")));
        lines.extend(self.advice.iter().map(|advice| format!("advice: {advice}")));
        f.write_str(&lines.join("\n"))
    }
}

impl<H: Host> Proxy<H> {
    /// A proxy that has not looked at the node yet. It tells the status how the node is doing.
    pub fn new(host: H, options: &Options, status: Arc<Status>) -> Self {
        Self {
            host,
            ipvs: None,
            syncer: Syncer::new(options.policy().detailed(true)),
            bound: None,
            filter: None,
            check: None,
            check_interval: CHECK_INTERVAL,
            failures: 0,
            is_first: true,
            takes_over: false,
            status,
        }
    }

    /// After how long the whole node is looked at again.
    #[must_use]
    pub fn check_interval(self, check_interval: Duration) -> Self {
        self.status.set_check_interval(check_interval);
        Self { check_interval, ..self }
    }

    /// Has kube-proxy's chains and sets removed from the packet filter, once all is as desired.
    #[must_use]
    pub fn take_over(self, takes_over: bool) -> Self {
        Self { takes_over, ..self }
    }

    /// How the node is doing, as told by `/healthz` and the metrics.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Has the next pass take away what is withheld since it is too much at once.
    pub fn confirm(&mut self) {
        self.syncer.confirm();
    }

    /// Makes the node as desired, as far as that is possible now.
    ///
    /// 1. The sysctls. 2. The packet filter, which closes the addresses that are bound next. 3. Addresses are bound.
    /// 4. The rules. 5. Addresses that no service has any more are unbound. 6. What is tracked of UDP flows that would
    ///    go astray is forgotten. 7. The ports of health checks.
    pub async fn pass(&mut self, desired: &Desired) -> Pass {
        let begin = Instant::now();
        let mut pass = Pass::default();
        if self.check.is_none_or(|check| check <= begin) {
            self.syncer.resync();
            (self.bound, self.check) = (None, Some(begin + self.check_interval));
            if self.filter.is_some() && !matches!(self.host.has_filter().await, Ok(true)) {
                self.filter = None;
            }
        }
        if self.ipvs.is_none() {
            self.ipvs = pass.note(Extent::Node, self.host.connect().await);
        }
        match self.ipvs.clone() {
            None => pass.advice = self.host.diagnose(&desired.rules).await,
            Some(ipvs) => self.change(&mut pass, desired, &ipvs).await,
        }
        for (port, error) in self.host.answer(&desired.health_checks).await {
            let what = format!("health checks are not answered at port {port}");
            pass.fail(Extent::Part, error.context(what));
        }
        if self.takes_over && pass.is_success() {
            let leftovers = self.host.remove_leftovers().await;
            if let Some(removed) = pass.note(Extent::Part, leftovers) {
                pass.done.extend(removed);
                self.takes_over = false;
            }
        }
        pass.next = self.next(&pass);
        self.status.end(&pass, desired, begin.elapsed());
        pass
    }

    async fn change(&mut self, pass: &mut Pass, desired: &Desired, ipvs: &Client) {
        if let Some(changes) = pass.note(Extent::Node, self.host.set_sysctls()) {
            pass.done.extend(changes);
        }
        if self.bound.is_none() {
            self.bound = pass.note(Extent::Node, self.host.addresses().await);
        }
        let is_filtered = self.filter(pass, desired).await;
        self.bind(pass, desired, is_filtered).await;
        let is_first = std::mem::take(&mut self.is_first);
        if is_first {
            pass.advice = self.host.diagnose(&desired.rules).await;
        }
        if is_filtered {
            // The very first time nothing may be wanted, too, and it has to be said.
            if is_first || self.syncer.wanted() != &desired.rules {
                self.syncer.want(desired.rules.clone());
            }
        } else {
            match self.guarded(desired, ipvs).await {
                Ok(rules) => self.syncer.want(rules),
                // Before anything is wanted, nothing is removed.
                Err(error) => pass.fail(Extent::Node, error),
            }
        }
        let report = ipvs.pass(&mut self.syncer).await;
        self.unbind(pass, desired).await;
        let stale = stale(&report);
        if !stale.is_empty()
            && let Some(count @ 1..) = pass.note(Extent::Part, self.host.forget(&stale).await)
        {
            pass.done.push(format!("{count} tracked UDP flows forgotten"));
        }
        if !report.is_success() {
            let is_stuck = report.error.is_some() || report.excess.is_some();
            let extent = if is_stuck { Extent::Node } else { Extent::Part };
            pass.fail(extent, failed(&report));
        }
        pass.report = Some(report);
    }

    /// Loads the packet filter if it is another; tells whether it is as desired.
    async fn filter(&mut self, pass: &mut Pass, desired: &Desired) -> bool {
        let Some(script) = &desired.nft else { return true };
        let mut script = script.clone();
        // An address stays closed until it is unbound.
        for address in self.bound.iter().flatten() {
            let sets = if address.is_ipv4() { &mut script.v4 } else { &mut script.v6 };
            sets.bound.insert(*address);
        }
        if self.filter.as_ref() == Some(&script) {
            return true;
        }
        let loaded = self.host.load_filter(&script.to_string()).await;
        let is_loaded = pass.note(Extent::Node, loaded).is_some();
        if is_loaded {
            pass.done.push("packet filter loaded".to_owned());
            self.filter = Some(script);
        }
        is_loaded
    }

    /// Binds what is missing. What the packet filter does not guard is not bound.
    async fn bind(&mut self, pass: &mut Pass, desired: &Desired, is_filtered: bool) {
        let Some(bound) = &mut self.bound else { return };
        let filter = self.filter.as_ref();
        let is_guarded = |address: &IpAddr| {
            let sets = |script: &Script| {
                script.v4.bound.contains(address) || script.v6.bound.contains(address)
            };
            is_filtered || filter.is_some_and(sets)
        };
        let missing: Vec<_> =
            desired.addresses.difference(bound).copied().filter(is_guarded).collect();
        let mut failures = Vec::new();
        let mut count = 0;
        for address in missing {
            match self.host.bind(address).await {
                Ok(()) => count += usize::from(bound.insert(address)),
                Err(error) => failures.push(error),
            }
        }
        if count > 0 {
            pass.done.push(format!("{count} addresses bound"));
        }
        fail_once(pass, failures);
    }

    /// Unbinds what no service has any more. Where the table could not be read nobody knows which ones these are.
    async fn unbind(&mut self, pass: &mut Pass, desired: &Desired) {
        let (Some(bound), Some(known)) = (&mut self.bound, self.syncer.known()) else { return };
        if bound.is_subset(&desired.addresses) {
            return;
        }
        let used: HashSet<IpAddr> = known
            .services()
            .filter_map(|rules| rules.key().socket_address())
            .map(|at| at.ip())
            .collect();
        let unused: Vec<_> = bound
            .difference(&desired.addresses)
            .copied()
            .filter(|address| !used.contains(address))
            .collect();
        let mut failures = Vec::new();
        let mut count = 0;
        for address in unused {
            match self.host.unbind(address).await {
                Ok(()) => count += usize::from(bound.remove(&address)),
                Err(error) => failures.push(error),
            }
        }
        if count > 0 {
            pass.done.push(format!("{count} addresses unbound"));
        }
        fail_once(pass, failures);
    }

    /// The rules where the packet filter could not be loaded: a service with source ranges that the filter does not
    /// have yet stays as it is, and is not added, since everybody could come to it.
    async fn guarded(&self, desired: &Desired, ipvs: &Client) -> Result<Ruleset> {
        let mut rules = desired.rules.clone();
        let Some(script) = &desired.nft else { return Ok(rules) };
        let none = Sets::default();
        let filter = self.filter.as_ref();
        let families = [
            (&script.v4, filter.map_or(&none, |filter| &filter.v4)),
            (&script.v6, filter.map_or(&none, |filter| &filter.v6)),
        ];
        let mut unguarded = Vec::new();
        for (wanted, loaded) in families {
            for target in &wanted.restricted {
                let allowed = |sets: &Sets| -> Vec<(u8, IpAddr)> {
                    let all = sets.allowed.iter().flat_map(|(prefix, sources)| {
                        sources.iter().map(move |(of, from)| (of, (*prefix, *from)))
                    });
                    all.filter(|(of, _)| *of == target).map(|(_, network)| network).collect()
                };
                if !loaded.restricted.contains(target) || allowed(loaded) != allowed(wanted) {
                    unguarded.push(ServiceKey::at(target.0, target.1));
                }
            }
        }
        if unguarded.is_empty() {
            return Ok(rules);
        }
        let read;
        let known = match self.syncer.known() {
            Some(known) => known,
            None => {
                read = ipvs.ruleset().await?;
                &read
            }
        };
        for key in unguarded {
            rules.remove_service(key);
            if let Some(found) = known.service(key) {
                rules.insert_service(*found.service())?;
                for destination in found.destinations() {
                    rules.insert_destination(key, *destination)?;
                }
            }
        }
        Ok(rules)
    }

    fn next(&mut self, pass: &Pass) -> Duration {
        let now = Instant::now();
        let check = self.check.map_or(self.check_interval, |check| check.duration_since(now));
        let report = pass.report.as_ref().and_then(|report| report.next);
        // The rules have waits of their own.
        let own = pass.failures.len()
            > usize::from(pass.report.as_ref().is_some_and(|r| !r.is_success()));
        self.failures = if own { self.failures.saturating_add(1) } else { 0 };
        let retry = own
            .then(|| FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST_WAIT));
        report.into_iter().chain(retry).fold(check, Duration::min)
    }
}

/// Many failures of one kind as one.
fn fail_once(pass: &mut Pass, failures: Vec<Error>) {
    let count = failures.len();
    if let Some(first) = failures.into_iter().next() {
        let more =
            if count > 1 { format!(", and {} more like it", count - 1) } else { String::new() };
        pass.fail(Extent::Part, anyhow::anyhow!("{first:#}{more}"));
    }
}

/// What failed of the rules, and nothing of what was done.
fn failed(report: &Report) -> Error {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for failed in &report.failed {
        *reasons.entry(failed.error.to_string()).or_default() += 1;
    }
    let mut lines: Vec<_> = report.error.iter().map(ToString::to_string).collect();
    if let Some(excess) = &report.excess {
        lines.push(format!(
            "no change of any Service is made: the plan {excess}. Where that is meant, confirm it with SIGUSR1 or \
             start with --at-most 1"
        ));
    }
    lines.extend(reasons.into_keys().take(10));
    anyhow::anyhow!("rules: {}", lines.join("; "))
}

/// Which UDP flows the kernel has to forget, since they would go on to where nobody is: those to an endpoint that was
/// removed, and those to a virtual address that had no endpoint before.
fn stale(report: &Report) -> BTreeSet<(SocketAddr, Option<SocketAddr>)> {
    let is_udp = |key: ServiceKey| {
        let udp = matches!(key, ServiceKey::Address { protocol: Protocol::UDP, .. });
        key.socket_address().filter(|_| udp)
    };
    let had_none = |key: ServiceKey| {
        report.before().service(key).is_none_or(|rules| rules.destinations().len() == 0)
    };
    let mut stale = BTreeSet::new();
    for change in &report.made {
        match change {
            Change::AddDestination(key, _) if had_none(*key) => {
                stale.extend(is_udp(*key).map(|at| (at, None)));
            }
            Change::RemoveDestination(key, destination) => {
                let to = destination.key;
                stale.extend(
                    is_udp(*key).map(|at| (at, Some(SocketAddr::new(to.address, to.port)))),
                );
            }
            Change::RemoveService(service) => {
                stale.extend(is_udp(service.key).map(|at| (at, None)));
            }
            _ => {}
        }
    }
    stale
}
