//! The packet filter's part: what IPVS does not do itself, as a script for `nft -f`.
//!
//! The rules are the same for any number of services, which are in sets. All of it is in one table of its own, which
//! the script replaces in one transaction, so loading it again changes nothing. It needs Linux 5.2, the first that
//! masquerades in a table of both families.
//!
//! The ports of a load balancer share its source ranges: a map leads from the address and port to a chain, which has a
//! set of networks. Balancers with the same ranges share them, too. All sets of intervals have one field, since nft loads
//! those of several in a time that grows by the square.
//!
//! A packet comes by the chains in this order. [IPVS takes][hooks] what is for a virtual address in the hook `input`,
//! at priority 99, and the node's own in `output`, at -98; a packet of IPVS passes `output` and `postrouting` with the
//! endpoint as its destination, and what the endpoint replies passes `forward`. What IPVS does not take in `input`, since it
//! has no such service, is refused behind it, so that no port of the host's own answers at a virtual address, whether the
//! service is yet to come or gone already. A packet for another node's address passes `forward` alone, though that address
//! may be an ingress, which IPVS here serves for the node's own traffic only.
//!
//! [hooks]: https://github.com/torvalds/linux/blob/v6.12/net/netfilter/ipvs/ip_vs_core.c

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipvs_netlink::{Family, Protocol, Ruleset, ServiceKey};

use crate::network::Network;

/// The table's name, in the family `inet`.
pub const TABLE: &str = "ipvs-kube";

/// A virtual address and port of a protocol, or an endpoint's.
pub type Target = (Protocol, SocketAddr);

/// The script, as a value. Its text is what `nft -f` loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The bit of the packet mark that says "masquerade this".
    pub mark: u32,
    /// Whether all traffic to cluster IPs is masqueraded.
    pub masquerade_all: bool,
    /// The health-check node ports: the one thing of the node's own that virtual addresses answer.
    pub health_check_ports: BTreeSet<u16>,
    /// The sets of IPv4.
    pub v4: Sets,
    /// The sets of IPv6.
    pub v6: Sets,
}

/// What the rules are about, in one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sets {
    /// The addresses of `kube-ipvs0`, at which the host's own ports are closed.
    pub bound: BTreeSet<IpAddr>,
    /// Where pods are; empty where it is not known.
    pub pod_networks: Vec<Network>,
    /// Cluster IPs.
    pub cluster_ips: BTreeSet<Target>,
    /// External IPs and ingress whose policy is Cluster.
    pub external: BTreeSet<Target>,
    /// External IPs and ingress whose policy is Local.
    pub external_local: BTreeSet<Target>,
    /// The node's addresses that have node ports.
    pub node_addresses: BTreeSet<IpAddr>,
    /// Node ports whose policy is Cluster.
    pub node_ports: BTreeSet<(Protocol, u16)>,
    /// Node ports whose policy is Local.
    pub node_ports_local: BTreeSet<(Protocol, u16)>,
    /// Ingress that has source ranges, and who may come to it: networks of which none is within another.
    pub restricted: BTreeMap<Target, Arc<[Network]>>,
    /// Ingress with source ranges that none of the node's own addresses is in.
    pub refused_to_node: BTreeSet<Target>,
    /// Services that stand though nobody wants them any more: they take no new connections. A proxy that starts does not
    /// know who might come to them.
    pub closed: BTreeSet<Target>,
    /// Endpoints on this node, which may be their own clients.
    pub hairpins: BTreeSet<Target>,
}

impl Script {
    /// The sets of a family.
    pub fn sets(&self, family: Family) -> &Sets {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    pub(crate) fn sets_mut(&mut self, family: Family) -> &mut Sets {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// The words of a family: the protocol's, the type's, and what ends the names of its sets.
struct Words {
    ip: &'static str,
    address: &'static str,
    end: &'static str,
}

const WORDS: [(Family, Words); 2] = [
    (Family::V4, Words { ip: "ip", address: "ipv4_addr", end: "4" }),
    (Family::V6, Words { ip: "ip6", address: "ipv6_addr", end: "6" }),
];

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A table must be there to be deleted.
        writeln!(f, "table inet {TABLE}\ndelete table inet {TABLE}\n")?;
        writeln!(f, "table inet {TABLE} {{")?;
        for set in self.named_sets() {
            write!(f, "{set}")?;
        }
        self.write_chains(f)?;
        writeln!(f, "}}")
    }
}

impl Script {
    /// What makes this of a table that another script has loaded: the elements that differ, or the whole table where its
    /// chains or its networks are others. Empty where nothing differs.
    pub fn changes_from(&self, loaded: &Self) -> String {
        let (before, after) = (loaded.named_sets(), self.named_sets());
        let is_declared_alike = before.len() == after.len()
            && before.iter().zip(&after).all(|(before, after)| {
                before.name == after.name
                    && (before.elements == after.elements || !after.has_intervals())
            });
        if !is_declared_alike || loaded.chains() != self.chains() {
            return self.to_string();
        }
        let mut changes = String::new();
        for (before, after) in before.iter().zip(&after) {
            for (verb, these, those) in [("delete", before, after), ("add", after, before)] {
                let those: HashSet<&String> = those.elements.iter().collect();
                let differing: Vec<&str> = these
                    .elements
                    .iter()
                    .filter(|element| !those.contains(element))
                    .map(String::as_str)
                    .collect();
                if !differing.is_empty() {
                    let (name, elements) = (&after.name, differing.join(",\n    "));
                    let head = format!("{verb} element inet {TABLE} {name}");
                    changes.extend([&head, " {\n    ", &elements, "\n}\n"]);
                }
            }
        }
        changes
    }

    /// This, and what another script has besides. Of a target that both have, this one says who may come to it.
    #[must_use]
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.health_check_ports.extend(&other.health_check_ports);
        self.v4.extend(&other.v4);
        self.v6.extend(&other.v6);
        self
    }

    /// Takes out of it what services need that a table does not have.
    pub(crate) fn keep_within(&mut self, table: &Ruleset) {
        let (mut targets, mut endpoints) = (HashSet::new(), HashSet::new());
        for rules in table.services() {
            let ServiceKey::Address { protocol, address, port, .. } = rules.key() else { continue };
            targets.insert((protocol, SocketAddr::new(address, port)));
            endpoints.extend(rules.destinations().map(|destination| {
                (protocol, SocketAddr::new(destination.key.address, destination.key.port))
            }));
        }
        for sets in [&mut self.v4, &mut self.v6] {
            sets.keep_within(&targets, &endpoints);
        }
    }

    /// All sets, in the order in which they are declared.
    fn named_sets(&self) -> Vec<NamedSet> {
        let ports = self.health_check_ports.iter();
        let mut sets = vec![NamedSet::new("health_check_ports", "type inet_service", ports)];
        for (family, words) in &WORDS {
            self.sets(*family).add_to(&mut sets, words);
        }
        sets
    }

    fn chains(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_chains(&mut text);
        text
    }
}

/// A set or a map as nft has it.
struct NamedSet {
    keyword: &'static str,
    name: String,
    kind: String,
    elements: Vec<String>,
}

impl NamedSet {
    fn new(
        name: impl Into<String>,
        kind: impl Into<String>,
        elements: impl Iterator<Item: fmt::Display>,
    ) -> Self {
        let elements = elements.map(|element| element.to_string()).collect();
        Self { keyword: "set", name: name.into(), kind: kind.into(), elements }
    }

    fn map(self) -> Self {
        Self { keyword: "map", ..self }
    }

    fn has_intervals(&self) -> bool {
        self.kind.contains("interval")
    }
}

impl fmt::Display for NamedSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    {} {} {{\n        {}\n", self.keyword, self.name, self.kind)?;
        if !self.elements.is_empty() {
            let elements = self.elements.join(",\n            ");
            write!(f, "        elements = {{\n            {elements}\n        }}\n")?;
        }
        writeln!(f, "    }}\n")
    }
}

impl Sets {
    fn add_to(&self, sets: &mut Vec<NamedSet>, words: &Words) {
        let Words { address, end, .. } = words;
        let addresses = format!("type {address}");
        let networks = format!("type {address}; flags interval");
        let targets = format!("type inet_proto . {address} . inet_service");
        let ports = "type inet_proto . inet_service";
        let pairs = format!("{targets} . {address}");
        let named = |name: &str| format!("{name}{end}");

        sets.push(NamedSet::new(named("bound"), &addresses, self.bound.iter()));
        sets.push(NamedSet::new(named("pod_networks"), &networks, self.pod_networks.iter()));
        for (name, set) in [
            ("cluster_ips", &self.cluster_ips),
            ("external", &self.external),
            ("external_local", &self.external_local),
            ("refused_to_node", &self.refused_to_node),
            ("closed", &self.closed),
        ] {
            sets.push(NamedSet::new(named(name), &targets, set.iter().map(target)));
        }
        let ranges = self.ranges();
        for (ranges, number) in &ranges {
            sets.push(NamedSet::new(sources(end, *number), &networks, ranges.iter()));
        }
        let verdicts = self.restricted.iter().map(|(to, allowed)| {
            let number = ranges.get(&**allowed).copied().unwrap_or_default();
            format!("{} : jump {}", target(to), sources(end, number))
        });
        let verdicts = NamedSet::new(named("restricted"), format!("{targets} : verdict"), verdicts);
        sets.push(verdicts.map());
        let node_addresses = self.node_addresses.iter();
        sets.push(NamedSet::new(named("node_addresses"), &addresses, node_addresses));
        for (name, set) in
            [("node_ports", &self.node_ports), ("node_ports_local", &self.node_ports_local)]
        {
            let elements = set.iter().map(|(protocol, port)| format!("{protocol} . {port}"));
            sets.push(NamedSet::new(named(name), ports, elements));
        }
        let hairpins = self.hairpins.iter().map(|to| format!("{} . {}", target(to), to.1.ip()));
        sets.push(NamedSet::new(named("hairpins"), pairs, hairpins));
    }

    /// The source ranges that there are, with a number for each that is different.
    fn ranges(&self) -> BTreeMap<&[Network], usize> {
        let different: BTreeSet<&[Network]> =
            self.restricted.values().map(|ranges| &**ranges).collect();
        different.into_iter().zip(1..).collect()
    }

    fn keep_within(&mut self, targets: &HashSet<Target>, endpoints: &HashSet<Target>) {
        let addresses: HashSet<IpAddr> = targets.iter().map(|(_, at)| at.ip()).collect();
        let nodes = &self.node_addresses;
        let on_nodes: HashSet<(Protocol, u16)> = targets
            .iter()
            .filter(|(_, at)| nodes.contains(&at.ip()))
            .map(|(protocol, at)| (*protocol, at.port()))
            .collect();
        for set in [
            &mut self.cluster_ips,
            &mut self.external,
            &mut self.external_local,
            &mut self.refused_to_node,
            &mut self.closed,
        ] {
            set.retain(|target| targets.contains(target));
        }
        self.restricted.retain(|target, _| targets.contains(target));
        for set in [&mut self.node_ports, &mut self.node_ports_local] {
            set.retain(|port| on_nodes.contains(port));
        }
        self.bound.retain(|address| addresses.contains(address));
        self.hairpins.retain(|endpoint| endpoints.contains(endpoint));
    }

    /// Takes in what others have besides. What these say of a target or a node port counts.
    fn extend(&mut self, others: &Self) {
        let targets = [&self.cluster_ips, &self.external, &self.external_local];
        let known: HashSet<Target> = targets.into_iter().flatten().copied().collect();
        let ports = [&self.node_ports, &self.node_ports_local];
        let known_ports: HashSet<_> = ports.into_iter().flatten().copied().collect();
        let is_new = |target: &&Target| !known.contains(target);
        for (own, others) in [
            (&mut self.cluster_ips, &others.cluster_ips),
            (&mut self.external, &others.external),
            (&mut self.external_local, &others.external_local),
            (&mut self.refused_to_node, &others.refused_to_node),
            (&mut self.closed, &others.closed),
        ] {
            own.extend(others.iter().filter(is_new));
        }
        for (target, ranges) in others.restricted.iter().filter(|(target, _)| is_new(target)) {
            self.restricted.insert(*target, Arc::clone(ranges));
        }
        for (own, others) in [
            (&mut self.node_ports, &others.node_ports),
            (&mut self.node_ports_local, &others.node_ports_local),
        ] {
            own.extend(others.iter().filter(|port| !known_ports.contains(port)));
        }
        self.bound.extend(&others.bound);
        self.node_addresses.extend(&others.node_addresses);
        self.hairpins.extend(&others.hairpins);
    }
}

/// Names source ranges, and the chain that lets them in.
fn sources(end: &str, number: usize) -> String {
    format!("sources{end}_{number}")
}

fn target((protocol, at): &Target) -> String {
    format!("{protocol} . {} . {}", at.ip(), at.port())
}

/// A chain with its rules.
struct Chain {
    name: String,
    /// `None` where others jump to it.
    hook: Option<&'static str>,
    rules: Vec<String>,
}

impl Script {
    fn write_chains(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let sources = WORDS.iter().flat_map(|(family, words)| self.sources(*family, words));
        let chains = [
            self.prerouting(),
            Self::input(),
            Self::guard(),
            Self::output_filter(),
            self.output(),
            self.forward(),
            self.postrouting(),
        ];
        for (index, Chain { name, hook, rules }) in sources.chain(chains).enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            writeln!(f, "{separator}    chain {name} {{")?;
            if let Some(hook) = hook {
                writeln!(f, "        {hook}; policy accept")?;
            }
            for rule in rules {
                writeln!(f, "        {rule}")?;
            }
            writeln!(f, "    }}")?;
        }
        Ok(())
    }

    fn mark(&self) -> String {
        format!("meta mark set meta mark | {:#010x}", self.mark)
    }

    /// Traffic from elsewhere that is to be masqueraded. A nat chain sees the first packet of a connection alone.
    fn prerouting(&self) -> Chain {
        let mark = self.mark();
        let mut rules = Vec::new();
        for (family, Words { ip, end, .. }) in &WORDS {
            let to = |set| format!("{} @{set}{end}", target_of(ip));
            if self.masquerade_all {
                rules.push(format!("{} {mark}", to("cluster_ips")));
            } else if !self.sets(*family).pod_networks.is_empty() {
                rules
                    .push(format!("{} {ip} saddr != @pod_networks{end} {mark}", to("cluster_ips")));
            }
            // What another host has is not IPVS's here, and its source is what that host's source ranges are about.
            rules.push(format!("{} fib daddr type local {mark}", to("external")));
            rules.push(format!("{} {mark}", node_port(ip, end, "node_ports")));
        }
        Chain {
            name: "prerouting".to_owned(),
            hook: Some("type nat hook prerouting priority dstnat"),
            rules,
        }
    }

    /// Who may come to an ingress with source ranges, and to which services nobody new may: before IPVS sees it.
    fn input() -> Chain {
        let closed = WORDS.iter().map(|(_, Words { ip, end, .. })| {
            format!("{} @closed{end} ct state new drop", target_of(ip))
        });
        Chain {
            name: "input".to_owned(),
            hook: Some("type filter hook input priority filter"),
            rules: closed.chain(restricted()).collect(),
        }
    }

    /// What IPVS left of what is for virtual addresses, which would come to the host's own ports. TCP is reset, so that a
    /// client whose connection IPVS does not know any more hears of it.
    fn guard() -> Chain {
        let mut rules = vec!["tcp dport @health_check_ports accept".to_owned()];
        for (_, Words { ip, end, .. }) in &WORDS {
            let new = format!("{ip} daddr @bound{end} ct state new");
            rules.push(format!("{new} meta l4proto tcp reject with tcp reset"));
            rules.push(format!("{new} reject"));
        }
        Chain { name: "guard".to_owned(), hook: Some("type filter hook input priority 110"), rules }
    }

    /// Lets those return that may come to an ingress with source ranges: a chain for each that are different.
    fn sources<'a>(&'a self, family: Family, words: &'a Words) -> impl Iterator<Item = Chain> + 'a {
        let Words { ip, end, .. } = words;
        self.sets(family).ranges().into_values().map(move |number| {
            let name = sources(end, number);
            let rules = vec![format!("{ip} saddr @{name} return"), "drop".to_owned()];
            Chain { name, hook: None, rules }
        })
    }

    /// The node's own packets to an ingress that does not let the node in, and to services that take nobody new. IPVS takes them in this hook, so they never
    /// come to `input`, and their source is the virtual address itself.
    ///
    /// What IPVS sends on passes here again, with an endpoint's address, which an ingress may have as well: where a packet
    /// was sent to at first decides. nft wants to know the protocol before it takes a port of connection tracking.
    fn output_filter() -> Chain {
        let rules = WORDS.iter().flat_map(|(_, Words { ip, end, .. })| {
            let to = format!("meta l4proto . ct original {ip} daddr . ct original proto-dst");
            ["tcp", "udp", "sctp"].into_iter().flat_map(move |protocol| {
                let to = format!("meta l4proto {protocol} {to}");
                let own = "ct direction original fib saddr type local";
                [
                    format!("{to} @refused_to_node{end} {own} drop"),
                    format!("{to} @closed{end} ct state new {own} drop"),
                ]
            })
        });
        Chain {
            name: "output_filter".to_owned(),
            hook: Some("type filter hook output priority -101"),
            rules: rules.collect(),
        }
    }

    /// The node's own traffic to virtual addresses: its source is the virtual address, which endpoints elsewhere would
    /// take for their own node's.
    fn output(&self) -> Chain {
        let mark = self.mark();
        let mut rules = Vec::new();
        for (_, Words { ip, end, .. }) in &WORDS {
            for set in ["cluster_ips", "external", "external_local"] {
                rules.push(format!("{} @{set}{end} {mark}", target_of(ip)));
            }
            for set in ["node_ports", "node_ports_local"] {
                rules.push(format!("{} {mark}", node_port(ip, end, set)));
            }
        }
        Chain { name: "output".to_owned(), hook: Some("type nat hook output priority -100"), rules }
    }

    /// Who may come to an ingress that another host has, and what endpoints reply. It is accepted for this table: no table
    /// overrules what another one drops.
    fn forward(&self) -> Chain {
        let mark = self.mark;
        let mut rules: Vec<_> = restricted().collect();
        rules.push(format!("meta mark & {mark:#010x} == {mark:#010x} accept"));
        rules.push("ct state established,related accept".to_owned());
        Chain {
            name: "forward".to_owned(),
            hook: Some("type filter hook forward priority filter"),
            rules,
        }
    }

    /// Masquerades, and clears the mark so that nobody masquerades again.
    fn postrouting(&self) -> Chain {
        let mark = self.mark;
        let mut rules: Vec<_> = WORDS
            .iter()
            .map(|(_, Words { ip, end, .. })| {
                let is_hairpin = format!("{} . {ip} saddr @hairpins{end}", target_of(ip));
                format!(
                    "{is_hairpin} meta mark set meta mark & {:#010x} masquerade fully-random",
                    !mark
                )
            })
            .collect();
        rules.push(format!("meta mark & {mark:#010x} == 0 return"));
        rules.push(format!("meta mark set meta mark ^ {mark:#010x}"));
        rules.push("masquerade fully-random".to_owned());
        Chain {
            name: "postrouting".to_owned(),
            hook: Some("type nat hook postrouting priority srcnat"),
            rules,
        }
    }
}

/// Rules by which source ranges decide.
fn restricted() -> impl Iterator<Item = String> {
    let rule =
        |(_, Words { ip, end, .. }): &(_, _)| format!("{} vmap @restricted{end}", target_of(ip));
    WORDS.iter().map(rule)
}

/// Where a packet goes, as sets of targets have it.
fn target_of(ip: &str) -> String {
    format!("meta l4proto . {ip} daddr . th dport")
}

fn node_port(ip: &str, end: &str, set: &str) -> String {
    format!("{ip} daddr @node_addresses{end} meta l4proto . th dport @{set}{end}")
}
