//! What a node has besides its table of IPVS, as a pass changes it: by a trait, so that tests need no node.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use ipvs_netlink::{Client, Ruleset};

use crate::health::HealthCheck;

/// An address that could not be bound or unbound, and why.
pub type NotDone<T> = (T, anyhow::Error);

/// The addresses of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Those of the interface that are the proxy's.
    pub own: BTreeSet<IpAddr>,
    /// Those of all other interfaces.
    pub others: BTreeSet<IpAddr>,
}

/// What became of what kube-proxy left.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// What was removed, in words.
    pub done: Vec<String>,
    /// What stays, and why.
    pub notes: Vec<String>,
    /// What could not be removed, and is to be tried again.
    pub failures: Vec<anyhow::Error>,
}

/// A node's kernel, interface, packet filter and ports.
pub trait Host {
    /// Connects to IPVS.
    fn connect(&mut self) -> impl Future<Output = Result<Client>>;

    /// What stands in the way of rules, with advice; empty where nothing does.
    fn diagnose(&mut self, rules: &Ruleset) -> impl Future<Output = Vec<String>>;

    /// Sets the sysctls of a node proxy; says which had other values.
    fn set_sysctls(&mut self) -> Result<Vec<String>>;

    /// Makes the interface if it is missing, and reads the addresses of the node.
    fn addresses(&mut self) -> impl Future<Output = Result<Addresses>>;

    /// Binds an address.
    fn bind(&mut self, address: IpAddr) -> impl Future<Output = Result<()>>;

    /// Unbinds an address.
    fn unbind(&mut self, address: IpAddr) -> impl Future<Output = Result<()>>;

    /// Whether the packet filter's table is there.
    fn has_filter(&mut self) -> impl Future<Output = Result<bool>>;

    /// Loads a script of nft, all or nothing.
    fn load_filter(&mut self, script: &str) -> impl Future<Output = Result<()>>;

    /// Removes the proxy's table from the packet filter; tells whether it was there.
    fn remove_filter(&mut self) -> impl Future<Output = Result<bool>>;

    /// Answers the health checks of these ports, and no others; tells of ports that cannot be had.
    fn answer(
        &mut self,
        checks: &BTreeMap<u16, HealthCheck>,
    ) -> impl Future<Output = Vec<NotDone<u16>>>;

    /// Has the kernel forget what it tracks of UDP from clients to these virtual addresses; where an endpoint is given,
    /// only what went to it. Gives how many entries these were.
    fn forget(
        &mut self,
        stale: &BTreeSet<(SocketAddr, Option<SocketAddr>)>,
    ) -> impl Future<Output = Result<usize>>;

    /// What kube-proxy left in the packet filter, in words, and what to do; empty where nothing is left.
    fn find_leftovers(&mut self) -> impl Future<Output = Vec<String>>;

    /// Removes what kube-proxy left in the packet filter, but for what traffic still needs.
    fn remove_leftovers(&mut self) -> impl Future<Output = Leftovers>;
}
