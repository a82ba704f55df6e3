//! The packet filter's part: what IPVS does not do itself, as a script for `nft -f`.
//!
//! The rules are the same for any number of services, which are in sets. All of it is in one table of its own, which
//! the script replaces in one transaction, so loading it again changes nothing. It needs Linux 5.2, the first that
//! masquerades in a table of both families.
//!
//! No set that grows with the Services is one of intervals: nft loads those of several fields in a time that grows by
//! the square. Source ranges are in one set for each prefix length, by which a packet's source is masked.
//!
//! A packet comes by the chains in this order. [IPVS takes][hooks] what is for a virtual address in the hook `input`,
//! at priority 99, and the node's own in `output`, at -98; a packet of IPVS passes `output` and `postrouting` with the
//! endpoint as its destination, and what the endpoint replies passes `forward`. What IPVS does not take in `input`, since it
//! has no such service, is refused behind it, so that no port of the host's own answers at a virtual address, whether the
//! service is yet to come or gone already.
//!
//! [hooks]: https://github.com/torvalds/linux/blob/v6.12/net/netfilter/ipvs/ip_vs_core.c

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipvs_netlink::{Family, Protocol};

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
    /// Ingress that has source ranges.
    pub restricted: BTreeSet<Target>,
    /// Who may come to it, by the prefix lengths of the ranges.
    pub allowed: BTreeMap<u8, BTreeSet<(Target, IpAddr)>>,
    /// Ingress with source ranges that none of the node's own addresses is in.
    pub refused_to_node: BTreeSet<Target>,
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

/// The words of a family: the protocol's, the type's, what ends the names of its sets, and the chain of source ranges.
struct Words {
    ip: &'static str,
    address: &'static str,
    end: &'static str,
    sources: &'static str,
}

const WORDS: [(Family, Words); 2] = [
    (Family::V4, Words { ip: "ip", address: "ipv4_addr", end: "4", sources: "sources4" }),
    (Family::V6, Words { ip: "ip6", address: "ipv6_addr", end: "6", sources: "sources6" }),
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

/// A set as nft has it.
struct NamedSet {
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
        Self { name: name.into(), kind: kind.into(), elements }
    }

    fn has_intervals(&self) -> bool {
        self.kind.contains("interval")
    }
}

impl fmt::Display for NamedSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    set {} {{\n        {}\n", self.name, self.kind)?;
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
        sets.push(NamedSet::new(named("pod_networks"), networks, self.pod_networks.iter()));
        for (name, set) in [
            ("cluster_ips", &self.cluster_ips),
            ("external", &self.external),
            ("external_local", &self.external_local),
            ("restricted", &self.restricted),
            ("refused_to_node", &self.refused_to_node),
        ] {
            sets.push(NamedSet::new(named(name), &targets, set.iter().map(target)));
        }
        for (prefix, allowed) in &self.allowed {
            let elements = allowed.iter().map(|(to, from)| format!("{} . {from}", target(to)));
            sets.push(NamedSet::new(format!("allowed{end}_{prefix}"), &pairs, elements));
        }
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
            (&mut self.restricted, &others.restricted),
            (&mut self.refused_to_node, &others.refused_to_node),
        ] {
            own.extend(others.iter().filter(is_new));
        }
        for (prefix, allowed) in &others.allowed {
            let mut new = allowed.iter().filter(|(target, _)| is_new(&target)).peekable();
            if new.peek().is_some() {
                self.allowed.entry(*prefix).or_default().extend(new);
            }
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

fn target((protocol, at): &Target) -> String {
    format!("{protocol} . {} . {}", at.ip(), at.port())
}

/// A chain with its rules.
struct Chain {
    name: &'static str,
    /// `None` where others jump to it.
    hook: Option<&'static str>,
    rules: Vec<String>,
}

impl Script {
    fn write_chains(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let sources = WORDS.iter().map(|(family, words)| self.sources(*family, words));
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
            rules.push(format!("{} {mark}", to("external")));
            rules.push(format!("{} {mark}", node_port(ip, end, "node_ports")));
        }
        Chain { name: "prerouting", hook: Some("type nat hook prerouting priority dstnat"), rules }
    }

    /// Who may come to an ingress with source ranges: before IPVS sees it.
    fn input() -> Chain {
        let rules = WORDS.iter().map(|(_, Words { ip, end, sources, .. })| {
            format!("{} @restricted{end} jump {sources}", target_of(ip))
        });
        Chain {
            name: "input",
            hook: Some("type filter hook input priority filter"),
            rules: rules.collect(),
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
        Chain { name: "guard", hook: Some("type filter hook input priority 110"), rules }
    }

    /// Lets those return that may come to an ingress with source ranges.
    fn sources(&self, family: Family, Words { ip, end, sources, .. }: &Words) -> Chain {
        let returns = |prefix: &u8| {
            let source = match Network::mask(family, *prefix) {
                Some(mask) => format!("{ip} saddr & {mask}"),
                None => format!("{ip} saddr"),
            };
            format!("{} . {source} @allowed{end}_{prefix} return", target_of(ip))
        };
        let mut rules: Vec<_> = self.sets(family).allowed.keys().map(returns).collect();
        rules.push("drop".to_owned());
        Chain { name: sources, hook: None, rules }
    }

    /// The node's own packets to an ingress that does not let the node in. IPVS takes them in this hook, so they never
    /// come to `input`, and their source is the virtual address itself.
    fn output_filter() -> Chain {
        let rules = WORDS.iter().map(|(_, Words { ip, end, .. })| {
            format!("{} @refused_to_node{end} drop", target_of(ip))
        });
        Chain {
            name: "output_filter",
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
        Chain { name: "output", hook: Some("type nat hook output priority -100"), rules }
    }

    /// What endpoints reply. It is accepted for this table: no table overrules what another one drops.
    fn forward(&self) -> Chain {
        let mark = self.mark;
        let rules = vec![
            format!("meta mark & {mark:#010x} == {mark:#010x} accept"),
            "ct state established,related accept".to_owned(),
        ];
        Chain { name: "forward", hook: Some("type filter hook forward priority filter"), rules }
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
            name: "postrouting",
            hook: Some("type nat hook postrouting priority srcnat"),
            rules,
        }
    }
}

/// Where a packet goes, as sets of targets have it.
fn target_of(ip: &str) -> String {
    format!("meta l4proto . {ip} daddr . th dport")
}

fn node_port(ip: &str, end: &str, set: &str) -> String {
    format!("{ip} daddr @node_addresses{end} meta l4proto . th dport @{set}{end}")
}
