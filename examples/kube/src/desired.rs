//! From a cluster's objects to what a node is to have: a pure function.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipvs_netlink::{
    Destination, Family, Invalid, Plan, Policy, Protocol, Ruleset, Service as Virtual, ServiceKey,
    ServiceRules,
};

use crate::addresses::{known_addresses, local_addresses, parse_address, pod_networks};
use crate::cluster::{Objects, newest};
use crate::endpoints::{Endpoints, Place, Slices, State, Usable};
use crate::health::HealthCheck;
use crate::network::Network;
use crate::nft::{Script, Sets};
use crate::notes::{Note, Notes};
use crate::options::Options;
use crate::services::{Frontend, Port, Service, ServiceName};
use k8s_openapi::api::core::v1 as api;

/// Why an ingress with source ranges is not programmed.
const NOT_ENFORCED: &str = "without nft nothing would enforce its loadBalancerSourceRanges";

/// How many ports a note lists; it counts those beyond.
const LISTED_PORTS: usize = 4;

/// The label that says which zone a node is in.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The taint of a Node that the autoscaler is about to delete.
const LEAVING: &str = "ToBeDeletedByClusterAutoscaler";

/// All that a node is to have for the Services of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The rules of IPVS.
    pub rules: Ruleset,
    /// The addresses of the dummy interface `kube-ipvs0`: bound before their services, unbound after.
    pub addresses: BTreeSet<IpAddr>,
    /// The script for nft; `None` with [`Options::without_nft`].
    pub nft: Option<Script>,
    /// What answers load balancers, by port.
    pub health_checks: BTreeMap<u16, HealthCheck>,
    /// What was not programmed as it was asked, and why.
    pub notes: Vec<Note>,
    /// Whether load balancers may send traffic to the node: it is not about to go.
    pub is_eligible: bool,
}

impl Desired {
    /// What the node is to have. Nothing else goes into it: equal objects give equal results.
    pub fn new(objects: &Objects<'_>, options: &Options) -> Self {
        let mut notes = Notes::from(objects.notes.clone());
        let objects = Objects {
            services: newest(&objects.services, &mut notes),
            slices: newest(&objects.slices, &mut notes),
            nodes: newest(&objects.nodes, &mut notes),
            node: objects.node,
            notes: Vec::new(),
        };
        let cluster_ips = cluster_ips(&objects.services);
        let read = |service| Service::read(service, options, &mut notes);
        let mut services: Vec<Service> =
            objects.services.iter().copied().filter_map(read).collect();
        services.sort_by(|a, b| a.seniority().cmp(&b.seniority()));

        let name = objects.node.metadata.name.as_deref().unwrap_or_default();
        let zone = objects.node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE));
        let place = Place { node: name, zone: zone.map(String::as_str) };
        let slices = Slices::new(&objects.slices);
        let mut made = Making { cluster_ips, ..Making::new(&objects, options, notes) };
        let backends: Vec<Backends> =
            services.iter().map(|service| made.backends(service, &slices, place)).collect();
        // Of two that claim one address and port, the safer kind is first: nobody takes another's cluster IP by an
        // external IP, which whoever may write a Service can give it (CVE-2020-8554).
        for kind in [Kind::ClusterIp, Kind::NodePort, Kind::Ingress, Kind::ExternalIp] {
            for (service, backends) in services.iter().zip(&backends) {
                made.claim(kind, service, backends);
            }
        }
        made.finish()
    }

    /// The plan that brings a table about, as it is now or empty, to have the rules.
    pub fn plan(&self, actual: &Ruleset, policy: &Policy) -> Plan {
        Plan::new(actual, &self.rules, policy)
    }

    /// The addresses that have services and are not for `kube-ipvs0`: those of this node's other interfaces, and of other
    /// Nodes.
    pub(crate) fn unbound(&self) -> BTreeSet<IpAddr> {
        let keys = self.rules.services().map(ServiceRules::key);
        let addresses = keys.filter_map(|key| Some(key.socket_address()?.ip()));
        addresses.filter(|address| !self.addresses.contains(address)).collect()
    }
}

/// By what kind of address a Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ClusterIp,
    NodePort,
    Ingress,
    ExternalIp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "cluster IP",
            Self::NodePort => "node port",
            Self::Ingress => "ingress",
            Self::ExternalIp => "external IP",
        })
    }
}

/// The endpoints of a Service, by frontend and by port, in the order in which it has them.
type Backends = Vec<Vec<Usable>>;

/// The result as it is being made.
struct Making<'a> {
    options: &'a Options,
    local: BTreeSet<IpAddr>,
    /// The addresses of all Nodes, those that are on no interface among them.
    known: BTreeMap<IpAddr, String>,
    rules: Ruleset,
    addresses: BTreeSet<IpAddr>,
    script: Script,
    health_checks: BTreeMap<u16, HealthCheck>,
    notes: Notes,
    refusals: Refusals,
    is_eligible: bool,
    /// Whose each virtual address and port is.
    owners: HashMap<ServiceKey, Owner>,
    /// Whose each cluster IP is, be it programmed here or by another proxy.
    cluster_ips: HashMap<IpAddr, ServiceName>,
}

/// A port of a Service; of those without names the number tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    service: ServiceName,
    port: String,
    number: u16,
}

/// What was not programmed, in as many notes as it has reasons: a Service may ask for each of its ports at each of its
/// addresses.
type Refusals = BTreeMap<Refusal, BTreeSet<(Protocol, u16)>>;

/// Why an address of a Service has not all of its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    service: ServiceName,
    kind: Kind,
    address: IpAddr,
    why: String,
}

impl Refusal {
    fn note(&self, ports: &BTreeSet<(Protocol, u16)>) -> String {
        let Self { kind, address, why, .. } = self;
        let mut listed = ports.iter().copied();
        if let (Some((protocol, port)), None) = (listed.next(), listed.next()) {
            let key = ServiceKey::at(protocol, SocketAddr::new(*address, port));
            return format!("{kind} {key} not programmed: {why}");
        }
        let mut listed: Vec<_> = ports
            .iter()
            .take(LISTED_PORTS)
            .map(|(protocol, port)| format!("{protocol} {port}"))
            .collect();
        if let Some(rest @ 1..) = ports.len().checked_sub(LISTED_PORTS) {
            listed.push(format!("{rest} more"));
        }
        format!("{kind} {address} ({}) not programmed: {why}", listed.join(", "))
    }
}

impl<'a> Making<'a> {
    fn new(objects: &Objects<'_>, options: &'a Options, mut notes: Notes) -> Self {
        let local = local_addresses(objects.node, options, &mut notes);
        let mut script = Script {
            mark: 1 << options.masquerade_bit,
            masquerade_all: options.masquerade_all,
            health_check_ports: BTreeSet::new(),
            v4: Sets::default(),
            v6: Sets::default(),
        };
        let pods = Network::without_covered(pod_networks(objects.node, options, &mut notes));
        for family in [Family::V4, Family::V6] {
            let sets = script.sets_mut(family);
            sets.pod_networks =
                pods.iter().copied().filter(|network| network.family() == family).collect();
            sets.node_addresses = local
                .iter()
                .copied()
                .filter(|address| Family::from(*address) == family)
                .filter(|address| {
                    options.has_node_ports(*address) && !options.is_excluded(*address)
                })
                .collect();
        }
        Self {
            options,
            local,
            known: known_addresses(&objects.nodes),
            rules: Ruleset::new(),
            addresses: BTreeSet::new(),
            script,
            health_checks: BTreeMap::new(),
            notes,
            refusals: Refusals::new(),
            is_eligible: !is_about_to_go(objects.node),
            owners: HashMap::new(),
            cluster_ips: HashMap::new(),
        }
    }

    /// Chooses the endpoints of a Service, and notes what goes with them: hairpins and the health check.
    fn backends(&mut self, service: &Service, slices: &Slices<'_>, place: Place<'_>) -> Backends {
        let mut local_and_ready = BTreeSet::new();
        let none = Endpoints::new();
        let mut backends = Vec::new();
        for frontend in &service.frontends {
            let by_port = slices.of(&service.name, frontend.family, place.node, &mut self.notes);
            let mut of_frontend = Vec::new();
            for port in &service.ports {
                let endpoints = by_port.get(&(port.name.clone(), port.protocol)).unwrap_or(&none);
                let hairpins = &mut self.script.sets_mut(frontend.family).hairpins;
                for (at, endpoint) in endpoints.iter().filter(|(_, endpoint)| endpoint.is_local) {
                    hairpins.insert((port.protocol, *at));
                    if endpoint.state == State::Ready {
                        local_and_ready.insert(at.ip());
                    }
                }
                of_frontend.push(Usable::choose(endpoints, place));
            }
            backends.push(of_frontend);
        }
        self.health_check(service, local_and_ready);
        backends
    }

    fn health_check(&mut self, service: &Service, local_endpoints: BTreeSet<IpAddr>) {
        let Some(port) = service.health_check_port else { return };
        if let Some(first) = self.health_checks.get(&port) {
            let owner = ServiceName::from(first);
            return self
                .notes
                .add(&service.name, format!("no health check: port {port} is that of {owner}"));
        }
        let name = service.name.clone();
        let check = HealthCheck { namespace: name.namespace, name: name.name, local_endpoints };
        self.health_checks.insert(port, check);
        self.script.health_check_ports.insert(port);
    }

    /// Programs a Service's addresses of one kind.
    fn claim(&mut self, kind: Kind, service: &Service, backends: &Backends) {
        for (frontend, usable) in service.frontends.iter().zip(backends) {
            for (port, usable) in service.ports.iter().zip(usable) {
                let asked = Asked { kind, service, frontend, port };
                let endpoints = self.endpoints(asked, usable);
                self.note_missing_node_addresses(asked);
                for (address, number) in self.claimed(asked) {
                    self.program(asked, SocketAddr::new(address, number), endpoints);
                }
            }
        }
    }

    fn note_missing_node_addresses(&mut self, Asked { kind, service, frontend, port }: Asked<'_>) {
        let family = frontend.family;
        if let (Kind::NodePort, Some(number)) = (kind, port.on_nodes)
            && self.script.sets(family).node_addresses.is_empty()
        {
            let why = self.why_no_node_ports(family);
            self.notes.add(&service.name, format!("node port {number} not programmed: {why}"));
        }
    }

    fn why_no_node_ports(&self, family: Family) -> String {
        let of_family = || self.local.iter().filter(|address| Family::from(**address) == family);
        if of_family().next().is_none() {
            format!("the node has no {family} address")
        } else if of_family().any(|address| self.options.has_node_ports(*address)) {
            format!("the node's {family} addresses for node ports are in excluded networks")
        } else {
            format!("the node has no {family} address in the networks for node ports")
        }
    }

    /// Where a Service is to be reached by one kind of address.
    fn claimed(&self, Asked { kind, frontend, port, .. }: Asked<'_>) -> Vec<(IpAddr, u16)> {
        let at = |addresses: &[IpAddr]| {
            addresses.iter().map(|address| (*address, port.number)).collect()
        };
        match (kind, port.on_nodes) {
            (Kind::ClusterIp, _) => at(&[frontend.cluster_ip]),
            (Kind::Ingress, _) => at(&frontend.ingress),
            (Kind::ExternalIp, _) => at(&frontend.external_ips),
            (Kind::NodePort, None) => Vec::new(),
            (Kind::NodePort, Some(number)) => {
                let addresses = &self.script.sets(frontend.family).node_addresses;
                addresses.iter().map(|address| (*address, number)).collect()
            }
        }
    }

    /// The endpoints that the policy of this kind of traffic uses.
    fn endpoints<'u>(&mut self, asked: Asked<'_>, usable: &'u Usable) -> &'u [SocketAddr] {
        let Asked { service, frontend, port, .. } = asked;
        if !asked.is_local() || !usable.local.is_empty() {
            return if asked.is_local() { &usable.local } else { &usable.cluster };
        }
        // kube-proxy does not look for others where the cluster IP is all there is.
        let falls_back = !self.options.strict_local && frontend.is_externally_accessible(port);
        let to = if falls_back { &*usable.cluster } else { &[] };
        if !usable.cluster.is_empty() && !self.claimed(asked).is_empty() {
            let (policy, family) = (asked.policy(), frontend.family);
            let what = match asked.kind {
                _ if !falls_back => "it is refused",
                Kind::ClusterIp => "it goes to those of other nodes",
                _ => {
                    "it goes to those of other nodes, whose replies find no client outside of the cluster"
                }
            };
            let number = port.number;
            self.notes.add(
                &service.name,
                format!("{policy} is Local and no endpoint for port {number} of {family} is on this node: {what}"),
            );
        }
        to
    }

    fn program(&mut self, asked: Asked<'_>, at: SocketAddr, endpoints: &[SocketAddr]) {
        let Asked { kind, service, frontend, port } = asked;
        let key = ServiceKey::at(port.protocol, at);
        let owner =
            Owner { service: service.name.clone(), port: port.name.clone(), number: port.number };
        let ranges = frontend.source_ranges.as_ref().filter(|_| kind == Kind::Ingress);
        let refusal = match self.owners.get(&key) {
            // An ingress is often given as an external IP, too.
            Some(first) if *first == owner => {
                // Who may come to an ingress counts where the Service has its address and port already, too.
                if ranges.is_some() {
                    self.restrict(asked, (port.protocol, at));
                }
                return;
            }
            Some(first) if first.service == service.name => {
                Some("another port of the Service has it already".to_owned())
            }
            Some(first) => Some(format!("it is {} already", first.service)),
            None if self.options.is_excluded(at.ip()) => {
                Some("its address is in an excluded network".to_owned())
            }
            None if kind != Kind::ClusterIp && self.is_anothers_cluster_ip(service, at.ip()) => {
                Some(format!("its address is the cluster IP of {}", self.cluster_ips[&at.ip()]))
            }
            None if ranges.is_some() && self.options.without_nft => {
                // It is not programmed as an external IP either.
                self.owners.insert(key, owner.clone());
                Some(NOT_ENFORCED.to_owned())
            }
            None => self.add_rules(service, key, endpoints).err().map(|error| error.to_string()),
        };
        if let Some(why) = refusal {
            return self.refuse(asked, (port.protocol, at), why);
        }
        self.owners.insert(key, owner);
        self.filter(asked, (port.protocol, at));
        if kind == Kind::NodePort {
            return;
        }
        let ip = at.ip();
        if let Some(why) = self.why_unbound(kind, ip) {
            self.notes.add(&service.name, format!("{kind} {ip} is not bound: {why}"));
        } else {
            self.addresses.insert(ip);
            self.script.sets_mut(frontend.family).bound.insert(ip);
        }
    }

    /// Why a virtual address is not for `kube-ipvs0`; `None` where it is.
    fn why_unbound(&self, kind: Kind, address: IpAddr) -> Option<String> {
        if kind == Kind::ClusterIp {
            // The API server gives each out once. A Node's status, which that Node writes, takes none away.
            return None;
        }
        if self.local.contains(&address) {
            return Some("another interface of the node has it".to_owned());
        }
        let node = self.known.get(&address)?;
        Some(format!("it is an address of Node {}", node.escape_debug()))
    }

    fn refuse(&mut self, asked: Asked<'_>, (protocol, at): (Protocol, SocketAddr), why: String) {
        let service = asked.service.name.clone();
        let refusal = Refusal { service, kind: asked.kind, address: at.ip(), why };
        self.refusals.entry(refusal).or_default().insert((protocol, at.port()));
    }

    fn is_anothers_cluster_ip(&self, service: &Service, address: IpAddr) -> bool {
        self.cluster_ips.get(&address).is_some_and(|owner| *owner != service.name)
    }

    fn add_rules(
        &mut self,
        service: &Service,
        key: ServiceKey,
        endpoints: &[SocketAddr],
    ) -> Result<(), Invalid> {
        let mut rule = Virtual::new(key).scheduler(service.scheduler);
        if let Some(affinity) = service.affinity {
            rule = rule.persistence(affinity);
        }
        self.rules.insert_service(rule)?;
        for endpoint in endpoints {
            let destination = Destination::masquerade(endpoint.ip(), endpoint.port());
            self.rules.insert_destination(key, destination)?;
        }
        Ok(())
    }

    /// Puts an address and port that was programmed into the sets that it belongs to.
    fn filter(&mut self, asked: Asked<'_>, target: (Protocol, SocketAddr)) {
        let sets = self.script.sets_mut(asked.frontend.family);
        let port = (target.0, target.1.port());
        match (asked.kind, asked.is_local()) {
            (Kind::ClusterIp, _) => sets.cluster_ips.insert(target),
            (Kind::NodePort, false) => sets.node_ports.insert(port),
            (Kind::NodePort, true) => sets.node_ports_local.insert(port),
            (Kind::Ingress | Kind::ExternalIp, false) => sets.external.insert(target),
            (Kind::Ingress | Kind::ExternalIp, true) => sets.external_local.insert(target),
        };
        if asked.kind == Kind::Ingress {
            self.restrict(asked, target);
        }
    }

    /// Lets those into an ingress alone that may come. Where nothing enforces it, the ingress goes.
    fn restrict(&mut self, asked: Asked<'_>, target: (Protocol, SocketAddr)) {
        let Asked { frontend, .. } = asked;
        let Some(ranges) = &frontend.source_ranges else { return };
        if self.options.without_nft {
            self.rules.remove_service(ServiceKey::at(target.0, target.1));
            return self.refuse(asked, target, NOT_ENFORCED.to_owned());
        }
        let is_allowed = |address: &IpAddr| ranges.iter().any(|range| range.contains(*address));
        let refuses_node = !self.local.iter().any(is_allowed);
        let sets = self.script.sets_mut(frontend.family);
        sets.restricted.insert(target, Arc::clone(ranges));
        if refuses_node {
            sets.refused_to_node.insert(target);
        }
    }

    /// Says of which cluster IPs clients outside of the pod network get no reply.
    fn note_unknown_pod_networks(&mut self) {
        if self.options.masquerade_all || self.options.without_nft {
            return;
        }
        for family in [Family::V4, Family::V6] {
            let sets = self.script.sets(family);
            if sets.pod_networks.is_empty() && !sets.cluster_ips.is_empty() {
                self.notes.add(
                    "The node",
                    format!(
                        "the networks of pods of {family} are not known, and no traffic from outside of them to cluster \
                         IPs is masqueraded: name them with --pod-network"
                    ),
                );
            }
        }
    }

    /// Says where pods of the node are outside of the networks of pods, as some network plugins place them. Those of the
    /// host's network are at addresses of a Node.
    fn note_pods_elsewhere(&mut self) {
        if self.options.masquerade_all || self.options.without_nft {
            return;
        }
        for family in [Family::V4, Family::V6] {
            let sets = self.script.sets(family);
            let networks = &sets.pod_networks;
            let is_known = |address: &IpAddr| {
                let is_pods = networks.iter().any(|network| network.contains(*address));
                is_pods || self.local.contains(address) || self.known.contains_key(address)
            };
            let endpoints = sets.hairpins.iter().map(|(_, at)| at.ip());
            let elsewhere: BTreeSet<_> = endpoints.filter(|address| !is_known(address)).collect();
            let Some(first) = elsewhere.first().filter(|_| !networks.is_empty()) else { continue };
            let networks = networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let more = match elsewhere.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            let text = format!(
                "endpoints on it are outside of the networks of pods ({networks}): {first}{more}. Connections of such pods \
                 to cluster IPs are masqueraded: name all networks of the cluster's pods with --pod-network"
            );
            self.notes.add("The node", text);
        }
    }

    /// Leaves out health checks whose port IPVS takes.
    fn leave_out_taken_health_checks(&mut self) {
        for (port, check) in std::mem::take(&mut self.health_checks) {
            let at = |address: &IpAddr| ServiceKey::at(Protocol::TCP, (*address, port).into());
            let taken = self.local.iter().find_map(|address| self.owners.get(&at(address)));
            if let Some(owner) = taken {
                let why = format!(
                    "port {port} of the node is that of {}, which answers there",
                    owner.service
                );
                self.notes.add(ServiceName::from(&check), format!("no health check: {why}"));
                self.script.health_check_ports.remove(&port);
            } else {
                self.health_checks.insert(port, check);
            }
        }
    }

    fn finish(mut self) -> Desired {
        self.note_unknown_pod_networks();
        self.note_pods_elsewhere();
        self.leave_out_taken_health_checks();
        for (refusal, ports) in &self.refusals {
            self.notes.add(&refusal.service, refusal.note(ports));
        }
        if self.options.without_nft && !self.addresses.is_empty() {
            self.notes.add(
                "The node",
                "without nft its own ports answer at every address of kube-ipvs0, and no traffic is masqueraded",
            );
        }
        Desired {
            rules: self.rules,
            addresses: self.addresses,
            nft: (!self.options.without_nft).then_some(self.script),
            health_checks: self.health_checks,
            notes: self.notes.into_sorted(),
            is_eligible: self.is_eligible,
        }
    }
}

/// A Node that is deleted, or that the autoscaler is about to delete.
fn is_about_to_go(node: &api::Node) -> bool {
    let taints = node.spec.iter().filter_map(|spec| spec.taints.as_ref()).flatten();
    node.metadata.deletion_timestamp.is_some()
        || taints.into_iter().any(|taint| taint.key == LEAVING)
}

fn cluster_ips(services: &[&api::Service]) -> HashMap<IpAddr, ServiceName> {
    let mut owners = HashMap::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        for text in spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip) {
            if let Ok(address) = parse_address(text) {
                let name = ServiceName::of(&service.metadata);
                let owner = owners.entry(address).or_insert_with(|| name.clone());
                // The order of the Services decides nothing.
                if name < *owner {
                    *owner = name;
                }
            }
        }
    }
    owners
}

/// One kind of address of one port of a Service, in one family.
#[derive(Clone, Copy)]
struct Asked<'a> {
    kind: Kind,
    service: &'a Service,
    frontend: &'a Frontend,
    port: &'a Port,
}

impl Asked<'_> {
    /// Whether its traffic stays on the node.
    fn is_local(&self) -> bool {
        match self.kind {
            Kind::ClusterIp => self.service.internal_local,
            Kind::NodePort | Kind::Ingress | Kind::ExternalIp => self.service.external_local,
        }
    }

    fn policy(&self) -> &'static str {
        match self.kind {
            Kind::ClusterIp => "internalTrafficPolicy",
            Kind::NodePort | Kind::Ingress | Kind::ExternalIp => "externalTrafficPolicy",
        }
    }
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "== Addresses of kube-ipvs0: {}", self.addresses.len())?;
        for address in &self.addresses {
            writeln!(f, "{address}")?;
        }
        writeln!(f, "\n== Health checks: {}", self.health_checks.len())?;
        for (port, check) in &self.health_checks {
            writeln!(f, "port {port}: {check}")?;
        }
        if let Some(script) = &self.nft {
            write!(f, "\n== nft -f\n{script}")?;
        }
        writeln!(f, "\n== Notes: {}", self.notes.len())?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}
