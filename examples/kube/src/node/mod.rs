//! The node: a pass makes it as [`Desired`] says, in an order in which nothing is open that is to be closed, and nothing
//! that serves is taken away before its replacement is there.

mod conntrack;
mod filter;
mod host;
mod interface;
mod leftovers;
mod linux;
mod metrics;
mod programs;
mod server;
mod status;
mod surroundings;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use ipvs_netlink::{
    Change, Client, Policy, Protocol, Report, Ruleset, ServiceKey, ServiceRules, Syncer,
};

use crate::desired::Desired;
use crate::nft::{Script, Sets};
use crate::options::Options;
use surroundings::{Surroundings, used};

pub use host::{Addresses, Host, Leftovers, NotDone};
pub use interface::INTERFACE;
pub use linux::Linux;
pub use server::{is_missing_address, serve_health, serve_metrics};
pub use status::{ApiServer, Health, Status};

/// After how long the whole node is looked at again, as kube-proxy does it: others change it without a word.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The first wait after a part of the node could not be made as desired, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = CHECK_INTERVAL;

/// UDP flows to virtual addresses, or what of them goes to an endpoint.
type StaleFlows = BTreeSet<(SocketAddr, Option<SocketAddr>)>;

/// How many of them are kept where the kernel cannot be told to forget them.
const MOST_STALE: usize = 10_000;

/// Keeps a node as desired.
///
/// It owns every service of IPVS by address but those of excluded networks, the interface `kube-ipvs0`, and the table
/// `inet ipvs-kube` of nft. All of it stays when the proxy ends, and the next one goes on from there.
#[allow(clippy::struct_excessive_bools, reason = "none depends on another")]
pub struct Proxy<H> {
    host: H,
    ipvs: Option<Client>,
    syncer: Syncer,
    policy: Policy,
    /// The addresses of the node; `None` before they were read.
    addresses: Option<Addresses>,
    /// The script that the packet filter has; `None` where that is not known.
    filter: Option<Script>,
    /// What the rules that stand need; `None` until a pass has come through.
    stands: Option<Surroundings>,
    /// What is withheld may be taken away.
    is_confirmed: bool,
    /// UDP flows that the kernel has yet to forget.
    stale: StaleFlows,
    /// When the whole node is looked at again.
    check: Option<Instant>,
    check_interval: Duration,
    /// How many passes in a row had failures of the node's.
    failures: u32,
    /// Nothing was wanted yet.
    is_first: bool,
    /// A table of nft that an earlier proxy left is to be removed.
    removes_filter: bool,
    /// What kube-proxy left is to be removed once all is as desired.
    takes_over: bool,
    /// What kube-proxy left has yet to be looked for, where it is not to be removed.
    looks_for_leftovers: bool,
    /// What of it could not be removed, and why.
    left: Vec<String>,
    /// When that is tried again.
    left_until: Option<Instant>,
    status: Arc<Status>,
}

/// What the table of IPVS says of a pass before it is made.
struct Outlook {
    /// No service is changed, since too much would be taken away at once.
    withholds: bool,
    /// The addresses that have services.
    used: BTreeSet<IpAddr>,
    /// The services that stand though nobody wants them any more.
    unwanted: Vec<ServiceKey>,
}

impl Outlook {
    /// Closes the services that are about to go, since the script does not say who may come to them.
    fn close(&self, script: &mut Script) {
        for key in &self.unwanted {
            if let ServiceKey::Address { protocol, address, port, .. } = *key {
                let sets = script.sets_mut(address.into());
                sets.closed.insert((protocol, SocketAddr::new(address, port)));
            }
        }
    }
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
    /// What is left alone for a reason that the node has.
    pub notes: Vec<String>,
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
    /// Too much would be lost at once: the node stays as it is, and serves as it did, until that is confirmed.
    Withheld,
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

    /// Whether the node serves as it is desired or as it was last: what is withheld keeps serving.
    pub fn serves(&self) -> bool {
        self.failures.iter().all(|failure| failure.extent != Extent::Node)
    }

    /// Whether all is as desired.
    pub fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    /// Whether anything was changed.
    pub fn is_quiet(&self) -> bool {
        self.done.is_empty() && self.report.as_ref().is_none_or(|report| report.changed == 0)
    }

    /// What was changed, in words.
    pub fn changes(&self) -> Vec<String> {
        let report = self.report.as_ref().map(|report| {
            // Its other lines say what failed.
            let report = report.to_string();
            format!("rules: {}", report.lines().next().unwrap_or_default())
        });
        self.done.iter().cloned().chain(report).collect()
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
        let mut lines = self.changes();
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.extend(self.failures.iter().map(|failure| format!("failed: {failure}")));
        lines.extend(self.advice.iter().map(|advice| format!("advice: {advice}")));
        f.write_str(&lines.join("\n"))
    }
}

impl<H: Host> Proxy<H> {
    /// A proxy that has not looked at the node yet. It tells the status how the node is doing.
    pub fn new(host: H, options: &Options, status: Arc<Status>) -> Self {
        let policy = options.policy();
        Self {
            host,
            ipvs: None,
            syncer: Syncer::new(policy.clone().detailed(true)),
            policy,
            addresses: None,
            filter: None,
            stands: None,
            is_confirmed: false,
            stale: StaleFlows::new(),
            check: None,
            check_interval: CHECK_INTERVAL,
            failures: 0,
            is_first: true,
            removes_filter: options.without_nft,
            takes_over: false,
            looks_for_leftovers: true,
            left: Vec::new(),
            left_until: None,
            status,
        }
    }

    /// After how long the whole node is looked at again.
    #[must_use]
    pub fn check_interval(self, check_interval: Duration) -> Self {
        self.status.set_check_interval(check_interval);
        Self { check_interval, ..self }
    }

    /// Has kube-proxy's chains, sets and tables removed from the packet filter, once the node is in sync: changes come through,
    /// and the proxy's own packet filter is loaded. A part that fails, such as one address, keeps nothing of
    /// kube-proxy's.
    #[must_use]
    pub fn take_over(self, takes_over: bool) -> Self {
        Self { takes_over, looks_for_leftovers: !takes_over, ..self }
    }

    /// How the node is doing, as told by `/healthz` and the metrics.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Has the next pass take away what is withheld since it is too much at once.
    pub fn confirm(&mut self) {
        self.syncer.confirm();
        self.is_confirmed = true;
    }

    /// Has the next pass look at the whole node, as if the interval were over.
    pub fn look_again(&mut self) -> &mut Self {
        (self.check, self.left_until) = (None, None);
        self
    }

    /// Makes the node as desired, as far as that is possible now.
    ///
    /// 1. The sysctls. 2. What is new in the packet filter, which closes the addresses that are bound next. 3. Addresses
    ///    are bound. 4. The rules, and after a change of theirs the sysctls again. 5. Once the rules have come through,
    ///    what no service needs any more goes: addresses, and what the packet filter has of them. 6. What is tracked of
    ///    UDP flows that would go astray is forgotten. 7. The ports of health checks.
    ///
    /// It can be dropped at any time, and the next pass goes on from there.
    pub async fn pass(&mut self, desired: &Desired) -> Pass {
        let begin = Instant::now();
        let mut pass = Pass::default();
        if self.check.is_none_or(|check| check <= begin) {
            self.syncer.resync();
            (self.addresses, self.check) = (None, begin.checked_add(self.check_interval));
            if self.filter.is_some() && !matches!(self.host.has_filter().await, Ok(true)) {
                self.filter = None;
            }
        }
        if self.ipvs.is_none() {
            self.ipvs = pass.note(Extent::Node, self.host.connect().await);
        }
        let wanted = match self.ipvs.clone() {
            None => {
                pass.advice = self.host.diagnose(&desired.rules).await;
                // The rules stay, whichever these are.
                Surroundings::of(desired).and(self.stands.as_ref())
            }
            Some(ipvs) => self.change(&mut pass, desired, &ipvs).await,
        };
        for (port, error) in self.host.answer(&wanted.health_checks).await {
            let what = format!("health checks are not answered at port {port}");
            pass.fail(Extent::Part, error.context(what));
        }
        if self.takes_over && pass.is_in_sync() {
            self.remove_leftovers(&mut pass).await;
        } else if self.looks_for_leftovers && desired.nft.is_some() {
            self.looks_for_leftovers = false;
            pass.notes.extend(self.host.find_leftovers().await);
        }
        pass.next = self.next(&pass);
        self.status.end(&pass, desired, begin.elapsed());
        pass
    }

    /// Changes all but the health checks; gives what the rules need that stand now.
    async fn change(&mut self, pass: &mut Pass, desired: &Desired, ipvs: &Client) -> Surroundings {
        let mut lacking = Vec::new();
        if self.is_first {
            lacking = self.host.diagnose(&desired.rules).await;
        }
        self.set_sysctls(pass);
        if !lacking.is_empty() {
            // What is mended now is told, and needs no advice any more.
            pass.advice = self.host.diagnose(&desired.rules).await;
            let mended = lacking.iter().filter(|what| !pass.advice.contains(what));
            let mended = mended.filter_map(|what| what.lines().next());
            pass.done.extend(mended.map(|what| format!("mended: {what}")));
        }
        self.read_addresses(pass, desired).await;
        let none = BTreeSet::new();
        let others = self.addresses.as_ref().map_or(&none, |addresses| &addresses.others);
        let wanted = Surroundings::of(desired).without(others);
        pass.notes = desired
            .addresses
            .difference(&wanted.addresses)
            .map(|address| format!("{address} is not bound: another interface of the node has it"))
            .collect();
        let unbound = desired.unbound();
        // What is taken away is taken away last, but for an address that somebody else has by now.
        let mut wide = wanted.clone().and(self.stands.as_ref()).without(others).without(&unbound);
        let is_starting = self.starts_with_a_filter(desired).await;
        let is_binding =
            self.addresses.as_ref().is_some_and(|it| !wide.addresses.is_subset(&it.own));
        let outlook = if is_starting || is_binding {
            pass.note(Extent::Node, self.outlook(desired, ipvs).await)
        } else {
            None
        };
        if is_starting && let (Some(script), Some(outlook)) = (&mut wide.nft, &outlook) {
            outlook.close(script);
        }
        let is_withheld = outlook.as_ref().is_none_or(|outlook| outlook.withholds);
        let is_filtered =
            !(is_starting && is_withheld) && self.filter(pass, wide.nft.as_ref()).await;
        // An address is bound for a service that stands, or that this pass may make.
        let bound = match &outlook {
            Some(outlook) if !outlook.withholds => wide.addresses.clone(),
            Some(outlook) => wide.addresses.intersection(&outlook.used).copied().collect(),
            None => BTreeSet::new(),
        };
        self.bind(pass, &bound, is_filtered).await;
        if is_filtered {
            // The first pass tells the syncer even if nothing is desired: before that it removes nothing.
            if self.is_first || self.syncer.wanted() != &desired.rules {
                self.want(desired.rules.clone());
            }
        } else {
            match self.guarded(desired, ipvs).await {
                Ok(rules) => self.want(rules),
                // Before anything is wanted, nothing is removed.
                Err(error) => pass.fail(Extent::Node, error),
            }
        }
        let report = ipvs.pass(&mut self.syncer).await;
        if report.changed > 0 {
            // A module that was loaded anew meanwhile has none of the settings.
            self.set_sysctls(pass);
        }
        let is_through = report.error.is_none() && report.excess.is_none();
        // A service that drains, or could not be removed, keeps its address and its part of the packet filter.
        let kept = match self.syncer.known() {
            Some(table) if report.error.is_none() && wide != wanted => wide.clone().within(table),
            _ => wide.clone(),
        };
        if is_through {
            if is_withheld {
                self.bind(pass, &wanted.addresses, is_filtered).await;
            }
            self.unbind(pass, &wanted, &unbound).await;
            let stands = wanted.clone().and(Some(&kept));
            if is_filtered {
                self.filter(pass, stands.nft.as_ref()).await;
            }
            self.remove_filter(pass).await;
            self.is_confirmed = false;
            self.stands = Some(stands);
        } else if let Some(stands) = &mut self.stands
            && (report.error.is_none() || report.changed > 0)
        {
            // Health checks of what was not made are answered for as long as it is wanted.
            let health_checks = std::mem::take(&mut stands.health_checks);
            *stands = Surroundings { health_checks, ..kept };
        }
        self.forget(pass, &report).await;
        if !report.is_success() {
            let extent = match (&report.error, &report.excess) {
                (Some(_), _) => Extent::Node,
                (None, Some(_)) => Extent::Withheld,
                (None, None) => Extent::Part,
            };
            pass.fail(extent, failed(&report));
        }
        pass.report = Some(report);
        if is_through { wanted } else { wide }
    }

    /// Removes what kube-proxy left. What could not be removed is tried again after the wait of other failures: it may be
    /// so for good.
    async fn remove_leftovers(&mut self, pass: &mut Pass) {
        if self.left_until.is_none_or(|until| until <= Instant::now()) {
            let Leftovers { done, notes, failures } = self.host.remove_leftovers().await;
            self.takes_over = !failures.is_empty();
            self.left = failures.iter().map(|failure| format!("{failure:#}")).collect();
            self.left_until = None;
            pass.done.extend(done);
            pass.notes.extend(notes);
        }
        for failure in &self.left {
            pass.fail(Extent::Part, anyhow::anyhow!("{failure}"));
        }
    }

    fn set_sysctls(&mut self, pass: &mut Pass) {
        if let Some(changes) = pass.note(Extent::Node, self.host.set_sysctls()) {
            pass.done.extend(changes);
        }
    }

    fn want(&mut self, rules: Ruleset) {
        self.syncer.want(rules);
        self.is_first = false;
    }

    /// Reads the addresses where they are not known, and before one is bound: another interface may have it by now.
    async fn read_addresses(&mut self, pass: &mut Pass, desired: &Desired) {
        let is_known = |addresses: &Addresses| desired.addresses.is_subset(&addresses.own);
        if self.addresses.as_ref().is_some_and(is_known) {
            return;
        }
        if let Some(addresses) = pass.note(Extent::Node, self.host.addresses().await) {
            self.addresses = Some(addresses);
        }
    }

    /// Whether there is a table of nft of which nothing is known but that a proxy before loaded it.
    async fn starts_with_a_filter(&mut self, desired: &Desired) -> bool {
        let may_be = self.stands.is_none() && desired.nft.is_some();
        may_be && !matches!(self.host.has_filter().await, Ok(false))
    }

    /// What the table of IPVS says of a pass.
    async fn outlook(&self, desired: &Desired, ipvs: &Client) -> Result<Outlook> {
        let table = self.table(ipvs).await?;
        let is_unwanted =
            |key: &ServiceKey| self.policy.scope.owns(key) && desired.rules.service(*key).is_none();
        let excess = || desired.plan(&table, &self.policy).excess().is_some();
        Ok(Outlook {
            withholds: !self.is_confirmed && excess(),
            used: used(&table).into_iter().collect(),
            unwanted: table.services().map(ServiceRules::key).filter(is_unwanted).collect(),
        })
    }

    /// The table of IPVS as it is known, or else as it is.
    async fn table(&self, ipvs: &Client) -> Result<Cow<'_, Ruleset>> {
        Ok(match self.syncer.known() {
            Some(known) => Cow::Borrowed(known),
            None => Cow::Owned(ipvs.ruleset().await?),
        })
    }

    /// Loads the packet filter if it is another; tells whether it is as wanted.
    async fn filter(&mut self, pass: &mut Pass, wanted: Option<&Script>) -> bool {
        let Some(script) = wanted else { return true };
        let mut script = script.clone();
        // An address stays closed until it is unbound.
        for address in self.addresses.iter().flat_map(|addresses| &addresses.own) {
            let sets = if address.is_ipv4() { &mut script.v4 } else { &mut script.v6 };
            sets.bound.insert(*address);
        }
        let changes = match &self.filter {
            Some(loaded) if *loaded == script => return true,
            Some(loaded) => script.changes_from(loaded),
            None => script.to_string(),
        };
        let mut loaded = self.host.load_filter(&changes).await;
        if loaded.is_err() && self.filter.take().is_some() {
            // Others changed the table.
            loaded = self.host.load_filter(&script.to_string()).await;
        }
        let is_loaded = pass.note(Extent::Node, loaded).is_some();
        if is_loaded {
            pass.done.push("packet filter loaded".to_owned());
            self.filter = Some(script);
        }
        is_loaded
    }

    /// Removes the table of a proxy before that had nft.
    async fn remove_filter(&mut self, pass: &mut Pass) {
        if !self.removes_filter {
            return;
        }
        if let Some(was_there) = pass.note(Extent::Part, self.host.remove_filter().await) {
            self.removes_filter = false;
            if was_there {
                pass.done.push("packet filter removed, since nft is not to be used".to_owned());
            }
        }
    }

    /// Binds what is missing. What the packet filter does not guard is not bound.
    async fn bind(&mut self, pass: &mut Pass, wanted: &BTreeSet<IpAddr>, is_filtered: bool) {
        let Some(Addresses { own, .. }) = &mut self.addresses else { return };
        let filter = self.filter.as_ref();
        let is_guarded = |address: &IpAddr| {
            let sets = |script: &Script| {
                script.v4.bound.contains(address) || script.v6.bound.contains(address)
            };
            is_filtered || filter.is_some_and(sets)
        };
        let missing: Vec<_> = wanted.difference(own).copied().filter(is_guarded).collect();
        let mut failures = Vec::new();
        let mut count = 0;
        for address in missing {
            match self.host.bind(address).await {
                Ok(()) => count += usize::from(own.insert(address)),
                Err(error) => failures.push(error),
            }
        }
        if count > 0 {
            pass.done.push(format!("{} bound", counted(count, "address", "addresses")));
        }
        // One address that cannot be had is a part; a node without any serves nobody.
        let extent = if own.is_disjoint(wanted) { Extent::Node } else { Extent::Part };
        fail_once(pass, extent, failures);
    }

    /// Unbinds what no service has any more, and what is not to be bound though a service has it. Where the table could
    /// not be read nobody knows which ones these are.
    async fn unbind(&mut self, pass: &mut Pass, wanted: &Surroundings, unbound: &BTreeSet<IpAddr>) {
        let Some(Addresses { own, others }) = &mut self.addresses else { return };
        let Some(known) = self.syncer.known() else { return };
        if own.is_subset(&wanted.addresses) {
            return;
        }
        let used = used(known);
        let unused: Vec<_> = own
            .difference(&wanted.addresses)
            .copied()
            .filter(|address| {
                !used.contains(address) || others.contains(address) || unbound.contains(address)
            })
            .collect();
        let mut failures = Vec::new();
        let mut count = 0;
        for address in unused {
            match self.host.unbind(address).await {
                Ok(()) => count += usize::from(own.remove(&address)),
                Err(error) => failures.push(error),
            }
        }
        if count > 0 {
            pass.done.push(format!("{} unbound", counted(count, "address", "addresses")));
        }
        fail_once(pass, Extent::Part, failures);
    }

    /// Has the kernel forget the UDP flows that would go astray. Those that it could not forget are kept for the next
    /// pass.
    async fn forget(&mut self, pass: &mut Pass, report: &Report) {
        self.stale.extend(stale(report));
        while self.stale.len() > MOST_STALE {
            self.stale.pop_first();
        }
        if self.stale.is_empty() {
            return;
        }
        if let Some(count) = pass.note(Extent::Part, self.host.forget(&self.stale).await) {
            self.stale.clear();
            if count > 0 {
                let flows = counted(count, "tracked UDP flow", "tracked UDP flows");
                pass.done.push(format!("{flows} forgotten"));
            }
        }
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
            for (target, ranges) in &wanted.restricted {
                if loaded.restricted.get(target) != Some(ranges) {
                    unguarded.push(ServiceKey::at(target.0, target.1));
                }
            }
        }
        if unguarded.is_empty() {
            return Ok(rules);
        }
        let known = self.table(ipvs).await?;
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
        let check =
            self.check.map_or(self.check_interval, |check| check.saturating_duration_since(now));
        let report = pass.report.as_ref().and_then(|report| report.next);
        // The rules have waits of their own.
        let own = pass.failures.len()
            > usize::from(pass.report.as_ref().is_some_and(|r| !r.is_success()));
        self.failures = if own { self.failures.saturating_add(1) } else { 0 };
        let retry = own
            .then(|| FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST_WAIT));
        if self.left_until.is_none() && !self.left.is_empty() {
            self.left_until = retry.and_then(|wait| now.checked_add(wait));
        }
        report.into_iter().chain(retry).fold(check, Duration::min)
    }
}

fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Many failures of one kind as one.
fn fail_once(pass: &mut Pass, extent: Extent, failures: Vec<Error>) {
    let count = failures.len();
    if let Some(first) = failures.into_iter().next() {
        let more =
            if count > 1 { format!(", and {} more like it", count - 1) } else { String::new() };
        pass.fail(extent, anyhow::anyhow!("{first:#}{more}"));
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
fn stale(report: &Report) -> StaleFlows {
    let is_udp = |key: ServiceKey| {
        let udp = matches!(key, ServiceKey::Address { protocol: Protocol::UDP, .. });
        key.socket_address().filter(|_| udp)
    };
    let had_none = |key: ServiceKey| {
        report.before().service(key).is_none_or(|rules| rules.destinations().len() == 0)
    };
    let mut stale = StaleFlows::new();
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
