//! What the operator decides.

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Parser};
use ipvs_netlink::{Draining, HashOptions, Policy, Scheduler, Scope, ServiceKey};

use crate::network::Network;

/// What the operator decides, as options of a command line; the rest is in the cluster's objects.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct Options {
    /// The scheduler of Services without the annotation ipvs-netlink/scheduler
    #[arg(long, default_value = "rr", value_parser = parse_scheduler)]
    pub scheduler: Scheduler,
    /// Where a traffic policy is Local and no endpoint is local, refuse, as the documentation says; otherwise all
    /// endpoints serve, as in kube-proxy's IPVS mode
    #[arg(long)]
    pub strict_local: bool,
    /// Where pods are: what comes from elsewhere to a cluster IP is masqueraded (repeatable; unless given, the networks
    /// of the Node's own pods). Name kube-proxy's clusterCIDR where a network plugin gives out other addresses
    #[arg(long = "pod-network", value_name = "NETWORK")]
    pub pod_networks: Vec<Network>,
    /// Masquerade all traffic to cluster IPs
    #[arg(long)]
    pub masquerade_all: bool,
    /// The bit of the packet mark that says "masquerade this"
    #[arg(long, default_value = "14", value_name = "BIT", value_parser = parse_bit)]
    pub masquerade_bit: u8,
    /// An address of the node's interfaces, kube-ipvs0 excepted (repeatable; unless given, the internal addresses in the
    /// Node's status)
    #[arg(long = "local-address", value_name = "ADDRESS")]
    pub local_addresses: Vec<IpAddr>,
    /// Have node ports on the local addresses of this network (repeatable; unless given, on all)
    #[arg(long = "node-port-network", value_name = "NETWORK")]
    pub node_port_networks: Vec<Network>,
    /// Leave virtual addresses of this network to somebody else (repeatable)
    #[arg(long = "exclude", value_name = "NETWORK")]
    pub excluded_networks: Vec<Network>,
    /// Do without nft: nothing is masqueraded, and the node's own ports answer at every address of kube-ipvs0. Load
    /// balancers with source ranges are not programmed, since nothing would enforce them
    #[arg(long)]
    pub without_nft: bool,
    /// How long the TCP connections of an endpoint that went may take to end, in seconds, up to a year
    #[arg(long, default_value = "900", value_name = "SECONDS", value_parser = parse_drain)]
    pub drain: Duration,
    /// The largest share, from 0 to 1, of the services, and of the endpoints of all Services, that is taken away at once: a
    /// guard against an API server that lost its objects. If more would go, no Service is changed until the signal USR1
    /// confirms it; the log, /healthz and the metrics tell it. Endpoints that are replaced by others count
    /// as taken away: all of them at once, as by one large Deployment with the strategy Recreate, are withheld. 1 is no
    /// guard. A lower share may keep the endpoints of a node that died
    #[arg(long, default_value = "0.9", value_name = "SHARE", value_parser = share)]
    pub at_most: f64,
}

impl Default for Options {
    /// What a command line without options says.
    fn default() -> Self {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        Line::parse_from(["ipvs-kube"]).options
    }
}

impl Options {
    /// How the rules are brought about: every service by address is the proxy's but those of the excluded networks,
    /// and none by firewall mark. An endpoint that went keeps its TCP connections, active and inactive, until the
    /// deadline, and is removed at once from services of UDP and SCTP.
    ///
    /// kube-proxy's IPVS mode does the same [without a deadline][graceful].
    ///
    /// [graceful]: https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/proxy/ipvs/graceful_termination.go
    pub fn policy(&self) -> Policy {
        let excluded = self.excluded_networks.clone();
        let owns = move |key: &ServiceKey| {
            key.socket_address().is_some_and(|at| !is_in(at.ip(), &excluded))
        };
        let draining = Draining::within(self.drain).wait_for_inactive(true).drain_sctp(false);
        Policy::new().scope(Scope::none().matching(owns)).draining(draining).at_most(self.at_most)
    }

    pub(crate) fn is_excluded(&self, address: IpAddr) -> bool {
        is_in(address, &self.excluded_networks)
    }

    pub(crate) fn has_node_ports(&self, address: IpAddr) -> bool {
        self.node_port_networks.is_empty() || is_in(address, &self.node_port_networks)
    }
}

fn is_in(address: IpAddr, networks: &[Network]) -> bool {
    networks.iter().any(|network| network.contains(address))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn parse_bit(text: &str) -> Result<u8, String> {
    let bit = text.parse().ok().filter(|bit| *bit < 32);
    bit.ok_or_else(|| "expected a bit from 0 to 31".to_owned())
}

fn parse_drain(text: &str) -> Result<Duration, String> {
    parse_seconds(text, 0, 365 * 24 * 60 * 60)
}

/// A whole number of seconds in a range, as an option of a command line has it.
///
/// # Errors
/// What is expected, where it is something else.
pub fn parse_seconds(text: &str, least: u64, most: u64) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (least..=most).contains(seconds));
    let expected = || format!("expected a whole number of seconds from {least} to {most}");
    seconds.map(Duration::from_secs).ok_or_else(expected)
}

/// A scheduler as an operator names it. `mh` takes the port into its hash, as kube-proxy has it: without it all
/// connections of a client come to one endpoint.
pub(crate) fn parse_scheduler(text: &str) -> Result<Scheduler, String> {
    let known = || Scheduler::KNOWN.iter().map(Scheduler::name).collect::<Vec<_>>().join(", ");
    match text.parse() {
        Ok(Scheduler::Other(_) | Scheduler::Unbound) => {
            Err(format!("there is no scheduler {text:?}: it is one of {}", known()))
        }
        Ok(Scheduler::MaglevHash(options)) if options == HashOptions::default() => {
            Ok(Scheduler::MaglevHash(options.port(true)))
        }
        Ok(scheduler) => Ok(scheduler),
        Err(error) => Err(error.to_string()),
    }
}
